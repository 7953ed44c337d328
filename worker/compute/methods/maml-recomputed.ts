/** Carries the adjoint of second-order MAML back through the stages of `maml-stages.ts`. */

import type * as tfjs from '@tensorflow/tfjs';
import type { BatchTensors } from '../models/batch-tensors.js';
import { variableOf, type Variables } from '../models/fields.js';
import type { TrunkPass } from '../models/forward.js';
import {
  named,
  packIn,
  type MamlStages,
  type NamedTensors,
  type StepInput,
} from './maml-stages.js';
import { personalCopies, type JobTensors, type MethodResult, type Pass } from './method.js';

export interface RecomputedInput {
  readonly support: Pass;
  readonly query: Pass;
  readonly weights: tfjs.Tensor1D;
  readonly innerSteps: number;
}

export function recomputedGradient(stages: MamlStages, input: RecomputedInput): MethodResult {
  const { support, query, weights, innerSteps } = input;
  const { job, plan } = query;
  const { tf } = job.engine;
  const inputs = {
    trunk: Object.fromEntries(plan.trunk.map((name) => [name, variableOf(job.dense, name)])),
    ...(job.rows === null ? {} : { rows: job.rows }),
  };
  const shared = stages.supportTrunk({ ...inputs, batch: support.data });
  const { path, losses } = walked(stages, support, shared, inputs.trunk, innerSteps);
  const end = path.pop() ?? {};
  const { losses: queryLosses, ...gradient } = stages.query({
    ...{ ...inputs, batch: query.data, personal: end, weights },
  });
  tf.dispose({ ...end });
  let { trunk, rows, personal: adjoint } = gradient;
  let sharedAdjoint: NamedTensors = {};
  // From the last step to the first: blocks and adjoints go as soon as they have been used.
  for (let before = path.pop(); before !== undefined; before = path.pop()) {
    const step = stages.stepAdjoint({
      ...stepInput(support.data, shared, inputs.trunk, before),
      adjoint,
    });
    tf.dispose([{ ...before }, { ...adjoint }]);
    adjoint = step.personal;
    trunk = sumOf(tf, trunk, step.trunk);
    sharedAdjoint = sumOf(tf, sharedAdjoint, step.shared);
  }
  tf.dispose({ ...shared });
  if (Object.keys(sharedAdjoint).length > 0) {
    const through = stages.supportTrunkAdjoint({
      ...inputs,
      batch: support.data,
      adjoint: sharedAdjoint,
    });
    trunk = sumOf(tf, trunk, through.trunk);
    rows = sumOf(tf, rows, through.rows);
  }
  return {
    gradients: new Map(
      [...plan.trunk, ...plan.personal].map((name) => [
        name,
        plan.personal.has(name) ? tf.sum(named(adjoint, name), 0) : named(trunk, name),
      ]),
    ),
    rowGradient: packIn(rows),
    queryLosses,
    supportLosses: losses,
  };
}

/** The global method as a stage. */
export function unadaptedGradient(
  stages: MamlStages,
  job: JobTensors,
  weights: tfjs.Tensor1D,
): MethodResult {
  const batch = job.batchOf('all');
  const nothing = { gradients: new Map(), rowGradient: null };
  const losses = { queryLosses: null, supportLosses: null };
  if (batch === null) return { ...nothing, ...losses };
  const { trunk, rows } = stages.unadapted({
    trunk: Object.fromEntries(job.dense),
    ...(job.rows === null ? {} : { rows: job.rows }),
    ...{ batch, weights },
  });
  return { gradients: new Map(Object.entries(trunk)), rowGradient: packIn(rows), ...losses };
}

/** The blocks before every inner step and after the last, and the losses before the first. */
function walked(
  stages: MamlStages,
  { job, plan, data }: Pass,
  shared: TrunkPass,
  trunk: NamedTensors,
  innerSteps: number,
): { path: NamedTensors[]; losses: tfjs.Tensor1D | null } {
  const copies: Variables = personalCopies(job, plan);
  let personal: NamedTensors = Object.fromEntries(copies);
  let losses: tfjs.Tensor1D | null = null;
  const path = [personal];
  for (let step = 0; step < innerSteps; step += 1) {
    const moved = stages.step(stepInput(data, shared, trunk, personal));
    if (losses === null) losses = moved.losses;
    else moved.losses.dispose();
    // Without personal blocks there is nothing to move, and no step to go back.
    if (plan.personal.size === 0) break;
    personal = moved.personal;
    path.push(personal);
  }
  return { path, losses };
}

function stepInput(
  { impressionShares, clickShares }: BatchTensors,
  shared: TrunkPass,
  trunk: NamedTensors,
  personal: NamedTensors,
): StepInput {
  return { trunk, shared, personal, batch: { impressionShares, clickShares } };
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
