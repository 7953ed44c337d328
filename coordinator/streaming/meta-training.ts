/**
 * Learns phi on the prior part of a stream: min_phi L_new(U_phi(theta, grad L_old(theta))). In every
 * epoch the rule runs over the prior rows once and takes a snapshot of theta before each pair of
 * windows. Then pairs are drawn, their gradients are summed in the order drawn, and phi moves by Adam.
 * The gradients can be computed anywhere, since a pair is a pure function of snapshot and phi.
 */

import { float64At } from '../../shared/base/arrays.js';
import { randomStream } from '../../shared/base/random.js';
import {
  emptyRuleState,
  learnedRuleLearner,
  ruleDiverged,
  type LearnedRule,
} from '../../shared/streaming/learned-update.js';
import type { LearnedRuleShape, PairSettings } from '../../shared/streaming/rule-settings.js';
import type { WindowPair } from '../../shared/streaming/rule-tape.js';
import type { StreamRows } from '../../shared/streaming/stream-rows.js';
import {
  windowPairGradient,
  type PairGradient,
} from '../../shared/streaming/window-pair-gradient.js';
import { meanLogloss, NO_PAUSE, progressiveLogits, type Pause } from './progressive-validation.js';
import { cutPair, pairSpans, type PairSpan } from './window-pairs.js';

export interface MetaTrainingSettings extends PairSettings {
  readonly seed: number;
  readonly priorRowCount: number;
  /**
   * Rows before this one are learned from, but they do not count when the phi of an epoch is
   * judged.
   */
  readonly judgedFromRow: number;
  readonly windowRows: number;
  readonly epochCount: number;
  readonly pairsPerStep: number;
  /** The rate of Adam. It falls linearly to a tenth. */
  readonly rate: number;
}

interface MetaTrainingResult {
  readonly parameters: Float64Array;
  /** Progressive logloss of the prior rows by epoch. The first is from before any training. */
  readonly epochLoglosses: readonly number[];
}

/** Gradients of the pairs, in their order. They may be computed anywhere and finish in any order. */
export type GradientComputer = (
  shape: LearnedRuleShape,
  parameters: Float64Array,
  pairs: readonly WindowPair[],
  settings: PairSettings,
) => Promise<readonly PairGradient[]>;

/** Computes the gradients in this process, one after the other. */
export const computeInProcess: GradientComputer = (shape, parameters, pairs, settings) =>
  Promise.resolve(pairs.map((pair) => windowPairGradient(shape, parameters, pair, settings)));

/** How the work is done, which changes no result. */
export interface WorkingTerms {
  /** Computes the meta-gradients; in this process by default. */
  readonly compute?: GradientComputer | undefined;
  /** Called between parts of the computation. */
  readonly pause?: Pause | undefined;
}

export async function metaTrainRule(
  start: LearnedRule,
  rows: StreamRows,
  settings: MetaTrainingSettings,
  { compute = computeInProcess, pause = NO_PAUSE }: WorkingTerms = {},
): Promise<MetaTrainingResult> {
  const spans = pairSpans(settings.priorRowCount, settings.windowRows);
  const order = randomStream(settings.seed, 'meta-training', 'order');
  const stepsPerEpoch = Math.ceil(spans.length / settings.pairsPerStep);
  const optimizer = new Adam(start.parameters.length);
  const parameters = start.parameters.slice();
  const epochLoglosses: number[] = [];
  let best = parameters.slice();
  for (let epoch = 0; epoch <= settings.epochCount; epoch += 1) {
    const rule = { ...start, parameters };
    const { pairs, logloss } = await snapshots(rule, rows, { ...settings, spans, pause });
    if (logloss < Math.min(Infinity, ...epochLoglosses)) best = parameters.slice();
    epochLoglosses.push(logloss);
    if (epoch === settings.epochCount) break;
    const drawn = order.shuffle([...pairs.keys()]);
    for (let step = 0; step < stepsPerEpoch; step += 1) {
      const chosen = drawn
        .slice(step * settings.pairsPerStep, (step + 1) * settings.pairsPerStep)
        .flatMap((pair) => pairs[pair] ?? []);
      const results = await compute(start.shape, parameters, chosen, settings);
      const done = (epoch * stepsPerEpoch + step) / (settings.epochCount * stepsPerEpoch);
      optimizer.step(parameters, meanGradient(results), settings.rate * (1 - 0.9 * done));
    }
  }
  return { parameters: best, epochLoglosses };
}

interface SnapshotSettings extends MetaTrainingSettings {
  readonly spans: readonly PairSpan[];
  readonly pause: Pause;
}

/**
 * Runs the rule over the prior rows. Returns a pair with its snapshot for each span, and the
 * logloss.
 */
async function snapshots(
  rule: LearnedRule,
  rows: StreamRows,
  { spans, pause, ...settings }: SnapshotSettings,
): Promise<{ pairs: WindowPair[]; logloss: number }> {
  const state = emptyRuleState(rows.featureCount, rule.shape.rank);
  const learner = learnedRuleLearner(rule, state);
  const logits = new Float64Array(settings.priorRowCount);
  const pairs: WindowPair[] = [];
  const learn = (from: number, to: number): void => {
    logits.set(progressiveLogits(learner, rows, settings.batchRows, { from, to }), from);
  };
  for (const span of spans) {
    pairs.push(cutPair(rows, span, rule.embedding, state));
    learn(span.from, span.boundary);
    await pause();
  }
  learn(spans.at(-1)?.boundary ?? 0, settings.priorRowCount);
  const judged = { from: settings.judgedFromRow, to: settings.priorRowCount };
  const logloss = meanLogloss(logits.subarray(judged.from), rows, judged);
  return { pairs, logloss };
}

/**
 * Sum of the gradients in their order, by judged row.
 *
 * @throws DivergenceError if it is not finite.
 */
function meanGradient(results: readonly PairGradient[]): Float64Array {
  const sum = new Float64Array(results[0]?.gradient.length ?? 0);
  let rowCount = 0;
  for (const { gradient, judgedRowCount } of results) {
    rowCount += judgedRowCount;
    for (let at = 0; at < sum.length; at += 1)
      sum[at] = float64At(sum, at) + float64At(gradient, at);
  }
  const mean = sum.map((value) => value / rowCount);
  if (!mean.every(Number.isFinite)) throw ruleDiverged('a meta-gradient that is not finite');
  return mean;
}

/** Adam (Kingma and Ba, ICLR 2015) on one vector in float64, with its usual constants. */
class Adam {
  readonly #first: Float64Array;
  readonly #second: Float64Array;
  #firstPower = 1;
  #secondPower = 1;

  constructor(length: number) {
    this.#first = new Float64Array(length);
    this.#second = new Float64Array(length);
  }

  step(parameters: Float64Array, gradient: Float64Array, rate: number): void {
    this.#firstPower *= 0.9;
    this.#secondPower *= 0.999;
    for (let at = 0; at < parameters.length; at += 1) {
      const g = float64At(gradient, at);
      const first = 0.9 * float64At(this.#first, at) + 0.1 * g;
      const second = 0.999 * float64At(this.#second, at) + 0.001 * g * g;
      this.#first[at] = first;
      this.#second[at] = second;
      const direction = first / (1 - this.#firstPower);
      const scale = Math.sqrt(second / (1 - this.#secondPower)) + 1e-12;
      parameters[at] = float64At(parameters, at) - (rate * direction) / scale;
    }
  }
}
