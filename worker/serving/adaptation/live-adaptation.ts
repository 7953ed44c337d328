/**
 * Adaptation of one adgroup without TensorFlow: the start that the bundle's method makes of its rows, the inner steps at the
 * rate and the number of steps that the bundle serves, and the level shift that follows, as an `adapt` job computes them.
 */

import { at, float64At } from '../../../shared/base/arrays.js';
import { sigmoid } from '../../../shared/base/logistic.js';
import type { RankingModel } from '../../../shared/bundle/ranking-model.js';
import {
  LEVEL_DEVIATION,
  LOG_DEVIATION_SCALE,
} from '../../../shared/methods/inner-loop/level-shift-settings.js';
import { predictionLoopOf } from '../../../shared/methods/inner-loop/method.js';
import { methodPlanOf, type MethodConfig } from '../../../shared/methods/methods.js';
import type { DenseTensor } from '../../../shared/tensors/named-tensors.js';
import { coverageOf, denseOf, type Coverage } from '../scoring-plan.js';
import type { AddProduct } from '../dense-product.js';
import { adaptingAdgroupOf, type AdaptingAdgroup } from './adapting-adgroup.js';
import { isCoveredMethod, methodInWords, type CoveredMethod } from './covered-methods.js';
import { startOf } from './method-starts.js';
import { stepRulesOf } from './step-rules.js';
import { SupportNetwork } from './support-network.js';
import type { LabelledRows } from './support-evidence.js';
import type { MovingBlocks } from './support-rows.js';

interface AdaptedValues {
  readonly variables: ReadonlyMap<string, DenseTensor>;
  readonly level: number;
}

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
  const personal = blocks.layout.parts.map(({ name }) => name);
  if (!isCoveredMethod(method))
    return `the method ${methodInWords(method)} adapts with TensorFlow alone`;
  if (personal.some((name) => name.startsWith('numbers.')))
    return 'the personal block numbers adapts with TensorFlow alone';
  if (shift !== null && shift.features.length > 0)
    return 'levelShift.features adapts with TensorFlow alone';
  return null;
}

interface Adaptation {
  readonly model: RankingModel;
  readonly method: MethodConfig;
  /** The rate and the number of steps that the bundle serves; null serves the start, as no steps do. */
  readonly adaptation: { readonly innerRate: number; readonly innerSteps: number } | null;
  readonly addProduct: AddProduct;
}

export function adaptedValues(
  { model, method, adaptation, addProduct }: Adaptation,
  support: LabelledRows,
): AdaptedValues {
  if (!isCoveredMethod(method))
    throw new Error(`the method ${methodInWords(method)} does not adapt here`);
  const { parts } = model.blocks.layout;
  if (support.rows.candidateCount === 0)
    return { variables: tensorsOf(parts, withoutSupport(model)), level: 0 };
  const adgroup = adaptingAdgroupOf(model, support, addProduct);
  const start = startOf(adgroup, method);
  if (adaptation === null || adaptation.innerSteps === 0)
    return { variables: tensorsOf(parts, start), level: 0 };
  const network = new SupportNetwork(model, adgroup.plan, adgroup.rows, addProduct);
  const blocks = stepped({ adgroup, method, network, start, ...adaptation });
  if (model.shift === null) return { variables: tensorsOf(parts, blocks), level: 0 };
  // Where nothing steps, the rate over the method's own is a factor of the prior variance (`without-steps.ts` of the workers).
  const priorScale = parts.length === 0 ? adaptation.innerRate / method.innerRate : 1;
  const level = levelOf(network.logits(blocks), support, priorPrecisionOf(model) / priorScale);
  return { variables: tensorsOf(parts, blocks), level };
}

/** Block 0, of which the method read neither rows nor attributes. */
function withoutSupport(model: RankingModel): MovingBlocks {
  return new Map(
    model.blocks.layout.parts.map(({ name }) => [name, Float64Array.from(denseOf(model, name))]),
  );
}

interface Stepping {
  readonly adgroup: AdaptingAdgroup;
  readonly method: CoveredMethod;
  readonly network: SupportNetwork;
  readonly start: MovingBlocks;
  readonly innerRate: number;
  readonly innerSteps: number;
}

function stepped({
  adgroup,
  method,
  network,
  start,
  innerRate,
  innerSteps,
}: Stepping): MovingBlocks {
  const { momentum, supportBatches, proximalWeight } = predictionLoopOf(methodPlanOf(method)).steps;
  const blocks = new Map([...start].map(([name, values]) => [name, values.slice()]));
  const velocities = zerosLike(start);
  const ruleOf = stepRulesOf(adgroup, method, innerRate);
  const rules = new Map([...start].map(([name, { length }]) => [name, ruleOf(name, length)]));
  for (let step = 0; step < innerSteps; step += 1) {
    const gradients = zerosLike(start);
    network.addGradient(blocks, slopesOf(adgroup.support, supportBatches, step), gradients);
    for (const [name, values] of blocks) {
      const [gradient, velocity] = [valuesIn(gradients, name), valuesIn(velocities, name)];
      const [origin, { factors, pulls }] = [valuesIn(start, name), valuesIn(rules, name)];
      const factor = at(factors, Math.min(step, factors.length - 1));
      for (let index = 0; index < values.length; index += 1) {
        const away = float64At(values, index) - float64At(origin, index);
        const pull = proximalWeight === undefined ? 0 : proximalWeight * away;
        const scaled = innerRate * (float64At(gradient, index) + pull);
        velocity[index] = momentum * float64At(velocity, index) + scaled;
        const pulled = pulls === null ? 0 : float64At(pulls, index) * away;
        const moved = float64At(factor, index) * float64At(velocity, index) + pulled;
        values[index] = float64At(values, index) - moved;
      }
    }
  }
  return blocks;
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

function valuesIn<Values>(blocks: ReadonlyMap<string, Values>, name: string): Values {
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
