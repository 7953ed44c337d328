/** The outer gradient of a micro-batch of tasks, whatever the method: which path computes it. */

import type * as tfjs from '@tensorflow/tfjs';
import type { InnerLoop, MethodPlan } from '../../../shared/methods/inner-loop/method.js';
import type { RowMultiples } from '../batches/micro-batches.js';
import type { RowRole } from '../batches/row-batch.js';
import type { AdaptationStages } from './adaptation-stages.js';
import { withColdTerm } from './cold-term.js';
import { displacementGradient } from './displacement-path.js';
import { implicitGradient } from './implicit-path.js';
import { keptGradient } from './kept-path.js';
import type { BatchInput, JobTensors, MetaGradientResult, TaskWeights } from './passes.js';
import { recomputedGradient, unadaptedStage } from './recomputed-path.js';
import { unadaptedGradient, unadaptedRoleOf } from './unadapted.js';

export function metaGradient(
  { innerLoop }: MethodPlan,
  job: JobTensors,
  taskWeights: TaskWeights,
): MetaGradientResult {
  if (innerLoop === null) return unadaptedGradient(job, null, taskWeights.warm);
  const { tf } = job.engine;
  const { coldShare } = innerLoop;
  // The first inner step computes these losses anyway, unless it sees a minibatch.
  if (
    coldShare > 0 &&
    innerLoop.coldRows === 'support' &&
    innerLoop.order === 'second' &&
    (innerLoop.supportBatches ?? 1) === 1
  )
    return keptGradient(
      job,
      innerLoop,
      tf.mul<tfjs.Tensor1D>(taskWeights.warm, 1 - coldShare),
      tf.mul<tfjs.Tensor1D>(taskWeights.cold, coldShare),
      taskWeights.steps,
    );
  return withColdTerm(
    tf,
    taskWeights,
    coldShare,
    (weights) => adaptedGradient(job, innerLoop, weights, taskWeights.steps),
    (weights) => unadaptedGradient(job, innerLoop, weights),
  );
}

function adaptedGradient(
  job: JobTensors,
  loop: InnerLoop,
  weights: tfjs.Tensor1D,
  stepWeights?: tfjs.Tensor1D,
): MetaGradientResult {
  const { outerGradient } = loop;
  switch (outerGradient?.kind) {
    case undefined:
      return keptGradient(job, loop, weights, null, stepWeights);
    case 'displacement':
      return displacementGradient(job, loop, outerGradient, weights);
    case 'implicit':
      return implicitGradient(job, loop, outerGradient, weights);
  }
}

/** The same in stages that run one after the other. */
export function metaGradientInStages(
  { innerLoop }: MethodPlan,
  job: JobTensors,
  input: BatchInput,
  taskWeights: TaskWeights,
  stages: AdaptationStages,
): MetaGradientResult {
  if (innerLoop === null) throw new Error('there are no stages without an inner loop');
  const { support, query } = input.batches;
  const hasBoth = support !== undefined && query !== undefined;
  return withColdTerm(
    job.engine.tf,
    taskWeights,
    innerLoop.coldShare,
    (weights) =>
      hasBoth
        ? recomputedGradient(job.engine.tf, stages, innerLoop, input, weights, taskWeights.steps)
        : keptGradient(job, innerLoop, weights, null, taskWeights.steps),
    (weights) => unadaptedStage(stages, innerLoop, input, weights),
  );
}

export function runsInStages({ innerLoop }: MethodPlan): boolean {
  return (
    innerLoop?.order === 'second' &&
    innerLoop.path === 'recomputed' &&
    innerLoop.innerSteps > 0 &&
    innerLoop.outerGradient === undefined
  );
}

/** Whether the sums over a task's support rows are read. */
export function readsSupportTotals({ innerLoop }: MethodPlan): boolean {
  if (innerLoop === null) return false;
  return innerLoop.levelShift !== false || innerLoop.reads?.supportTotals === true;
}

/** Rows that are seen in minibatches are a multiple of their number. */
export function rowMultiplesOf({ innerLoop, predictionLoop }: MethodPlan): RowMultiples {
  const batchCount = innerLoop?.supportBatches ?? 1;
  const outerGradient = innerLoop?.outerGradient;
  const continuesOnQuery = outerGradient?.kind === 'displacement' && outerGradient.continuesOnQuery;
  return {
    support: Math.max(batchCount, predictionLoop?.supportBatches ?? 1),
    query: continuesOnQuery ? batchCount : 1,
  };
}

/** The roles whose rows the outer gradient reads. */
export function rolesOf({ innerLoop }: MethodPlan): readonly RowRole[] {
  if (innerLoop === null) return [unadaptedRoleOf(null)];
  const roles = new Set<RowRole>(['support', 'query']);
  if (innerLoop.coldShare > 0) roles.add(unadaptedRoleOf(innerLoop));
  return [...roles, ...rolesBesideOf(innerLoop)];
}

/** The roles whose rows a method reads beside those that are learned from or judged. */
export function rolesBesideOf(innerLoop: InnerLoop | null): RowRole[] {
  const { attributes, neighbours } = innerLoop?.reads ?? {};
  return [
    ...(attributes === true ? (['first'] as const) : []),
    ...(neighbours === undefined ? [] : (['neighbours'] as const)),
  ];
}
