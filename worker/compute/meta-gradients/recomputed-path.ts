/** Carries the adjoint of a second-order meta-gradient back through the stages of the inner loop. */

import type * as tfjs from '@tensorflow/tfjs';
import type { MethodPlan } from '../../../shared/methods/inner-loop/method.js';
import type { TrunkPass } from '../models/staged-pass.js';
import type { AdaptationStages, SharedGradient } from './adaptation-stages.js';
import type { LoopState } from './inner-loop.js';
import { packIn, type TensorsByName } from './tensors-by-name.js';
import type { BatchInput, MetaGradientResult } from './passes.js';
import { unadaptedRoleOf } from './unadapted.js';

/** A micro-batch with support and query rows, and the weights of its tasks. */
interface RecomputedInput {
  readonly batch: BatchInput;
  readonly weights: tfjs.Tensor1D;
}

export function recomputedGradient(
  tf: typeof tfjs,
  stages: AdaptationStages,
  stepCount: number,
  { batch, weights }: RecomputedInput,
): MetaGradientResult {
  const trunk = stages.supportTrunk(batch);
  const support = { ...batch, trunk };
  const { path, losses } = walked(stages, stepCount, support);
  const end = path.pop() ?? {};
  const query = stages.query({ ...support, state: end, weights });
  tf.dispose({ ...end });
  let total: SharedGradient = { dense: query.dense, rows: query.rows };
  const add = (part: SharedGradient): void => {
    total = { dense: sumOf(tf, total.dense, part.dense), rows: sumOf(tf, total.rows, part.rows) };
  };
  let adjoint = query.state;
  let trunkAdjoint = query.trunk;
  // From the last step to the first. States and adjoints are freed as soon as they have been used.
  for (let before = path.pop(); before !== undefined; before = path.pop()) {
    const step = stages.stepAdjoint({ ...support, state: before, adjoint });
    tf.dispose({ ...adjoint });
    adjoint = step.state;
    add(step);
    trunkAdjoint = sumOf(tf, trunkAdjoint, step.trunk);
    tf.dispose({ ...before });
  }
  tf.dispose({ ...trunk });
  if (Object.keys(trunkAdjoint).length > 0)
    add(stages.supportTrunkAdjoint({ ...batch, adjoint: trunkAdjoint }));
  if (Object.keys(adjoint).length > 0) add(stages.startAdjoint({ ...batch, adjoint }));
  return {
    gradients: new Map(Object.entries(total.dense)),
    rowGradient: packIn(total.rows),
    queryLosses: query.losses,
    supportLosses: losses,
  };
}

/** The cold term as a stage. */
export function unadaptedStage(
  stages: AdaptationStages,
  plan: Pick<MethodPlan, 'innerLoop' | 'cold'>,
  input: BatchInput,
  weights: tfjs.Tensor1D,
): MetaGradientResult {
  const nothing = { queryLosses: null, supportLosses: null };
  if (input.batches[unadaptedRoleOf(plan)] === undefined)
    return { ...nothing, gradients: new Map(), rowGradient: null };
  const { dense, rows } = stages.unadapted({ ...input, weights });
  return { ...nothing, gradients: new Map(Object.entries(dense)), rowGradient: packIn(rows) };
}

/** The states before every inner step and after the last, and the losses before the first. */
function walked(
  stages: AdaptationStages,
  stepCount: number,
  support: BatchInput & { readonly trunk: TrunkPass },
): { path: LoopState[]; losses: tfjs.Tensor1D | null } {
  const { trunk: _trunk, ...batch } = support;
  let state = stages.start(batch);
  let losses: tfjs.Tensor1D | null = null;
  const path = [state];
  for (let index = 0; index < stepCount; index += 1) {
    const moved = stages.step({ ...support, state });
    if (losses === null) losses = moved.losses;
    else moved.losses.dispose();
    // Without personal blocks nothing moves, and there is no step to go back.
    if (Object.keys(state).length === 0) break;
    state = moved.state;
    path.push(state);
  }
  return { path, losses };
}

/** Disposes of both. */
function sumOf(tf: typeof tfjs, sum: TensorsByName, part: TensorsByName): TensorsByName {
  const total: Record<string, tfjs.Tensor> = { ...sum };
  for (const [name, tensor] of Object.entries(part)) {
    const before = sum[name];
    if (before === undefined) total[name] = tensor;
    else {
      total[name] = tf.add(before, tensor);
      tf.dispose([before, tensor]);
    }
  }
  return total;
}
