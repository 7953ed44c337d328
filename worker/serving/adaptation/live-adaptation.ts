/**
 * Adaptation of one adgroup without TensorFlow: the inner steps of the bundle's method at the rate and the number of
 * steps that it serves, and the level shift that follows, as an `adapt` job computes them.
 */

import { at, float64At } from '../../../shared/base/arrays.js';
import { sigmoid } from '../../../shared/base/logistic.js';
import type { RankingModel } from '../../../shared/bundle/ranking-model.js';
import {
  LEVEL_DEVIATION,
  LOG_DEVIATION_SCALE,
} from '../../../shared/methods/inner-loop/level-shift-settings.js';
import { predictionLoopOf } from '../../../shared/methods/inner-loop/method.js';
import { blockOf } from '../../../shared/methods/inner-loop/personal-blocks.js';
import { methodPlanOf, type MethodConfig } from '../../../shared/methods/methods.js';
import type { DenseTensor } from '../../../shared/tensors/named-tensors.js';
import { coverageOf, denseOf, scoringPlanOf, type Coverage } from '../scoring-plan.js';
import type { AddProduct } from '../dense-product.js';
import { SupportNetwork } from './support-network.js';
import { withSupportColumns, type LabelledRows } from './support-evidence.js';
import type { MovingBlocks } from './support-rows.js';

interface AdaptedValues {
  readonly variables: ReadonlyMap<string, DenseTensor>;
  readonly level: number;
}

/** A method whose steps are written here. */
type CoveredMethod = Extract<
  MethodConfig,
  { kind: 'fomaml' | 'maml' | 'reptile' | 'imaml' | 'meta-sgd' }
>;

const NEWTON_STEP_COUNT = 8;
const NEWTON_STEP_LENGTH_MAX = 2;

/** Whether adgroups of a bundle adapt here; if not, why. */
export function adaptationCoverage(
  model: Pick<RankingModel, 'spec' | 'blocks' | 'shift'>,
  method: MethodConfig,
): Coverage {
  const scored = coverageOf(model);
  const reason = scored.isCovered ? reasonAgainst(model, method) : scored.reason;
  return reason === null ? { isCovered: true } : { isCovered: false, reason };
}

function reasonAgainst(
  { blocks, shift }: Pick<RankingModel, 'blocks' | 'shift'>,
  method: MethodConfig,
): string | null {
  const { kind } = method;
  const personal = blocks.layout.parts.map(({ name }) => name);
  if (!isCovered(method)) return `the method ${kind} adapts with TensorFlow alone`;
  if (personal.some((name) => name.startsWith('numbers.')))
    return 'the personal block numbers adapts with TensorFlow alone';
  if (shift !== null && shift.features.length > 0)
    return 'levelShift.features adapts with TensorFlow alone';
  return null;
}

function isCovered(method: MethodConfig): method is CoveredMethod {
  return ['fomaml', 'maml', 'reptile', 'imaml', 'meta-sgd'].includes(method.kind);
}

interface Adaptation {
  readonly model: RankingModel;
  readonly method: MethodConfig;
  /** The rate and the number of steps that the bundle serves; null serves the start. */
  readonly adaptation: { readonly innerRate: number; readonly innerSteps: number } | null;
  readonly addProduct: AddProduct;
}

export function adaptedValues(
  { model, method, adaptation, addProduct }: Adaptation,
  support: LabelledRows,
): AdaptedValues {
  const { parts } = model.blocks.layout;
  const start = new Map(
    parts.map(({ name }) => [name, Float64Array.from(denseOf(model, name))] as const),
  );
  if (!isCovered(method)) throw new Error(`the method ${method.kind} does not adapt here`);
  if (adaptation === null || adaptation.innerSteps === 0 || support.rows.candidateCount === 0)
    return { variables: tensorsOf(parts, start), level: 0 };
  const rows = withSupportColumns(model.spec, support);
  const network = new SupportNetwork(model, scoringPlanOf(model, []), rows, addProduct);
  const blocks = stepped({ model, method, network, support, start, ...adaptation });
  if (model.shift === null) return { variables: tensorsOf(parts, blocks), level: 0 };
  // Where nothing steps, the rate over the method's own is a factor of the prior variance (`without-steps.ts` of the workers).
  const priorScale = parts.length === 0 ? adaptation.innerRate / method.innerRate : 1;
  const level = levelOf(network.logits(blocks), support, priorPrecisionOf(model) / priorScale);
  return { variables: tensorsOf(parts, blocks), level };
}

interface Stepping {
  readonly model: RankingModel;
  readonly method: CoveredMethod;
  readonly network: SupportNetwork;
  readonly support: LabelledRows;
  readonly start: MovingBlocks;
  readonly innerRate: number;
  readonly innerSteps: number;
}

function stepped({
  model,
  method,
  network,
  support,
  start,
  innerRate,
  innerSteps,
}: Stepping): MovingBlocks {
  const { momentum, supportBatches, proximalWeight } = predictionLoopOf(methodPlanOf(method)).steps;
  const blocks = new Map([...start].map(([name, values]) => [name, values.slice()]));
  const velocities = zerosLike(start);
  const factors = new Map(
    [...start].map(([name, values]) => [name, factorsOf(model, method, name, values.length)]),
  );
  for (let step = 0; step < innerSteps; step += 1) {
    const gradients = zerosLike(start);
    network.addGradient(blocks, slopesOf(support, supportBatches, step), gradients);
    for (const [name, values] of blocks) {
      const [gradient, velocity] = [valuesIn(gradients, name), valuesIn(velocities, name)];
      const [origin, factor] = [valuesIn(start, name), valuesIn(factors, name)];
      for (let index = 0; index < values.length; index += 1) {
        const value = float64At(values, index);
        const pull =
          proximalWeight === undefined ? 0 : proximalWeight * (value - float64At(origin, index));
        const scaled = innerRate * (float64At(gradient, index) + pull);
        velocity[index] = momentum * float64At(velocity, index) + scaled;
        values[index] = value - float64At(factor, index) * float64At(velocity, index);
      }
    }
  }
  return blocks;
}

/** Factors of the inner rate (`shared/methods/inner-loop/inner-rates.ts`), fixed or learned. */
function factorsOf(
  model: RankingModel,
  method: CoveredMethod,
  name: string,
  count: number,
): Float64Array {
  const fixed = method.rateFactors[blockOf(name)] ?? 1;
  if (method.kind !== 'meta-sgd') return new Float64Array(count).fill(fixed);
  const { rates, clampsRates } = method;
  const learned = denseOf(
    model,
    `rates/${rates === 'global' ? 'all' : rates === 'block' ? blockOf(name) : name}`,
  );
  return Float64Array.from({ length: count }, (_, index) => {
    const rate = at(learned, rates === 'parameter' ? index : 0);
    const used = clampsRates ? Math.max(0, rate) : rate;
    return rates === 'global' ? used * fixed : used;
  });
}

/** The derivative of the mean loss of the rows that a step sees (`support-batches.ts` of the workers). */
function slopesOf(
  { loss, clicks, impressions }: LabelledRows,
  batchCount: number,
  step: number,
): (row: number, logit: number) => number {
  const isSeen = (row: number): boolean => row % batchCount === step % batchCount;
  const total = impressions.reduce((sum, count, row) => (isSeen(row) ? sum + count : sum), 0);
  return (row, logit) => {
    if (!isSeen(row) || total === 0) return 0;
    const expected = loss === 'binary' ? sigmoid(logit) : logit;
    return (float64At(impressions, row) * expected - float64At(clicks, row)) / total;
  };
}

function priorPrecisionOf(model: RankingModel): number {
  return Math.exp(-2 * LOG_DEVIATION_SCALE * at(denseOf(model, LEVEL_DEVIATION), 0));
}

/** The posterior mode of the level under a prior of this precision (`shift-by-level.ts` of the workers). */
function levelOf(
  logits: Float64Array,
  { loss, clicks, impressions }: LabelledRows,
  precision: number,
): number {
  let level = 0;
  for (let step = 0; step < NEWTON_STEP_COUNT; step += 1) {
    let slope = precision * level;
    let curvature = precision;
    for (let row = 0; row < logits.length; row += 1) {
      const output = float64At(logits, row) + level;
      const expected = loss === 'binary' ? sigmoid(output) : output;
      const variance = loss === 'binary' ? expected * (1 - expected) : 1;
      slope += float64At(impressions, row) * expected - float64At(clicks, row);
      curvature += float64At(impressions, row) * variance;
    }
    const length = slope / curvature;
    level -= Math.max(-NEWTON_STEP_LENGTH_MAX, Math.min(NEWTON_STEP_LENGTH_MAX, length));
  }
  return level;
}

function zerosLike(blocks: MovingBlocks): Map<string, Float64Array> {
  return new Map([...blocks].map(([name, { length }]) => [name, new Float64Array(length)]));
}

function valuesIn(blocks: MovingBlocks, name: string): Float64Array {
  const values = blocks.get(name);
  if (values === undefined) throw new Error(`no block ${name}`);
  return values;
}

function tensorsOf(
  parts: RankingModel['blocks']['layout']['parts'],
  blocks: MovingBlocks,
): ReadonlyMap<string, DenseTensor> {
  return new Map(
    parts.map(({ name, shape }) => [
      name,
      { shape, values: Float32Array.from(valuesIn(blocks, name)) },
    ]),
  );
}
