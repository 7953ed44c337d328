/**
 * The parameters phi of the learned update rule as one vector, and the place of each part in it. Each slot
 * has a log-step by evidence and by age, both piecewise linear in log2; the initial weight of its new
 * features; the rates at which weights return to it and evidence is forgotten; and the gain of its
 * embedding. All slots share the matrix of the low-rank part and the rate at which it is forgotten.
 */

import { float64At } from '../base/arrays.js';
import type { LearnedRuleShape } from './rule-settings.js';

/** Knots of the log-step lie at evidence 2^0 - 1, 2^2 - 1, 2^4 - 1, ... */
export const EVIDENCE_KNOT_COUNT = 9;
export const EVIDENCE_KNOT_DOUBLINGS = 2;
/** Knots of the log-step's second term lie at ages of 2^0 - 1, 2^3 - 1, 2^6 - 1, ... units. */
export const AGE_KNOT_COUNT = 6;
export const AGE_KNOT_DOUBLINGS = 3;
/** The unit of these ages, in time scales of the rule. */
export const AGE_UNIT = 1 / 4096;
/**
 * M is this times `F F^T`, F being its part of phi: positive semidefinite, so that the low-rank part can
 * only go downhill, and scaled so that one rate of learning suits all of phi.
 */
export const MIXING_SCALE = 0.01;
const INITIAL_MIXING = 0.3;

const SCALARS_PER_SLOT = 4;

export interface LearnedRuleLayout {
  readonly slotCount: number;
  readonly rank: number;
  readonly length: number;
  /** `[slotCount, EVIDENCE_KNOT_COUNT]` */
  readonly evidenceKnots: number;
  /** `[slotCount, AGE_KNOT_COUNT]` */
  readonly ageKnots: number;
  /** `[slotCount]` each; decays are logs of rates per time scale. */
  readonly weightDecay: number;
  readonly evidenceDecay: number;
  readonly initialWeight: number;
  readonly embeddingGain: number;
  /** F, `[rank, rank]` */
  readonly mixing: number;
  /** Log of a rate per time scale. */
  readonly sharedDecay: number;
}

export function layoutOf({
  slotCount,
  rank,
}: Omit<LearnedRuleShape, 'timeScaleDays'>): LearnedRuleLayout {
  const ageKnots = slotCount * EVIDENCE_KNOT_COUNT;
  const scalars = ageKnots + slotCount * AGE_KNOT_COUNT;
  const mixing = scalars + SCALARS_PER_SLOT * slotCount;
  return {
    slotCount,
    rank,
    evidenceKnots: 0,
    ageKnots,
    weightDecay: scalars,
    evidenceDecay: scalars + slotCount,
    initialWeight: scalars + 2 * slotCount,
    embeddingGain: scalars + 3 * slotCount,
    mixing,
    sharedDecay: mixing + rank * rank,
    length: mixing + rank * rank + 1,
  };
}

interface LikeAdagrad {
  readonly rate: number;
  readonly initialSum: number;
}

/** Initial decays: a time constant of 20 time scales, and of 1 for z. */
const INITIAL_LOG_DECAY = -3;
const INITIAL_SHARED_LOG_DECAY = 0;

/**
 * The initial parameters act like AdaGrad. Its sum of squared gradients grows by p (1 - p) a row in expectation, a quarter
 * of the evidence of that row, so `log s = log rate - log(initialSum + evidence / 4) / 2` at the knots.
 * Weights begin at 0 and all but stay where they are, the low-rank part is small.
 */
export function parametersLikeAdagrad(shape: LearnedRuleShape, like: LikeAdagrad): Float64Array {
  const layout = layoutOf(shape);
  const parameters = new Float64Array(layout.length);
  for (let slot = 0; slot < shape.slotCount; slot += 1) {
    for (let knot = 0; knot < EVIDENCE_KNOT_COUNT; knot += 1) {
      const evidence = 2 ** (knot * EVIDENCE_KNOT_DOUBLINGS) - 1;
      parameters[layout.evidenceKnots + slot * EVIDENCE_KNOT_COUNT + knot] =
        Math.log(like.rate) - 0.5 * Math.log(like.initialSum + 0.25 * (evidence + 1));
    }
    parameters[layout.weightDecay + slot] = INITIAL_LOG_DECAY;
    parameters[layout.evidenceDecay + slot] = INITIAL_LOG_DECAY;
    parameters[layout.embeddingGain + slot] = 1;
  }
  for (let axis = 0; axis < shape.rank; axis += 1)
    parameters[layout.mixing + axis * (shape.rank + 1)] = INITIAL_MIXING;
  parameters[layout.sharedDecay] = INITIAL_SHARED_LOG_DECAY;
  return parameters;
}

/** M, `[rank, rank]` */
export function mixingMatrix(parameters: Float64Array, layout: LearnedRuleLayout): Float64Array {
  const { rank, mixing } = layout;
  const matrix = new Float64Array(rank * rank);
  for (let i = 0; i < rank; i += 1)
    for (let j = 0; j < rank; j += 1) {
      let sum = 0;
      for (let k = 0; k < rank; k += 1)
        sum +=
          float64At(parameters, mixing + i * rank + k) *
          float64At(parameters, mixing + j * rank + k);
      matrix[i * rank + j] = MIXING_SCALE * sum;
    }
  return matrix;
}
