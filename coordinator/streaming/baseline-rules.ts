/**
 * The four update rules that a learned one is compared with, for logistic regression on sparse
 * features. Each moves only the features of the batch; a batch's gradient is the sum over its rows.
 * Where a rule has an `l2`, it is the penalty `l2 / 2 * w^2` of a feature, paid when it is touched.
 */

import { int32At, uint8At } from '../../shared/base/arrays.js';
import { assertNever } from '../../shared/base/errors.js';
import {
  BatchFeatureIndex,
  roomFor,
  type StreamLearner,
  type StreamRows,
} from '../../shared/streaming/stream-rows.js';
import { sigmoid } from '../../shared/base/logistic.js';

interface SgdSettings {
  readonly kind: 'sgd';
  /** The step of batch t = 1, 2, ... is `rate * t^-ratePower`. */
  readonly rate: number;
  readonly ratePower: number;
  readonly l2: number;
}
interface AdagradSettings {
  readonly kind: 'adagrad';
  readonly rate: number;
  /** The initial sum of squares of each feature. */
  readonly initialSum: number;
  readonly l2: number;
}
interface FtrlSettings {
  readonly kind: 'ftrl';
  readonly alpha: number;
  readonly beta: number;
  readonly l1: number;
  readonly l2: number;
}
interface AdamSettings {
  readonly kind: 'adam';
  readonly rate: number;
  readonly firstMomentDecay: number;
  readonly secondMomentDecay: number;
  readonly epsilon: number;
  readonly l2: number;
}
export type BaselineSettings = SgdSettings | AdagradSettings | FtrlSettings | AdamSettings;

/** A rule that treats each feature by itself. */
interface FeatureRule {
  weightOf(feature: number): number;
  step(feature: number, gradient: number): void;
  /** Called before the steps of a batch. */
  begin?(): void;
}

export function baselineLearner(settings: BaselineSettings, featureCount: number): StreamLearner {
  return learnerOf(ruleOf(settings, featureCount), featureCount);
}

function ruleOf(settings: BaselineSettings, featureCount: number): FeatureRule {
  switch (settings.kind) {
    case 'sgd':
      return sgd(settings, featureCount);
    case 'adagrad':
      return adagrad(settings, featureCount);
    case 'ftrl':
      return ftrlProximal(settings, featureCount);
    case 'adam':
      return adam(settings, featureCount);
    default:
      return assertNever(settings);
  }
}

function learnerOf(rule: FeatureRule, featureCount: number): StreamLearner {
  const batch = new BatchGradients(featureCount);
  return {
    predict(rows, from, to, logits) {
      for (let row = from; row < to; row += 1) {
        const end = int32At(rows.rowStarts, row + 1);
        let logit = 0;
        for (let at = int32At(rows.rowStarts, row); at < end; at += 1)
          logit += rule.weightOf(int32At(rows.features, at));
        logits[row - from] = logit;
      }
    },
    learn(rows, from, to, logits) {
      batch.sum(rows, from, to, logits);
      rule.begin?.();
      const { index, gradients } = batch;
      for (let place = 0; place < index.count; place += 1)
        rule.step(int32At(index.features, place), gradients[place] ?? NaN);
    },
  };
}

/** The features of one batch after another, and the gradient of each. */
class BatchGradients {
  readonly index: BatchFeatureIndex;
  /** By place in the index. Values beyond its count are left over from earlier batches. */
  gradients = new Float64Array(0);

  constructor(featureCount: number) {
    this.index = new BatchFeatureIndex(featureCount);
  }

  sum(rows: StreamRows, from: number, to: number, logits: Float64Array): void {
    const { index } = this;
    index.index(rows, from, to);
    const gradients = roomFor(this.gradients, index.count);
    this.gradients = gradients;
    gradients.fill(0, 0, index.count);
    for (let row = from; row < to; row += 1) {
      const residual = sigmoid(logits[row - from] ?? NaN) - uint8At(rows.clicks, row);
      const end = int32At(rows.rowStarts, row + 1);
      for (let at = int32At(rows.rowStarts, row); at < end; at += 1) {
        const place = index.placeOf(int32At(rows.features, at));
        gradients[place] = (gradients[place] ?? NaN) + residual;
      }
    }
  }
}

function sgd({ rate, ratePower, l2 }: SgdSettings, featureCount: number): FeatureRule {
  const weights = new Float64Array(featureCount);
  let batchCount = 0;
  let step = rate;
  return {
    weightOf: (feature) => weights[feature] ?? NaN,
    begin() {
      batchCount += 1;
      step = rate * batchCount ** -ratePower;
    },
    step(feature, gradient) {
      const weight = weights[feature] ?? NaN;
      weights[feature] = weight - step * (gradient + l2 * weight);
    },
  };
}

/** AdaGrad with a diagonal matrix (Duchi, Hazan and Singer, JMLR 2011): `w -= rate g / sqrt(G)`. */
function adagrad({ rate, initialSum, l2 }: AdagradSettings, featureCount: number): FeatureRule {
  // `[featureCount, 2]`: weight and sum of squares side by side share a cache line.
  const state = new Float64Array(2 * featureCount);
  return {
    weightOf: (feature) => state[2 * feature] ?? NaN,
    step(feature, gradient) {
      const at = 2 * feature;
      const weight = state[at] ?? NaN;
      const g = gradient + l2 * weight;
      const sum = (state[at + 1] ?? NaN) + g * g;
      state[at + 1] = sum;
      state[at] = weight - (rate * g) / Math.sqrt(initialSum + sum);
    },
  };
}

/**
 * FTRL-Proximal (McMahan et al., KDD 2013, algorithm 1). Per feature z and n:
 *
 *   w = 0 where |z| <= l1, else -(z - sign(z) l1) / ((beta + sqrt(n)) / alpha + l2)
 *   s = (sqrt(n + g^2) - sqrt(n)) / alpha;   z += g - s w;   n += g^2
 */
function ftrlProximal({ alpha, beta, l1, l2 }: FtrlSettings, featureCount: number): FeatureRule {
  // `[featureCount, 2]`: z and n.
  const state = new Float64Array(2 * featureCount);
  const weightOf = (feature: number): number => {
    const z = state[2 * feature] ?? NaN;
    if (Math.abs(z) <= l1) return 0;
    const n = state[2 * feature + 1] ?? NaN;
    return -(z - Math.sign(z) * l1) / ((beta + Math.sqrt(n)) / alpha + l2);
  };
  return {
    weightOf,
    step(feature, g) {
      const n = state[2 * feature + 1] ?? NaN;
      const s = (Math.sqrt(n + g * g) - Math.sqrt(n)) / alpha;
      const z = (state[2 * feature] ?? NaN) + g - s * weightOf(feature);
      state[2 * feature] = z;
      state[2 * feature + 1] = n + g * g;
    },
  };
}

/**
 * Adam (Kingma and Ba, ICLR 2015, algorithm 1), lazy: moments of a feature decay and are corrected by
 * the number of its occurrences, so the first step of a rare feature is as large as that of a frequent one.
 */
function adam(settings: AdamSettings, featureCount: number): FeatureRule {
  const { rate, firstMomentDecay: b1, secondMomentDecay: b2, epsilon, l2 } = settings;
  // `[featureCount, 5]`: weight, both moments, and the running products b1^t and b2^t.
  const state = new Float64Array(5 * featureCount);
  for (let feature = 0; feature < featureCount; feature += 1)
    state.fill(1, 5 * feature + 3, 5 * feature + 5);
  return {
    weightOf: (feature) => state[5 * feature] ?? NaN,
    step(feature, gradient) {
      const at = 5 * feature;
      const weight = state[at] ?? NaN;
      const g = gradient + l2 * weight;
      const first = b1 * (state[at + 1] ?? NaN) + (1 - b1) * g;
      const second = b2 * (state[at + 2] ?? NaN) + (1 - b2) * g * g;
      const firstPower = b1 * (state[at + 3] ?? NaN);
      const secondPower = b2 * (state[at + 4] ?? NaN);
      state[at + 1] = first;
      state[at + 2] = second;
      state[at + 3] = firstPower;
      state[at + 4] = secondPower;
      const direction =
        first / (1 - firstPower) / (Math.sqrt(second / (1 - secondPower)) + epsilon);
      state[at] = weight - rate * direction;
    },
  };
}
