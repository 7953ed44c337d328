/**
 * Progressive validation (Blum, Kalai and Langford, COLT 1999). Every row is predicted from the rows
 * before it, and only then learned. So each row is a test row once.
 */

import { float64At, uint8At } from '../../shared/base/arrays.js';
import {
  loglossOf,
  rowCountOf,
  type StreamLearner,
  type StreamRows,
} from '../../shared/streaming/stream-rows.js';

/**
 * Lets other work of the process go on between two parts of a long computation; may throw to stop it.
 */
export type Pause = () => Promise<void>;
export const NO_PAUSE: Pause = () => Promise.resolve();

interface ProgressSpan {
  readonly from: number;
  readonly to: number;
}

/** Logits of rows `from` to `to`, each given before its row was learned. */
export function progressiveLogits(
  learner: StreamLearner,
  rows: StreamRows,
  batchRows: number,
  { from, to }: ProgressSpan = { from: 0, to: rowCountOf(rows) },
): Float64Array {
  const logits = new Float64Array(to - from);
  for (let start = from; start < to; start += batchRows) {
    const end = Math.min(to, start + batchRows);
    const batch = logits.subarray(start - from, end - from);
    learner.predict(rows, start, end, batch);
    learner.learn(rows, start, end, batch);
  }
  return logits;
}

/** Mean logloss in nats of rows `from` to `to`, whose logits begin at `logits[0]`. */
export function meanLogloss(logits: Float64Array, rows: StreamRows, span: ProgressSpan): number {
  let sum = 0;
  for (let row = span.from; row < span.to; row += 1)
    sum += loglossOf(float64At(logits, row - span.from), uint8At(rows.clicks, row));
  return sum / (span.to - span.from);
}
