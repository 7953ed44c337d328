/** Joins the scores of the same adgroups on several sets of rows, by adgroup. */

import { at, spanAt } from '../../shared/base/arrays.js';
import type { ArmName } from '../../shared/config/arms.js';
import type { ScoredRows } from './score-arms.js';

export type ScoredTasks = ScoredRows & { readonly taskIndices: readonly number[] };

/**
 * Puts the rows that an adgroup has in all parts end to end, in the order of the parts. Adgroups
 * are sorted by index.
 */
export function joinByAdgroup(parts: readonly ScoredTasks[]): ScoredTasks {
  const taskIndices = [...new Set(parts.flatMap((part) => part.taskIndices))].sort((a, b) => a - b);
  const label = parts[0]?.rows.label;
  const arms = [...(parts[0]?.logits.keys() ?? [])];
  const clicks: number[] = [];
  const impressions: number[] = [];
  const logits = new Map<ArmName, number[]>(arms.map((arm) => [arm, []]));
  const starts = [0];
  const positions = parts.map(
    (part) => new Map(part.taskIndices.map((task, position) => [task, position])),
  );
  for (const taskIndex of taskIndices) {
    for (const [index, part] of parts.entries()) {
      const position = at(positions, index).get(taskIndex);
      if (position === undefined) continue;
      const [start, end] = spanAt(part.rows.starts, position);
      clicks.push(...part.rows.clicks.subarray(start, end));
      impressions.push(...part.rows.impressions.subarray(start, end));
      for (const [arm, joined] of logits) joined.push(...logitsOf(part, arm).subarray(start, end));
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

function logitsOf({ logits }: ScoredTasks, arm: ArmName): Float32Array {
  const found = logits.get(arm);
  if (found === undefined) throw new Error(`a part was not scored with the arm ${arm}`);
  return found;
}
