/**
 * Minibatches of the support rows: of `batchCount`, step s sees every row r with
 * r mod batchCount = s mod batchCount, its shares over their sum. A task that has none of them stands
 * still in that step.
 */

import type * as tfjs from '@tensorflow/tfjs';
import type { InnerLoop } from '../../../shared/methods/inner-loop/inner-loop.js';
import type { TrunkPass } from '../models/staged-pass.js';
import type { RowsWithTrunk } from './passes.js';

/** The support rows that a step sees. */
export function supportBatchOf(
  support: RowsWithTrunk,
  batchCount: number,
  stepIndex: number,
): RowsWithTrunk {
  if (batchCount === 1) return support;
  const { pass, trunk } = support;
  const { tf } = pass.job.engine;
  const place = stepIndex % batchCount;
  /** `[taskCount, rowExtent, ...]`, whose row extent is a multiple of every number of batches. */
  const rowsOf = <T extends tfjs.Tensor>(x: T): T => {
    const [taskCount = 0, rowExtent = 0, ...rest] = x.shape;
    const count = rowExtent / batchCount;
    const zeros = rest.map(() => 0);
    const grouped = tf.reshape(x, [taskCount, count, batchCount, ...rest]);
    const chosen = tf.slice(grouped, [0, 0, place, ...zeros], [taskCount, count, 1, ...rest]);
    return tf.reshape(chosen, [taskCount, count, ...rest]) as T;
  };
  const { impressionShares, clickShares, squared } = pass.data;
  const total = tf.sum(rowsOf(impressionShares), 1, true);
  const sharesOf = (x: tfjs.Tensor2D): tfjs.Tensor2D => tf.divNoNan(rowsOf(x), total);
  const data = {
    ...pass.data,
    impressionShares: sharesOf(impressionShares),
    clickShares: sharesOf(clickShares),
    ...(squared === undefined
      ? {}
      : {
          squared: {
            impressionShares: sharesOf(squared.impressionShares),
            constants: sharesOf(squared.constants),
          },
        }),
  };
  // Every part of a trunk pass lies by rows.
  const parts: TrunkPass = Object.fromEntries(
    Object.entries(trunk).map(([name, part]) => [name, rowsOf(part)]),
  );
  return { pass: { ...pass, data }, trunk: parts };
}

/** The lowest step that computes what this one does, so that steps alike are captured once. */
export function stepPlaceOf({ steps, step }: InnerLoop, stepIndex: number): number {
  const { count, supportBatches } = steps;
  const last = count - 1;
  if (step?.differsByStep !== true) return stepIndex % supportBatches;
  return stepIndex <= last ? stepIndex : last + ((stepIndex - last) % supportBatches);
}
