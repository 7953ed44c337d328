/**
 * Rows of a time-ordered stream of sparse binary features, and the batches that every update rule
 * works on. A feature is one value of one slot (a column, or several crossed); its number is
 * its index in all arrays by feature.
 */

import { float64At, int32At } from '../base/arrays.js';
import { softplus } from '../base/logistic.js';

export interface StreamRows {
  readonly slotCount: number;
  readonly featureCount: number;
  /** `[featureCount]` */
  readonly slotOfFeature: Uint8Array;
  /** `[rowCount + 1]`: the features of row i are `features[rowStarts[i] .. rowStarts[i + 1]]`. */
  readonly rowStarts: Int32Array;
  readonly features: Int32Array;
  /** `[rowCount]`, 0 or 1 */
  readonly clicks: Uint8Array;
  /** `[rowCount]`, in days from the first row; never decreases. */
  readonly times: Float64Array;
}

/** Learns a stream batch by batch. A whole batch is predicted before it is learned. */
export interface StreamLearner {
  /** Writes the logits of rows `from` to `to` (exclusive) into `logits[0 ..]`; changes no state. */
  predict(rows: StreamRows, from: number, to: number, logits: Float64Array): void;
  /** Learns the same rows, whose logits `predict` has just given. */
  learn(rows: StreamRows, from: number, to: number, logits: Float64Array): void;
}

export function rowCountOf(rows: StreamRows): number {
  return rows.clicks.length;
}

/** The distinct features of a batch in order of first occurrence, each with its sums. */
interface BatchFeatures {
  readonly count: number;
  /** At least `[count]`. Values beyond are left over from earlier batches. */
  readonly features: Int32Array;
  /** Place of a feature of this batch in `features`. */
  placeOf(feature: number): number;
}

/** Finds the distinct features of one batch after another, without clearing in between. */
export class BatchFeatureIndex implements BatchFeatures {
  count = 0;
  features = new Int32Array(64);
  /**
   * Place plus the number of distinct features of all earlier batches, so that older marks are
   * smaller.
   */
  readonly #marks: Float64Array;
  #marksBefore = 1;

  constructor(featureCount: number) {
    this.#marks = new Float64Array(featureCount);
  }

  placeOf(feature: number): number {
    return float64At(this.#marks, feature) - this.#marksBefore;
  }

  index(rows: StreamRows, from: number, to: number): void {
    this.#marksBefore += this.count;
    this.count = 0;
    const start = int32At(rows.rowStarts, from);
    const end = int32At(rows.rowStarts, to);
    if (this.features.length < end - start) this.features = new Int32Array(2 * (end - start));
    for (let at = start; at < end; at += 1) {
      const feature = int32At(rows.features, at);
      if (float64At(this.#marks, feature) >= this.#marksBefore) continue;
      this.#marks[feature] = this.#marksBefore + this.count;
      this.features[this.count] = feature;
      this.count += 1;
    }
  }
}

/** A buffer of at least `length`: the given one if it is long enough. */
export function roomFor(
  buffer: Float64Array<ArrayBuffer>,
  length: number,
): Float64Array<ArrayBuffer> {
  return buffer.length >= length ? buffer : new Float64Array(2 * length);
}

/** Logloss of one row, in nats. */
export function loglossOf(logit: number, click: number): number {
  return softplus(logit) - click * logit;
}
