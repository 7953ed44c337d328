/** Carries the adjoint of a second-order meta-gradient back through the stages of the inner loop. */

import type * as tfjs from '@tensorflow/tfjs';
import type { InnerLoop } from '../../../shared/methods/inner-loop/method.js';
import type { TrunkPass } from '../models/staged-pass.js';
import type { AdaptationStages, QueryGradient, SharedGradient } from './adaptation-stages.js';
import type { LoopState } from './inner-loop.js';
import { weightsAfter } from './kept-path.js';
import { packIn, type NamedTensors } from './named-tensors.js';
import type { BatchInput, MetaGradientResult } from './passes.js';
import { unadaptedRoleOf } from './unadapted.js';

/** @param input has support and query rows. */
export function recomputedGradient(
  tf: typeof tfjs,
  stages: AdaptationStages,
  loop: InnerLoop,
  input: BatchInput,
  weights: tfjs.Tensor1D,
  stepWeights?: tfjs.Tensor1D,
): MetaGradientResult {
  const shared = stages.supportTrunk(input);
  const { path, losses } = walked(stages, loop, input, shared);
  // Without personal blocks all steps end where they began.
  const bySteps = path.length > 1 ? stepWeights : undefined;
  const queryAt = (state: LoopState, stepIndex: number): QueryGradient =>
    stages.query({
      ...input,
      shared,
      state,
      weights: bySteps === undefined ? weights : weightsAfter(tf, weights, bySteps, stepIndex),
    });
  const end = path.pop() ?? {};
  const query = queryAt(end, loop.innerSteps - 1);
  tf.dispose({ ...end });
  let total: SharedGradient = { dense: query.dense, rows: query.rows };
  const add = (part: SharedGradient): void => {
    total = { dense: sumOf(tf, total.dense, part.dense), rows: sumOf(tf, total.rows, part.rows) };
  };
  let adjoint = query.state;
  let sharedAdjoint = query.shared;
  // From the last step to the first: states and adjoints go as soon as they have been used.
  for (let before = path.pop(); before !== undefined; before = path.pop()) {
    const stepIndex = path.length;
    const step = stages.stepAdjoint(stepIndex)({ ...input, shared, state: before, adjoint });
    tf.dispose({ ...adjoint });
    adjoint = step.state;
    add(step);
    sharedAdjoint = sumOf(tf, sharedAdjoint, step.shared);
    if (bySteps !== undefined && stepIndex > 0) {
      const between = queryAt(before, stepIndex - 1);
      between.losses.dispose();
      add(between);
      adjoint = sumOf(tf, adjoint, between.state);
      sharedAdjoint = sumOf(tf, sharedAdjoint, between.shared);
    }
    tf.dispose({ ...before });
  }
  tf.dispose({ ...shared });
  if (Object.keys(sharedAdjoint).length > 0)
    add(stages.supportTrunkAdjoint({ ...input, adjoint: sharedAdjoint }));
  if (Object.keys(adjoint).length > 0) add(stages.startAdjoint({ ...input, adjoint }));
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
  loop: InnerLoop,
  input: BatchInput,
  weights: tfjs.Tensor1D,
): MetaGradientResult {
  const nothing = { queryLosses: null, supportLosses: null };
  if (input.batches[unadaptedRoleOf(loop)] === undefined)
    return { ...nothing, gradients: new Map(), rowGradient: null };
  const { dense, rows } = stages.unadapted({ ...input, weights });
  return { ...nothing, gradients: new Map(Object.entries(dense)), rowGradient: packIn(rows) };
}

/** The states before every inner step and after the last, and the losses before the first. */
function walked(
  stages: AdaptationStages,
  { innerSteps }: InnerLoop,
  input: BatchInput,
  shared: TrunkPass,
): { path: LoopState[]; losses: tfjs.Tensor1D | null } {
  let state = stages.start(input);
  let losses: tfjs.Tensor1D | null = null;
  const path = [state];
  for (let index = 0; index < innerSteps; index += 1) {
    const moved = stages.step(index)({ ...input, shared, state });
    if (losses === null) losses = moved.losses;
    else moved.losses.dispose();
    // Without personal blocks there is nothing to move, and no step to go back.
    if (Object.keys(state).length === 0) break;
    state = moved.state;
    path.push(state);
  }
  return { path, losses };
}

/** Takes both over. */
function sumOf(tf: typeof tfjs, sum: NamedTensors, part: NamedTensors): NamedTensors {
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
