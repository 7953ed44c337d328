/**
 * The learned update rule (Wang et al., CIKM 2021, in our own form), applied to a stream:
 *
 *   theta' = theta - (diag(s_phi(slot, evidence, age)) g + C P M P^T C g),   M = F F^T
 *
 * theta_j is what a feature has learned by itself. The low-rank part moves every feature at once, so it
 * is not kept in theta but as one vector z, `[rank]`: a feature's weight is `theta_j + c_slot P_j z`, and
 * `z' = z - M sum_j c_slot P_j g_j`, which is the same update at the cost of the batch's features.
 */

import { float32At, float64At, int32At, uint8At } from '../base/arrays.js';
import { DivergenceError } from '../base/errors.js';
import {
  AGE_KNOT_COUNT,
  AGE_KNOT_DOUBLINGS,
  AGE_UNIT,
  EVIDENCE_KNOT_COUNT,
  EVIDENCE_KNOT_DOUBLINGS,
  layoutOf,
  mixingMatrix,
  type LearnedRuleLayout,
} from './learned-update-parameters.js';
import type { LearnedRuleShape } from './rule-settings.js';
import { BatchFeatureIndex, roomFor, type StreamLearner, type StreamRows } from './stream-rows.js';
import { sigmoid } from '../base/logistic.js';

/** The unit of ages: the time from the first row of the prior part to its last. */
export function timeScaleDaysOf({ times }: StreamRows, priorRowCount: number): number {
  return float64At(times, priorRowCount - 1);
}

/** The time of a row in time scales of the rule, which is the unit of all ages and decays here. */
export function ruleTime(rows: StreamRows, row: number, shape: LearnedRuleShape): number {
  return float64At(rows.times, row) / shape.timeScaleDays;
}

/** Per feature: weight, evidence, and the time of the last touch (UNTOUCHED before the first). */
export const STATE_WIDTH = 3;
export const UNTOUCHED = -1;

export interface LearnedRuleState {
  /** `[featureCount, STATE_WIDTH]` */
  readonly features: Float64Array;
  /** z, `[rank]` */
  readonly shared: Float64Array;
  /** The time of z. */
  sharedTime: number;
}

export interface LearnedRule {
  readonly shape: LearnedRuleShape;
  readonly parameters: Float64Array;
  /** P, `[featureCount, rank]` */
  readonly embedding: Float32Array;
}

export function emptyRuleState(featureCount: number, rank: number): LearnedRuleState {
  const features = new Float64Array(featureCount * STATE_WIDTH);
  for (let at = 2; at < features.length; at += STATE_WIDTH) features[at] = UNTOUCHED;
  return { features, shared: new Float64Array(rank), sharedTime: 0 };
}

/** The evidence that a row adds to its features: its Fisher information, which is 1 at p = 1/2. */
export function evidenceOf(probability: number): number {
  return 4 * probability * (1 - probability);
}

/** A place between two knots: `share` of the way from knot `below` to the next. */
export interface KnotPlace {
  readonly below: number;
  readonly share: number;
  /** d share / d value; 0 beyond the last knot. */
  readonly slope: number;
}

/** @throws DivergenceError if the value is no number from 0 on. */
function knotPlace(value: number, doublings: number, knotCount: number): KnotPlace {
  const x = Math.log2(1 + value) / doublings;
  if (!(x >= 0)) throw ruleDiverged(`a feature with evidence or age ${value}`);
  if (x >= knotCount - 1) return { below: knotCount - 2, share: 1, slope: 0 };
  const below = Math.floor(x);
  return { below, share: x - below, slope: 1 / (doublings * Math.LN2 * (1 + value)) };
}

export function ruleDiverged(found: string): DivergenceError {
  return new DivergenceError({
    kind: 'failed',
    what: 'the learned update rule diverged',
    found,
    cure: 'lower learned.rate, or raise learned.pairsPerStep',
  });
}

export function evidencePlace(evidence: number): KnotPlace {
  return knotPlace(evidence, EVIDENCE_KNOT_DOUBLINGS, EVIDENCE_KNOT_COUNT);
}

export function agePlace(age: number): KnotPlace {
  return knotPlace(age / AGE_UNIT, AGE_KNOT_DOUBLINGS, AGE_KNOT_COUNT);
}

function between(parameters: Float64Array, start: number, place: KnotPlace): number {
  const low = float64At(parameters, start + place.below);
  const high = float64At(parameters, start + place.below + 1);
  return low + place.share * (high - low);
}

/** s_phi of a feature that is seen again after `age`, or for the first time (`null`). */
export type StepSize = (slot: number, evidence: number, age: number | null) => number;

export function stepSizeOf(
  parameters: Float64Array,
  { evidenceKnots, ageKnots }: LearnedRuleLayout,
): StepSize {
  return (slot, evidence, age) => {
    const start = evidenceKnots + slot * EVIDENCE_KNOT_COUNT;
    let logStep = between(parameters, start, evidencePlace(evidence));
    if (age !== null)
      logStep += between(parameters, ageKnots + slot * AGE_KNOT_COUNT, agePlace(age));
    return Math.exp(logStep);
  };
}

/** The rates and small matrices that a parameter vector encodes. */
interface UnpackedRule {
  readonly weightDecay: Float64Array;
  readonly evidenceDecay: Float64Array;
  readonly sharedDecay: number;
  readonly mixing: Float64Array;
}

function unpacked(parameters: Float64Array, layout: LearnedRuleLayout): UnpackedRule {
  const { slotCount, weightDecay, evidenceDecay } = layout;
  return {
    weightDecay: parameters.slice(weightDecay, weightDecay + slotCount).map(Math.exp),
    evidenceDecay: parameters.slice(evidenceDecay, evidenceDecay + slotCount).map(Math.exp),
    sharedDecay: Math.exp(float64At(parameters, layout.sharedDecay)),
    mixing: mixingMatrix(parameters, layout),
  };
}

/** A learner that applies `rule` and keeps what it learns in `state`. */
export function learnedRuleLearner(rule: LearnedRule, state: LearnedRuleState): StreamLearner {
  return new RuleLearner(rule, state);
}

class RuleLearner implements StreamLearner {
  readonly #rule: LearnedRule;
  readonly #state: LearnedRuleState;
  readonly #layout: LearnedRuleLayout;
  readonly #rates: UnpackedRule;
  readonly #stepSize: StepSize;
  readonly #batch: BatchFeatureIndex;
  /** sum over the batch's rows of `C P (p - y)`, `[rank]` */
  readonly #direction: Float64Array;
  readonly #sharedNow: Float64Array;
  #gradients = new Float64Array(0);
  #evidence = new Float64Array(0);

  constructor(rule: LearnedRule, state: LearnedRuleState) {
    this.#rule = rule;
    this.#state = state;
    this.#layout = layoutOf(rule.shape);
    this.#rates = unpacked(rule.parameters, this.#layout);
    this.#stepSize = stepSizeOf(rule.parameters, this.#layout);
    this.#batch = new BatchFeatureIndex(state.features.length / STATE_WIDTH);
    this.#direction = new Float64Array(rule.shape.rank);
    this.#sharedNow = new Float64Array(rule.shape.rank);
  }

  predict(rows: StreamRows, from: number, to: number, logits: Float64Array): void {
    const time = ruleTime(rows, from, this.#rule.shape);
    this.#decayShared(time);
    for (let row = from; row < to; row += 1) {
      const end = int32At(rows.rowStarts, row + 1);
      let logit = 0;
      for (let at = int32At(rows.rowStarts, row); at < end; at += 1) {
        const feature = int32At(rows.features, at);
        const slot = uint8At(rows.slotOfFeature, feature);
        logit += this.#weightAt(feature, slot, time) + this.#sharedPart(feature, slot);
      }
      logits[row - from] = logit;
    }
  }

  learn(rows: StreamRows, from: number, to: number, logits: Float64Array): void {
    const time = ruleTime(rows, from, this.#rule.shape);
    this.#decayShared(time);
    this.#sumBatch(rows, from, to, logits);
    for (let place = 0; place < this.#batch.count; place += 1) {
      const feature = int32At(this.#batch.features, place);
      this.#stepFeature(feature, uint8At(rows.slotOfFeature, feature), time, place);
    }
    this.#stepShared(time);
  }

  #decayShared(time: number): void {
    const kept = Math.exp(-this.#rates.sharedDecay * (time - this.#state.sharedTime));
    for (let axis = 0; axis < this.#sharedNow.length; axis += 1)
      this.#sharedNow[axis] = kept * float64At(this.#state.shared, axis);
  }

  /** theta at `time`, partly returned to the initial weight of the slot's new features. */
  #weightAt(feature: number, slot: number, time: number): number {
    const initial = float64At(this.#rule.parameters, this.#layout.initialWeight + slot);
    const touched = float64At(this.#state.features, feature * STATE_WIDTH + 2);
    if (touched === UNTOUCHED) return initial;
    const kept = Math.exp(-float64At(this.#rates.weightDecay, slot) * (time - touched));
    return initial + kept * (float64At(this.#state.features, feature * STATE_WIDTH) - initial);
  }

  #sharedPart(feature: number, slot: number): number {
    const rank = this.#sharedNow.length;
    let sum = 0;
    for (let axis = 0; axis < rank; axis += 1)
      sum +=
        float32At(this.#rule.embedding, feature * rank + axis) * float64At(this.#sharedNow, axis);
    return sum * float64At(this.#rule.parameters, this.#layout.embeddingGain + slot);
  }

  #sumBatch(rows: StreamRows, from: number, to: number, logits: Float64Array): void {
    const rank = this.#direction.length;
    this.#batch.index(rows, from, to);
    this.#gradients = roomFor(this.#gradients, this.#batch.count);
    this.#evidence = roomFor(this.#evidence, this.#batch.count);
    this.#gradients.fill(0, 0, this.#batch.count);
    this.#evidence.fill(0, 0, this.#batch.count);
    this.#direction.fill(0);
    for (let row = from; row < to; row += 1) {
      const probability = sigmoid(float64At(logits, row - from));
      const residual = probability - uint8At(rows.clicks, row);
      const evidence = evidenceOf(probability);
      const end = int32At(rows.rowStarts, row + 1);
      for (let at = int32At(rows.rowStarts, row); at < end; at += 1) {
        const feature = int32At(rows.features, at);
        const place = this.#batch.placeOf(feature);
        this.#gradients[place] = float64At(this.#gradients, place) + residual;
        this.#evidence[place] = float64At(this.#evidence, place) + evidence;
        const slot = uint8At(rows.slotOfFeature, feature);
        const gain = residual * float64At(this.#rule.parameters, this.#layout.embeddingGain + slot);
        for (let axis = 0; axis < rank; axis += 1)
          this.#direction[axis] =
            float64At(this.#direction, axis) +
            gain * float32At(this.#rule.embedding, feature * rank + axis);
      }
    }
  }

  #stepFeature(feature: number, slot: number, time: number, place: number): void {
    const at = feature * STATE_WIDTH;
    const values = this.#state.features;
    const touched = float64At(values, at + 2);
    const age = touched === UNTOUCHED ? null : time - touched;
    const decay = float64At(this.#rates.evidenceDecay, slot);
    const evidence = age === null ? 0 : float64At(values, at + 1) * Math.exp(-decay * age);
    const step = this.#stepSize(slot, evidence, age);
    values[at] = this.#weightAt(feature, slot, time) - step * float64At(this.#gradients, place);
    values[at + 1] = evidence + float64At(this.#evidence, place);
    values[at + 2] = time;
  }

  #stepShared(time: number): void {
    const rank = this.#direction.length;
    for (let axis = 0; axis < rank; axis += 1) {
      let moved = 0;
      for (let other = 0; other < rank; other += 1)
        moved +=
          float64At(this.#rates.mixing, axis * rank + other) * float64At(this.#direction, other);
      this.#state.shared[axis] = float64At(this.#sharedNow, axis) - moved;
    }
    this.#state.sharedTime = time;
  }
}
