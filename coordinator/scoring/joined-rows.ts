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
  const positions = parts.map(
    (part) => new Map(part.taskIndices.map((task, position) => [task, position])),
  );
  const pieces: { readonly part: ScoredTasks; readonly span: readonly [number, number] }[] = [];
  const starts = [0];
  let rowCount = 0;
  for (const taskIndex of taskIndices) {
    for (const [index, part] of parts.entries()) {
      const position = at(positions, index).get(taskIndex);
      if (position === undefined) continue;
      const span = spanAt(part.rows.starts, position);
      pieces.push({ part, span });
      rowCount += span[1] - span[0];
    }
    starts.push(rowCount);
  }
  const joined = (valuesOf: (part: ScoredTasks) => Float32Array): Float32Array => {
    const whole = new Float32Array(rowCount);
    let end = 0;
    for (const { part, span } of pieces) {
      const values = valuesOf(part).subarray(...span);
      whole.set(values, end);
      end += values.length;
    }
    return whole;
  };
  return {
    taskIndices,
    supportRowCounts: taskIndices.map(() => 0),
    rows: {
      ...(label === undefined ? {} : { label }),
      starts: Int32Array.from(starts),
      clicks: joined(({ rows }) => rows.clicks),
      impressions: joined(({ rows }) => rows.impressions),
    },
    logits: new Map(arms.map((arm) => [arm, joined((part) => logitsOf(part, arm))])),
  };
}

function logitsOf({ logits }: ScoredTasks, arm: ArmName): Float32Array {
  const found = logits.get(arm);
  if (found === undefined) throw new Error(`a part was not scored with the arm ${arm}`);
  return found;
}
