/** Arms of a cell on the same test rows: logloss and AUC, and differences on the same bootstrap draws of tasks. */

import { at, float64At, numberAt } from '../../../shared/base/arrays.js';
import { softplus } from '../../../shared/base/logistic.js';
import { randomStream } from '../../../shared/base/random.js';
import { bootstrapIntervals, auc, sumOf } from '../../../coordinator/scoring/metrics.js';
import type { Interval } from '../../../coordinator/scoring/evaluation-report.js';
import type { TestRows } from './cell-files.js';

const SAMPLES = 2000;
const CONFIDENCE = 0.95;

export interface ScoredArm {
  /** The mean over impressions, in nats. */
  readonly logloss: number;
  readonly auc: number | null;
  /** By task: the sum over its rows. */
  readonly taskLosses: Float64Array;
}

export function scoredArm(logits: Float64Array, test: TestRows): ScoredArm {
  const taskLosses = new Float64Array(test.taskCount);
  for (const [row, z] of logits.entries()) {
    const task = at(test.tasks, row);
    const loss = numberAt(test.impressions, row) * softplus(z) - numberAt(test.clicks, row) * z;
    taskLosses[task] = float64At(taskLosses, task) + loss;
  }
  return {
    logloss: sumOf(taskLosses) / sumOf(test.impressions),
    auc: auc(logits, test),
    taskLosses,
  };
}

/** The logloss of one arm minus that of the other; below 0, the one is better. */
export function pairedDifference(
  one: ScoredArm,
  other: ScoredArm,
  test: TestRows,
  seed: number,
): Interval {
  const shown = new Float64Array(test.taskCount);
  for (const [row, task] of test.tasks.entries())
    shown[task] = float64At(shown, task) + numberAt(test.impressions, row);
  const [interval] = bootstrapIntervals(
    [one.taskLosses, other.taskLosses, shown],
    [([a = NaN, b = NaN, impressions = NaN]) => (a - b) / impressions],
    { samples: SAMPLES, confidence: CONFIDENCE, stream: randomStream(seed, 'real bench') },
  );
  if (interval === undefined || interval === null) throw new Error('the arms have no finite loss');
  return interval;
}
