/**
 * The meta-gradient of the learned rule: d (logloss of the new window) / d phi, exact through every
 * step that the rule takes in the old window, and in the new one if it continues to learn there.
 *
 * For one batch, with w~ and n~ the weight and evidence of a feature at the batch's time, r the residual
 * p - y of a row, g = sum r, s = s_phi(slot, n~, age), u = sum c P over a row, d = sum u r:
 *
 *   logit = sum w~ + u z~      w' = w~ - s g      n' = n~ + sum 4 p (1 - p)      z' = z~ - M d
 *
 * and adjoints (written `_x`) go back by
 *
 *   _s = -g _w'                   _log s = s _s, to the knots and, by their slope, to _n~
 *   _d = -M^T _z'                 _M = -_z' d^T
 *   _r = sum_j (-s_j _w'_j) + u _d
 *   _logit = p (1 - p) _r + 4 p (1 - p) (1 - 2 p) sum_j _n'_j + (p - y where the row is judged)
 *   _w~ = _w' + sum _logit        _z~ = _z' + sum u _logit        _u = r _d + z~ _logit
 *
 * then through the decays w~ = v + (w - v) e^(-rate age), n~ = n e^(-rate age), z~ = z e^(-rate age).
 * A job computes this for some pairs. It is a pure function of pair and phi, in float64, in row order.
 */

import { float64At, int32At, uint8At } from '../base/arrays.js';
import {
  agePlace,
  evidenceOf,
  evidencePlace,
  STATE_WIDTH,
  stepSizeOf,
  UNTOUCHED,
  type KnotPlace,
  type LearnedRule,
  type StepSize,
} from './learned-update.js';
import {
  AGE_KNOT_COUNT,
  EVIDENCE_KNOT_COUNT,
  layoutOf,
  type LearnedRuleLayout,
} from './learned-update-parameters.js';
import { LowRankWayBack } from './low-rank-way-back.js';
import type { LearnedRuleShape, PairSettings } from './rule-settings.js';
import { recordPair, type BatchRecord, type RuleTape, type WindowPair } from './rule-tape.js';
import { BatchFeatureIndex, roomFor, rowCountOf, type StreamRows } from './stream-rows.js';
import { sigmoid } from '../base/logistic.js';

export interface PairGradient {
  /** Logloss summed over the new window's rows, in nats. */
  readonly lossSum: number;
  readonly judgedRowCount: number;
  /** d lossSum / d phi */
  readonly gradient: Float64Array;
}

export function windowPairGradient(
  shape: LearnedRuleShape,
  parameters: Float64Array,
  pair: WindowPair,
  settings: PairSettings,
): PairGradient {
  const rule: LearnedRule = { shape, parameters, embedding: pair.embedding };
  const tape = recordPair(rule, pair, settings);
  const wayBack = new WayBack(rule, pair.rows, tape);
  for (let batch = tape.batches.length - 1; batch >= 0; batch -= 1) wayBack.throughBatch(batch);
  return {
    lossSum: tape.lossSum,
    judgedRowCount: rowCountOf(pair.rows) - pair.oldRowCount,
    gradient: wayBack.finish(),
  };
}

class WayBack {
  readonly #rule: LearnedRule;
  readonly #rows: StreamRows;
  readonly #tape: RuleTape;
  readonly #layout: LearnedRuleLayout;
  readonly #stepSize: StepSize;
  readonly #gradient: Float64Array;
  readonly #lowRank: LowRankWayBack;
  readonly #index: BatchFeatureIndex;
  /** _w and _n of every feature before later batches. */
  readonly #weights: Float64Array;
  readonly #evidence: Float64Array;
  /** By place in the batch: g, -s _w', _n', and sum _logit. */
  #gradients = new Float64Array(0);
  #residualAdjoints = new Float64Array(0);
  #evidenceAdjoints = new Float64Array(0);
  #logitAdjoints = new Float64Array(0);

  constructor(rule: LearnedRule, rows: StreamRows, tape: RuleTape) {
    this.#rule = rule;
    this.#rows = rows;
    this.#tape = tape;
    this.#layout = layoutOf(rule.shape);
    this.#stepSize = stepSizeOf(rule.parameters, this.#layout);
    this.#gradient = new Float64Array(this.#layout.length);
    this.#lowRank = new LowRankWayBack(rule, rows, tape, this.#gradient);
    this.#index = new BatchFeatureIndex(rows.featureCount);
    this.#weights = new Float64Array(rows.featureCount);
    this.#evidence = new Float64Array(rows.featureCount);
  }

  throughBatch(batchIndex: number): void {
    const batch = this.#tape.batches[batchIndex];
    if (batch === undefined) throw new Error(`the tape has no batch ${batchIndex}`);
    this.#index.index(this.#rows, batch.from, batch.to);
    this.#clearPlaces(batch.count);
    this.#lowRank.open(batch, batchIndex);
    if (batch.learned) {
      this.#sumGradients(batch);
      for (let place = 0; place < batch.count; place += 1) this.#throughStep(batch, place);
    }
    for (let row = batch.from; row < batch.to; row += 1) this.#throughRow(batch, row);
    for (let place = 0; place < batch.count; place += 1) this.#throughDecay(batch, place);
    this.#lowRank.close(batch, batchIndex);
  }

  /** The gradient, which is complete after the first batch. */
  finish(): Float64Array {
    this.#lowRank.finish();
    return this.#gradient;
  }

  #clearPlaces(count: number): void {
    this.#gradients = roomFor(this.#gradients, count).fill(0, 0, count);
    this.#residualAdjoints = roomFor(this.#residualAdjoints, count).fill(0, 0, count);
    this.#evidenceAdjoints = roomFor(this.#evidenceAdjoints, count).fill(0, 0, count);
    this.#logitAdjoints = roomFor(this.#logitAdjoints, count).fill(0, 0, count);
  }

  /** g of every place. */
  #sumGradients(batch: BatchRecord): void {
    for (let row = batch.from; row < batch.to; row += 1) {
      const residual = sigmoid(float64At(this.#tape.logits, row)) - uint8At(this.#rows.clicks, row);
      const end = int32At(this.#rows.rowStarts, row + 1);
      for (let at = int32At(this.#rows.rowStarts, row); at < end; at += 1) {
        const place = this.#index.placeOf(int32At(this.#rows.features, at));
        this.#gradients[place] = float64At(this.#gradients, place) + residual;
      }
    }
  }

  /** `w' = w~ - s g` and `n' = n~ + ...` of one feature. Leaves _w~ and _n~ where _w' and _n' were. */
  #throughStep(batch: BatchRecord, place: number): void {
    const { feature, slot, age, evidenceKept, evidenceBefore } = this.#opened(batch, place);
    const evidence = evidenceBefore * evidenceKept;
    const step = this.#stepSize(slot, evidence, age);
    const weightAdjoint = float64At(this.#weights, feature);
    this.#residualAdjoints[place] = -step * weightAdjoint;
    this.#evidenceAdjoints[place] = float64At(this.#evidence, feature);
    const logStepAdjoint = -step * float64At(this.#gradients, place) * weightAdjoint;
    const knots = this.#layout.evidenceKnots + slot * EVIDENCE_KNOT_COUNT;
    const byEvidence = this.#throughKnots(knots, evidencePlace(evidence), logStepAdjoint);
    if (age !== null)
      this.#throughKnots(
        this.#layout.ageKnots + slot * AGE_KNOT_COUNT,
        agePlace(age),
        logStepAdjoint,
      );
    this.#evidence[feature] = float64At(this.#evidence, feature) + byEvidence;
  }

  /**
   * Distributes an adjoint to the two knots around a place. Returns the adjoint of the value
   * itself.
   */
  #throughKnots(start: number, place: KnotPlace, adjoint: number): number {
    const at = start + place.below;
    this.#add(at, (1 - place.share) * adjoint);
    this.#add(at + 1, place.share * adjoint);
    const rise = float64At(this.#rule.parameters, at + 1) - float64At(this.#rule.parameters, at);
    return adjoint * place.slope * rise;
  }

  #throughRow(batch: BatchRecord, row: number): void {
    const probability = sigmoid(float64At(this.#tape.logits, row));
    const residual = probability - uint8At(this.#rows.clicks, row);
    const start = int32At(this.#rows.rowStarts, row);
    const end = int32At(this.#rows.rowStarts, row + 1);
    let residualAdjoint = this.#lowRank.residualAdjoint(row);
    let evidenceAdjoint = 0;
    for (let at = start; at < end; at += 1) {
      const place = this.#index.placeOf(int32At(this.#rows.features, at));
      residualAdjoint += float64At(this.#residualAdjoints, place);
      evidenceAdjoint += float64At(this.#evidenceAdjoints, place);
    }
    const logitAdjoint =
      probability * (1 - probability) * residualAdjoint +
      evidenceOf(probability) * (1 - 2 * probability) * evidenceAdjoint +
      (batch.judged ? residual : 0);
    this.#lowRank.throughRow(row, residual, logitAdjoint);
    for (let at = start; at < end; at += 1) {
      const place = this.#index.placeOf(int32At(this.#rows.features, at));
      this.#logitAdjoints[place] = float64At(this.#logitAdjoints, place) + logitAdjoint;
    }
  }

  /** From _w~ and _n~ to _w and _n before the batch, to both decays and to where weights begin. */
  #throughDecay(batch: BatchRecord, place: number): void {
    const opened = this.#opened(batch, place);
    const { feature, slot, age, weightBefore, evidenceBefore, evidenceKept } = opened;
    const { initialWeight, weightDecay, evidenceDecay } = this.#layout;
    const passed = batch.learned ? float64At(this.#weights, feature) : 0;
    const adjoint = passed + float64At(this.#logitAdjoints, place);
    const held = batch.learned ? 0 : float64At(this.#weights, feature);
    if (age === null) {
      this.#add(initialWeight + slot, adjoint);
      this.#weights[feature] = held;
      if (batch.learned) this.#evidence[feature] = 0;
      return;
    }
    const rate = Math.exp(float64At(this.#rule.parameters, weightDecay + slot));
    const kept = Math.exp(-rate * age);
    const excess = weightBefore - float64At(this.#rule.parameters, initialWeight + slot);
    this.#add(initialWeight + slot, (1 - kept) * adjoint);
    this.#add(weightDecay + slot, -excess * kept * age * rate * adjoint);
    this.#weights[feature] = held + kept * adjoint;
    if (!batch.learned) return;
    const evidenceRate = Math.exp(float64At(this.#rule.parameters, evidenceDecay + slot));
    const evidenceAdjoint = float64At(this.#evidence, feature);
    const byRate = -evidenceBefore * evidenceKept * age * evidenceRate;
    this.#add(evidenceDecay + slot, byRate * evidenceAdjoint);
    this.#evidence[feature] = evidenceKept * evidenceAdjoint;
  }

  /** A feature of the batch in its state before the batch. */
  #opened(batch: BatchRecord, place: number): OpenedFeature {
    const feature = int32At(this.#tape.features, batch.start + place);
    const slot = uint8At(this.#rows.slotOfFeature, feature);
    const at = (batch.start + place) * STATE_WIDTH;
    const touched = float64At(this.#tape.states, at + 2);
    const age = touched === UNTOUCHED ? null : batch.time - touched;
    const rate = Math.exp(float64At(this.#rule.parameters, this.#layout.evidenceDecay + slot));
    return {
      feature,
      slot,
      age,
      weightBefore: float64At(this.#tape.states, at),
      evidenceBefore: float64At(this.#tape.states, at + 1),
      evidenceKept: age === null ? 0 : Math.exp(-rate * age),
    };
  }

  #add(at: number, value: number): void {
    this.#gradient[at] = float64At(this.#gradient, at) + value;
  }
}

interface OpenedFeature {
  readonly feature: number;
  readonly slot: number;
  readonly age: number | null;
  readonly weightBefore: number;
  readonly evidenceBefore: number;
  readonly evidenceKept: number;
}
