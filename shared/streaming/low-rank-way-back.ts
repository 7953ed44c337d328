/**
 * The low-rank part of the meta-gradient: adjoints of z, M, and the slots' gains. In the notation of
 * `window-pair-gradient.ts`: u = sum c P over a row, d = sum u r over a batch, z' = z~ - M d.
 */

import { float32At, float64At, int32At, uint8At } from '../base/arrays.js';
import type { LearnedRule } from './learned-update.js';
import {
  layoutOf,
  MIXING_SCALE,
  mixingMatrix,
  type LearnedRuleLayout,
} from './learned-update-parameters.js';
import type { BatchRecord, RuleTape } from './rule-tape.js';
import type { StreamRows } from './stream-rows.js';
import { sigmoid } from '../base/logistic.js';

export class LowRankWayBack {
  readonly #rule: LearnedRule;
  readonly #rows: StreamRows;
  readonly #tape: RuleTape;
  readonly #layout: LearnedRuleLayout;
  readonly #gradient: Float64Array;
  readonly #rank: number;
  /** M and _M, `[rank, rank]` each. */
  readonly #mixing: Float64Array;
  readonly #mixingAdjoint: Float64Array;
  /** _z as it stands before later batches, `[rank]`. */
  readonly #shared: Float64Array;
  /** For the batch: z~, _z~, d and _d, `[rank]` each. */
  readonly #sharedNow: Float64Array;
  readonly #sharedNowAdjoint: Float64Array;
  readonly #direction: Float64Array;
  readonly #directionAdjoint: Float64Array;
  /** For a row: u and _u, `[rank]` each. */
  readonly #embedded: Float64Array;
  readonly #embeddedAdjoint: Float64Array;
  #kept = 1;

  /** Adds to `gradient`, the gradient of all of phi. */
  constructor(rule: LearnedRule, rows: StreamRows, tape: RuleTape, gradient: Float64Array) {
    const { rank } = rule.shape;
    this.#rule = rule;
    this.#rows = rows;
    this.#tape = tape;
    this.#layout = layoutOf(rule.shape);
    this.#gradient = gradient;
    this.#rank = rank;
    this.#mixing = mixingMatrix(rule.parameters, this.#layout);
    this.#mixingAdjoint = new Float64Array(rank * rank);
    this.#shared = new Float64Array(rank);
    this.#sharedNow = new Float64Array(rank);
    this.#sharedNowAdjoint = new Float64Array(rank);
    this.#direction = new Float64Array(rank);
    this.#directionAdjoint = new Float64Array(rank);
    this.#embedded = new Float64Array(rank);
    this.#embeddedAdjoint = new Float64Array(rank);
  }

  /** Computes z~ and, if the batch took a step, the way back through it to _M, _d and _z~. */
  open(batch: BatchRecord, batchIndex: number): void {
    const rank = this.#rank;
    const rate = Math.exp(float64At(this.#rule.parameters, this.#layout.sharedDecay));
    this.#kept = Math.exp(-rate * (batch.time - batch.sharedTime));
    for (let axis = 0; axis < rank; axis += 1)
      this.#sharedNow[axis] = this.#kept * float64At(this.#tape.shared, batchIndex * rank + axis);
    this.#directionAdjoint.fill(0);
    this.#sharedNowAdjoint.fill(0);
    if (!batch.learned || rank === 0) return;
    this.#sumDirection(batch);
    for (let axis = 0; axis < rank; axis += 1) {
      const adjoint = float64At(this.#shared, axis);
      this.#sharedNowAdjoint[axis] = adjoint;
      for (let other = 0; other < rank; other += 1) {
        const at = axis * rank + other;
        this.#mixingAdjoint[at] =
          float64At(this.#mixingAdjoint, at) - adjoint * float64At(this.#direction, other);
        this.#directionAdjoint[other] =
          float64At(this.#directionAdjoint, other) - adjoint * float64At(this.#mixing, at);
      }
    }
  }

  #sumDirection(batch: BatchRecord): void {
    this.#direction.fill(0);
    for (let row = batch.from; row < batch.to; row += 1) {
      const residual = sigmoid(float64At(this.#tape.logits, row)) - uint8At(this.#rows.clicks, row);
      this.#embed(row);
      for (let axis = 0; axis < this.#rank; axis += 1)
        this.#direction[axis] =
          float64At(this.#direction, axis) + residual * float64At(this.#embedded, axis);
    }
  }

  #embed(row: number): void {
    this.#embedded.fill(0);
    const end = int32At(this.#rows.rowStarts, row + 1);
    for (let at = int32At(this.#rows.rowStarts, row); at < end; at += 1) {
      const feature = int32At(this.#rows.features, at);
      const slot = uint8At(this.#rows.slotOfFeature, feature);
      const gain = float64At(this.#rule.parameters, this.#layout.embeddingGain + slot);
      for (let axis = 0; axis < this.#rank; axis += 1)
        this.#embedded[axis] =
          float64At(this.#embedded, axis) +
          gain * float32At(this.#rule.embedding, feature * this.#rank + axis);
    }
  }

  /** Computes `u _d`, the adjoint of a row's residual. Embeds the row for `throughRow`. */
  residualAdjoint(row: number): number {
    if (this.#rank === 0) return 0;
    this.#embed(row);
    let sum = 0;
    for (let axis = 0; axis < this.#rank; axis += 1)
      sum += float64At(this.#embedded, axis) * float64At(this.#directionAdjoint, axis);
    return sum;
  }

  /** `_z~ += u _logit` and `_u = r _d + z~ _logit` of the row that was embedded last, to the gains. */
  throughRow(row: number, residual: number, logitAdjoint: number): void {
    if (this.#rank === 0) return;
    for (let axis = 0; axis < this.#rank; axis += 1) {
      this.#sharedNowAdjoint[axis] =
        float64At(this.#sharedNowAdjoint, axis) + float64At(this.#embedded, axis) * logitAdjoint;
      this.#embeddedAdjoint[axis] =
        residual * float64At(this.#directionAdjoint, axis) +
        float64At(this.#sharedNow, axis) * logitAdjoint;
    }
    const end = int32At(this.#rows.rowStarts, row + 1);
    for (let at = int32At(this.#rows.rowStarts, row); at < end; at += 1) {
      const feature = int32At(this.#rows.features, at);
      let sum = 0;
      for (let axis = 0; axis < this.#rank; axis += 1)
        sum +=
          float64At(this.#embeddedAdjoint, axis) *
          float32At(this.#rule.embedding, feature * this.#rank + axis);
      this.#add(this.#layout.embeddingGain + uint8At(this.#rows.slotOfFeature, feature), sum);
    }
  }

  /** From _z~ to _z before the batch and to its decay. */
  close(batch: BatchRecord, batchIndex: number): void {
    const rate = Math.exp(float64At(this.#rule.parameters, this.#layout.sharedDecay));
    const byRate = -(batch.time - batch.sharedTime) * this.#kept * rate;
    for (let axis = 0; axis < this.#rank; axis += 1) {
      const adjoint = float64At(this.#sharedNowAdjoint, axis);
      const before = float64At(this.#tape.shared, batchIndex * this.#rank + axis);
      this.#add(this.#layout.sharedDecay, byRate * before * adjoint);
      const held = batch.learned ? 0 : float64At(this.#shared, axis);
      this.#shared[axis] = held + this.#kept * adjoint;
    }
  }

  /** After the first batch: `M = scale F F^T` gives `_F = scale (_M + _M^T) F`. */
  finish(): void {
    const rank = this.#rank;
    const { mixing } = this.#layout;
    for (let i = 0; i < rank; i += 1)
      for (let j = 0; j < rank; j += 1) {
        const adjoint =
          float64At(this.#mixingAdjoint, i * rank + j) +
          float64At(this.#mixingAdjoint, j * rank + i);
        for (let k = 0; k < rank; k += 1) {
          const factor = float64At(this.#rule.parameters, mixing + j * rank + k);
          this.#add(mixing + i * rank + k, MIXING_SCALE * adjoint * factor);
        }
      }
  }

  #add(at: number, value: number): void {
    this.#gradient[at] = float64At(this.#gradient, at) + value;
  }
}
