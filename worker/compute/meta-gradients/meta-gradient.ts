/** The outer gradient of a micro-batch of tasks: chooses the path that computes a plan's gradient. */

import type * as tfjs from '@tensorflow/tfjs';
import { assertNever } from '../../../shared/base/errors.js';
import type { MethodPlan } from '../../../shared/methods/inner-loop/method.js';
import type { AdaptationStages } from './adaptation-stages.js';
import { withColdTerm } from './cold-term.js';
import { displacementGradient } from './displacement-path.js';
import { implicitGradient } from './implicit-path.js';
import { keptGradient, type DerivedPlan } from './kept-path.js';
import type { BatchInput, JobTensors, MetaGradientResult, TaskWeights } from './passes.js';
import { recomputedGradient, unadaptedStage } from './recomputed-path.js';
import { unadaptedGradient } from './unadapted.js';

export function metaGradient(
  plan: MethodPlan,
  job: JobTensors,
  taskWeights: TaskWeights,
): MetaGradientResult {
  const { tf } = job.engine;
  const { cold, outer } = plan;
  if (outer.kind === 'derivative' && cold !== null && readsColdLosses(plan, outer.order))
    return keptGradient(job, derivedPlan(plan, outer.order), {
      warm: tf.mul<tfjs.Tensor1D>(taskWeights.warm, 1 - cold.share),
      cold: tf.mul<tfjs.Tensor1D>(taskWeights.cold, cold.share),
      steps: taskWeights.steps,
    });
  return withColdTerm(tf, taskWeights, cold, {
    warm: (weights) => adaptedGradient(job, plan, weights, taskWeights.steps),
    unadapted: (weights) => unadaptedGradient(job, plan, weights),
  });
}

/** The first inner step computes the losses of a cold term on support rows, unless it sees a minibatch. */
function readsColdLosses({ innerLoop, cold }: MethodPlan, order: 'first' | 'second'): boolean {
  return cold?.rows === 'support' && order === 'second' && innerLoop.steps.supportBatches === 1;
}

function derivedPlan({ innerLoop, cold }: MethodPlan, order: 'first' | 'second'): DerivedPlan {
  return { innerLoop, cold, order };
}

function adaptedGradient(
  job: JobTensors,
  plan: MethodPlan,
  weights: tfjs.Tensor1D,
  stepWeights?: tfjs.Tensor1D,
): MetaGradientResult {
  const { outer, innerLoop } = plan;
  switch (outer.kind) {
    case 'unadapted':
      return unadaptedGradient(job, plan, weights);
    case 'derivative':
      return keptGradient(job, derivedPlan(plan, outer.order), {
        warm: weights,
        steps: stepWeights,
      });
    case 'displacement':
      return displacementGradient(job, innerLoop, outer, weights);
    case 'implicit':
      return implicitGradient(job, innerLoop, outer, weights);
    default:
      return assertNever(outer);
  }
}

/** A micro-batch as a captured function takes it, and as a path reads it. */
interface StagedJob {
  readonly job: JobTensors;
  readonly batch: BatchInput;
}

/** The gradient of a plan that runs in stages, one after the other. */
export function metaGradientInStages(
  plan: MethodPlan,
  { job, batch }: StagedJob,
  taskWeights: TaskWeights,
  stages: AdaptationStages,
): MetaGradientResult {
  const { support, query } = batch.batches;
  const hasBoth = support !== undefined && query !== undefined;
  const { tf } = job.engine;
  const { steps: stepWeights } = taskWeights;
  return withColdTerm(tf, taskWeights, plan.cold, {
    warm: (weights) =>
      hasBoth
        ? recomputedGradient(tf, stages, plan.innerLoop.steps.count, {
            ...{ batch, weights, stepWeights },
          })
        : keptGradient(job, derivedPlan(plan, 'second'), { warm: weights, steps: stepWeights }),
    unadapted: (weights) => unadaptedStage(stages, plan, batch, weights),
  });
}

export function runsInStages({ innerLoop, outer }: MethodPlan): boolean {
  return (
    outer.kind === 'derivative' &&
    outer.order === 'second' &&
    outer.path === 'recomputed' &&
    innerLoop.steps.count > 0
  );
}
