/** The outer gradient of a micro-batch of tasks: chooses the path that computes a plan's gradient. */

import type * as tfjs from '@tensorflow/tfjs';
import { assertNever } from '../../../shared/base/errors.js';
import type {
  MethodPlan,
  OuterGradient,
  ColdTerm,
} from '../../../shared/methods/inner-loop/method.js';
import type { AdaptationStages } from './adaptation-stages.js';
import { implicitGradient } from './implicit-path.js';
import { keptGradient, type DerivedPlan } from './kept-path.js';
import {
  type BatchInput,
  type JobTensors,
  type MetaGradientResult,
  type TaskWeights,
  passOf,
} from './passes.js';
import { recomputedGradient, unadaptedStage } from './recomputed-path.js';
import { unadaptedGradient } from './unadapted.js';
import type { InnerLoop } from '../../../shared/methods/inner-loop/inner-loop.js';
import { adaptingTasksOf } from './adapting-tasks.js';
import { byTask, descended, startState, type LoopState } from './inner-loop.js';
import { named } from './tensors-by-name.js';
import { queryGradientAt } from './query-gradient.js';

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

type Displacement = Extract<OuterGradient, { kind: 'displacement' }>;

function displacementGradient(
  job: JobTensors,
  loop: InnerLoop,
  { continuesOnQuery }: Displacement,
  weights: tfjs.Tensor1D,
): MetaGradientResult {
  const { tf } = job.engine;
  const { personal } = adaptingTasksOf(job);
  const support = passOf(job, 'support', true);
  const query = passOf(job, 'query', true);
  const start = startState(loop, adaptingTasksOf(job));
  const adapted = support === null ? null : descended(loop, support, start);
  let end: LoopState = adapted?.state ?? start;
  if (continuesOnQuery && query !== null) end = descended(loop, query, end).state;
  const moved = personal.map((name): [string, tfjs.Tensor] => {
    const displacement = tf.sub(named(start, name), named(end, name));
    return [name, tf.sum(tf.mul(displacement, byTask(tf, weights, displacement.rank)), 0)];
  });
  const rest =
    query === null ? null : queryGradientAt(job, loop, { support, query, state: end }, weights);
  return {
    gradients: new Map([...Object.entries(rest?.dense ?? {}), ...moved]),
    rowGradient: rest?.rows ?? null,
    queryLosses: rest?.losses ?? null,
    supportLosses: adapted?.losses ?? null,
  };
}

/** Gradients for given weights of the tasks. */
interface GradientTerms {
  /** After adaptation, for the weights `(1 - c) w_i`. */
  readonly warm: (weights: tfjs.Tensor1D) => MetaGradientResult;
  /** Before adaptation, for the weights `c v_i`. */
  readonly unadapted: (weights: tfjs.Tensor1D) => MetaGradientResult;
}

function withColdTerm(
  tf: typeof tfjs,
  taskWeights: TaskWeights,
  term: ColdTerm | null,
  { warm, unadapted }: GradientTerms,
): MetaGradientResult {
  if (term === null) return warm(taskWeights.warm);
  const adapted = warm(tf.mul<tfjs.Tensor1D>(taskWeights.warm, 1 - term.share));
  const cold = unadapted(tf.mul<tfjs.Tensor1D>(taskWeights.cold, term.share));
  return {
    ...adapted,
    gradients: sumOf(tf, adapted.gradients, cold.gradients),
    rowGradient: addOrKeep(tf, adapted.rowGradient, cold.rowGradient),
  };
}

function sumOf(
  tf: typeof tfjs,
  warm: ReadonlyMap<string, tfjs.Tensor>,
  cold: ReadonlyMap<string, tfjs.Tensor>,
): ReadonlyMap<string, tfjs.Tensor> {
  const sum = new Map(warm);
  for (const [name, gradient] of cold) {
    const other = warm.get(name);
    sum.set(name, other === undefined ? gradient : tf.add(other, gradient));
  }
  return sum;
}

function addOrKeep(
  tf: typeof tfjs,
  warm: tfjs.Tensor2D | null,
  cold: tfjs.Tensor2D | null,
): tfjs.Tensor2D | null {
  return warm === null || cold === null ? (warm ?? cold) : tf.add<tfjs.Tensor2D>(warm, cold);
}
