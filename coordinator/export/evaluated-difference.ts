/** How far the outputs of a bundle are from what evaluation predicted for the same rows. */

import { at, spanAt } from '../../shared/base/arrays.js';
import type { BundleServing } from '../../shared/bundle/bundle-manifest.js';
import { labelOf } from '../../shared/tasks/task-label.js';
import type { TaskStore } from '../../shared/tasks/task-store.js';
import type { TestLogits } from '../scoring/test-logits.js';
import type { MeasuredAdgroup } from './measured-rows.js';
import { servedBlocksOf } from './serving-choice.js';

interface Compared {
  readonly store: TaskStore;
  readonly serving: readonly BundleServing[];
  /** By label; null where there was no evaluation. */
  readonly testLogits: readonly (TestLogits | null)[];
}

/**
 * The largest difference over measured test adgroups; null if none of them was evaluated.
 *
 * @param outputs of all query rows of each adgroup, with blocks as they adapted on support rows.
 */
export function evaluatedDifference(
  { store, serving, testLogits }: Compared,
  adgroups: readonly MeasuredAdgroup[],
  outputs: readonly Float32Array[],
): number | null {
  const placesByLabel = testLogits.map(
    (found) => new Map((found?.taskKeys ?? []).map((key, place) => [key, place])),
  );
  let difference: number | null = null;
  for (const [index, { task }] of adgroups.entries()) {
    const { key, supportRowCount, labelIndex = 0 } = at(store.tasks, task.taskIndex);
    const place = at(placesByLabel, labelIndex).get(key);
    const found = at(testLogits, labelIndex);
    if (place === undefined || found === null) continue;
    const arms =
      servedBlocksOf(at(serving, labelIndex), supportRowCount) === 'adapted'
        ? ['meta-adapted']
        : ['meta-unadapted', 'global'];
    const logits = arms.map((arm) => found.logits.get(arm)).find((each) => each !== undefined);
    if (logits === undefined) continue;
    const label = labelOf(store.manifest, { labelIndex });
    const inOwnUnit = (output: number): number =>
      label.loss === 'squared' ? label.mean + label.deviation * output : output;
    const [start, end] = spanAt(found.rows.starts, place);
    const evaluated = logits.subarray(start, end);
    for (const [row, output] of at(outputs, index).entries())
      difference = Math.max(difference ?? 0, Math.abs(inOwnUnit(output) - at(evaluated, row)));
  }
  return difference;
}
