/**
 * The outer gradient with all that the inner steps computed at hand.
 *
 *   phi_i = start, then steps along v_s = innerRate * grad L(phi ; S_i)
 *   g     = sum_i w_i * grad L(phi_i ; Q_i)
 *
 * or, of a multi-step loss, of sum_s omega_s L(phi_i after s steps ; Q_i) in place of L(phi_i ; Q_i).
 *
 * In second order one tape runs over everything. In first order the v_s are recorded beforehand and
 * constants of the tape, which then holds starts, steps and the query loss: what a method learns in
 * them (rates, gates, generators) has its gradient in either order.
 */

import type * as tfjs from '@tensorflow/tfjs';
import type { InnerLoop } from '../../../shared/methods/inner-loop/method.js';
import { adaptingTasksOf } from './adapting-tasks.js';
import {
  blocksOf,
  ratesOf,
  startState,
  steppedState,
  stepGradient,
  type LoopState,
} from './inner-loop.js';
import { shiftedBy } from './shift-by-level.js';
import { gradientsOf, packIn, type NamedTensors } from './named-tensors.js';
import {
  learnedInputs,
  logitsOf,
  lossesOf,
  passOf,
  trunkOf,
  type JobTensors,
  type MetaGradientResult,
  type Pass,
} from './passes.js';
import { unadaptedGradient } from './unadapted.js';

/**
 * @param coldWeights of the support losses before the first step, in second order.
 * @param stepWeights `[innerSteps]`: see `TaskWeights`.
 */
export function keptGradient(
  job: JobTensors,
  loop: InnerLoop,
  weights: tfjs.Tensor1D,
  coldWeights: tfjs.Tensor1D | null = null,
  stepWeights?: tfjs.Tensor1D,
): MetaGradientResult {
  const { tf } = job.engine;
  const support = passOf(job, 'support', true);
  const query = passOf(job, 'query', true);
  if (query === null) return withoutQuery(job, loop, support, coldWeights);
  // Without support rows all steps end where they began.
  const isMultiStep = stepWeights !== undefined && support !== null;
  const recorded = loop.order === 'first' ? adapted(job, loop, support, isMultiStep, null) : null;
  const compute = (): tfjs.Tensor[] => {
    const { ends, losses } = adapted(job, loop, support, isMultiStep, recorded);
    const shared = trunkOf(query);
    const queryLosses = ends.map(({ state, supportLogits }) => {
      const logits = logitsOf(query, shared, blocksOf(adaptingTasksOf(job), state));
      return lossesOf(query, shiftedBy(loop, support, supportLogits, query, logits));
    });
    // The last one first.
    return [...queryLosses.reverse(), ...(losses === null ? [] : [losses])];
  };
  const endWeights = isMultiStep
    ? stepsOf(loop).map((step) => weightsAfter(tf, weights, stepWeights, step))
    : [weights];
  const { results, gradients } = gradientsOf(tf, compute, learnedInputs(job), [
    ...endWeights.reverse(),
    coldWeights,
  ]);
  return {
    gradients: new Map(Object.entries(gradients.dense)),
    rowGradient: packIn(gradients.rows),
    queryLosses: results[0] as tfjs.Tensor1D,
    supportLosses:
      (results[endWeights.length] as tfjs.Tensor1D | undefined) ?? recorded?.losses ?? null,
  };
}

/** Of the query losses after step `stepIndex`, `[taskCount]`. */
export function weightsAfter(
  tf: typeof tfjs,
  weights: tfjs.Tensor1D,
  stepWeights: tfjs.Tensor1D,
  stepIndex: number,
): tfjs.Tensor1D {
  return tf.mul(weights, tf.slice(stepWeights, [stepIndex], [1]));
}

/** No gradient but that of a cold term; the support loss is reported all the same. */
function withoutQuery(
  job: JobTensors,
  loop: InnerLoop,
  support: Pass | null,
  coldWeights: tfjs.Tensor1D | null,
): MetaGradientResult {
  if (coldWeights !== null)
    return { ...unadaptedGradient(job, loop, coldWeights), queryLosses: null };
  const { losses } = adapted(job, { ...loop, innerSteps: 1 }, support, false, null);
  return { gradients: new Map(), rowGradient: null, queryLosses: null, supportLosses: losses };
}

interface End {
  readonly state: LoopState;
  /** Of the support rows under that state; null without a level shift. */
  readonly supportLogits: tfjs.Tensor2D | null;
}

interface Adapted {
  /** After each step, or after the last one alone. */
  readonly ends: readonly End[];
  /** Support losses before the first step; null when they were not computed. */
  readonly losses: tfjs.Tensor1D | null;
  /** By step. */
  readonly gradients: readonly NamedTensors[];
}

/** @param recorded what is to be taken from an earlier run instead of computing it. */
function adapted(
  job: JobTensors,
  loop: InnerLoop,
  support: Pass | null,
  isMultiStep: boolean,
  recorded: Adapted | null,
): Adapted {
  const tasks = adaptingTasksOf(job);
  let state = startState(loop, tasks);
  if (support === null)
    return { ends: [{ state, supportLogits: null }], losses: null, gradients: [] };
  const shared = recorded === null ? trunkOf(support) : null;
  const rates = ratesOf(loop, tasks);
  let losses: tfjs.Tensor1D | null = null;
  if (loop.innerSteps === 0) {
    if (shared !== null)
      losses = lossesOf(support, logitsOf(support, shared, blocksOf(tasks, state)));
    return { ends: [{ state, supportLogits: null }], losses, gradients: [] };
  }
  const gradients: NamedTensors[] = [];
  const ends: End[] = [];
  for (const step of stepsOf(loop)) {
    let along = recorded?.gradients[step];
    if (shared !== null) {
      const found = stepGradient(loop, support, shared, state, rates, step);
      losses ??= found.losses;
      along = found.scaledGradients;
    }
    if (along === undefined) throw new Error(`inner step ${step} was not recorded`);
    gradients.push(along);
    state = steppedState(loop, tasks, state, along, rates, step);
    if (!isMultiStep && step < loop.innerSteps - 1) continue;
    const supportLogits =
      loop.levelShift !== false && shared !== null
        ? logitsOf(support, shared, blocksOf(tasks, state))
        : (recorded?.ends[ends.length]?.supportLogits ?? null);
    ends.push({ state, supportLogits });
  }
  return { ends, losses, gradients };
}

function stepsOf({ innerSteps }: InnerLoop): number[] {
  return Array.from({ length: innerSteps }, (_, step) => step);
}
