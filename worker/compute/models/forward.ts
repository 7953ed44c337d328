/**
 * A model's forward pass, `logit = bias + its terms`, cut in two: the trunk pass computes once per
 * batch whatever shared parameters alone decide, and the personal pass, which inner steps run and
 * differentiate, the rest (`staged-pass.ts`).
 */

import type * as tfjs from '@tensorflow/tfjs';
import type { ForwardFrame, Staged } from '../../../shared/models/kinds/forward-frame.js';
import { MODELS } from '../../../shared/models/kinds/models.js';
import type { Engine } from '../engine/load-engine.js';
import { placeCountsOf } from './device-tasks.js';
import type { FieldSource, ModelPlan } from './fields.js';
import {
  innerProducts,
  interactionsByField,
  linearAndFactorised,
  outerProduct,
  weightedInteractions,
} from './interactions.js';
import {
  fieldPieces,
  fieldVectors,
  hiddenLayers,
  outputTerm,
  productWith,
  withBias,
} from './layers.js';
import { modelFrameOf, type ModelFrame } from './model-frame.js';
import {
  personalStage,
  trunkStage,
  type StagedPass,
  type TrunkPass,
  type Variables,
} from './staged-pass.js';

const TRUNK_LOGITS = 'logits';

/**
 * Everything that shared parameters alone decide for a batch, by task; `logits` is the sum of the
 * shared terms.
 */
export function trunkPass(engine: Engine, plan: ModelPlan, source: FieldSource): TrunkPass {
  const { tf } = engine;
  const { taskCount, rowExtent } = placeCountsOf(source.data);
  const byTask: [number, number] = [taskCount, rowExtent];
  const { pass, handedOver } = trunkStage(tf, plan.personal, source.trunk, byTask);
  const terms = termsOf(engine, plan, pass, source).filter(isShared);
  const logits =
    terms.length === 0
      ? tf.zeros<tfjs.Rank.R2>(byTask)
      : tf.reshape<tfjs.Rank.R2>(sumOf(tf, terms), byTask);
  const bias = pass.variable('bias');
  return {
    ...handedOver,
    [TRUNK_LOGITS]: isShared(bias) ? tf.add(logits, bias.tensor()) : logits,
  };
}

interface PersonalSource {
  readonly trunkPass: TrunkPass;
  /** The shared variables above the first personal block. */
  readonly trunk: Variables;
  readonly personal: Variables;
}

/** The logits `[taskCount, rowExtent]` of each task under its own variables. */
export function personalPass(
  engine: Engine,
  plan: ModelPlan,
  { trunkPass: handedOver, trunk, personal }: PersonalSource,
): tfjs.Tensor2D {
  const pass = personalStage(plan.personal, handedOver, trunk, personal);
  const logits = pass.ofRows(TRUNK_LOGITS, () => {
    throw new Error('the trunk pass hands over the logits');
  });
  const terms = [...termsOf(engine, plan, pass, null), pass.variable('bias')];
  return sumOf(engine.tf, [logits, ...terms.filter((term) => !isShared(term))]) as tfjs.Tensor2D;
}

/** The model's terms of the logit beside its bias. */
function termsOf(
  engine: Engine,
  plan: ModelPlan,
  pass: StagedPass,
  source: FieldSource | null,
): readonly Staged[] {
  const frame = modelFrameOf(engine, plan, pass, source);
  return MODELS.get(plan.spec.kind).forward(forwardFrameOf(frame));
}

function forwardFrameOf(frame: ModelFrame): ForwardFrame {
  const { engine, spec, pass } = frame;
  return {
    tf: engine.tf,
    options: spec.options,
    fields: spec,
    linear: () => linearAndFactorised(frame, { isFactorised: false }),
    linearAndPairs: () => linearAndFactorised(frame, { isFactorised: true }),
    weightedInteractions: (firstRow) => weightedInteractions(frame, firstRow),
    outputTerm: (input) => outputTerm(frame, input),
    fieldPieces: () => fieldPieces(frame),
    fieldVectors: () => fieldVectors(frame),
    interactionsByField: () => interactionsByField(frame),
    innerProducts: () => innerProducts(frame),
    outerProduct: () => outerProduct(frame),
    hiddenLayers: (input) => hiddenLayers(frame, input),
    product: (input, weights) => productWith(frame, input, weights),
    withBias: (x, bias) => withBias(frame, x, bias),
    variable: pass.variable,
    apply: pass.apply,
  };
}

function isShared({ stage }: Staged): boolean {
  return stage !== 'personal';
}

function sumOf(tf: typeof tfjs, terms: readonly Staged[]): tfjs.Tensor {
  return terms.map(({ tensor }) => tensor()).reduce((sum, term) => tf.add(sum, term));
}
