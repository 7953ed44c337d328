/** Scores of the same adgroups on one set of rows after another, joined by adgroup. */

import type { ArmName } from '../../shared/config/arms.js';
import type { ScoredRows } from './score-arms.js';

export type ScoredTasks = ScoredRows & { readonly taskIndices: readonly number[] };

/** An adgroup's rows of all parts end to end, in order of the parts; adgroups by index. */
export function joinByAdgroup(parts: readonly ScoredTasks[]): ScoredTasks {
  const taskIndices = [...new Set(parts.flatMap((part) => part.taskIndices))].sort((a, b) => a - b);
  const label = parts[0]?.rows.label;
  const arms = [...(parts[0]?.logits.keys() ?? [])];
  const clicks: number[] = [];
  const impressions: number[] = [];
  const logits = new Map<ArmName, number[]>(arms.map((arm) => [arm, []]));
  const starts = [0];
  const positions = parts.map((part) => new Map(part.taskIndices.map((task, at) => [task, at])));
  for (const taskIndex of taskIndices) {
    for (const [index, part] of parts.entries()) {
      const at = positions[index]?.get(taskIndex);
      if (at === undefined) continue;
      const [start, end] = [part.rows.starts[at] ?? 0, part.rows.starts[at + 1] ?? 0];
      for (let row = start; row < end; row += 1) {
        clicks.push(part.rows.clicks[row] ?? 0);
        impressions.push(part.rows.impressions[row] ?? 0);
        for (const arm of arms) logits.get(arm)?.push(part.logits.get(arm)?.[row] ?? NaN);
      }
    }
    starts.push(clicks.length);
  }
  return {
    taskIndices,
    supportRowCounts: taskIndices.map(() => 0),
    rows: {
      ...(label === undefined ? {} : { label }),
      starts: Int32Array.from(starts),
      clicks: Float32Array.from(clicks),
      impressions: Float32Array.from(impressions),
    },
    logits: new Map([...logits].map(([arm, values]) => [arm, Float32Array.from(values)])),
  };
}
