/** The outer gradient of a micro-batch of tasks: chooses the path that computes a plan's gradient. */

import type * as tfjs from '@tensorflow/tfjs';
import type { ColdTerm, MethodPlan } from '../../../shared/methods/inner-loop/method.js';
import { keptGradient, type DerivedPlan } from './kept-path.js';
import type { JobTensors, MetaGradientResult, TaskWeights } from './passes.js';
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
    });
  return withColdTerm(tf, taskWeights, cold, {
    warm: (weights) => adaptedGradient(job, plan, weights),
    unadapted: (weights) => unadaptedGradient(job, plan, weights),
  });
}

/** The first inner step computes the losses of a cold term on support rows. */
function readsColdLosses({ cold }: MethodPlan, order: 'first' | 'second'): boolean {
  return cold?.rows === 'support' && order === 'second';
}

function derivedPlan({ innerLoop, cold }: MethodPlan, order: 'first' | 'second'): DerivedPlan {
  return { innerLoop, cold, order };
}

function adaptedGradient(
  job: JobTensors,
  plan: MethodPlan,
  weights: tfjs.Tensor1D,
): MetaGradientResult {
  const { outer } = plan;
  return outer.kind === 'unadapted'
    ? unadaptedGradient(job, plan, weights)
    : keptGradient(job, derivedPlan(plan, outer.order), { warm: weights });
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
