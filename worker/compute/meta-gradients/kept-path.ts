/**
 * The outer gradient with all that the inner steps computed at hand.
 *
 *   phi_i = start, then steps along v_s = innerRate * grad L(phi ; S_i)
 *   g     = sum_i w_i * grad L(phi_i ; Q_i)
 *
 * In second order one tape runs over everything. In first order the v_s are recorded beforehand and
 * constants of the tape, which then holds starts, steps and the query loss: what a method learns in
 * them (rates, gates, generators) has its gradient in either order.
 */

import type * as tfjs from '@tensorflow/tfjs';
import type { InnerLoop } from '../../../shared/methods/method.js';
import { adaptingTasksOf } from './adapting-tasks.js';
import {
  blocksOf,
  ratesOf,
  startState,
  steppedState,
  supportGradient,
  type LoopState,
} from './inner-loop.js';
import { shiftedBy } from './level-shift.js';
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

/** @param coldWeights of the support losses before the first step, in second order. */
export function keptGradient(
  job: JobTensors,
  loop: InnerLoop,
  weights: tfjs.Tensor1D,
  coldWeights: tfjs.Tensor1D | null = null,
): MetaGradientResult {
  const support = passOf(job, 'support', true);
  const query = passOf(job, 'query', true);
  if (query === null) return withoutQuery(job, loop, support, coldWeights);
  const recorded = loop.order === 'first' ? adapted(job, loop, support, null) : null;
  const compute = (): tfjs.Tensor[] => {
    const { state, losses, supportLogits } = adapted(job, loop, support, recorded);
    const blocks = blocksOf(adaptingTasksOf(job), state);
    const logits = logitsOf(query, trunkOf(query), blocks);
    const queryLosses = lossesOf(query, shiftedBy(loop, support, supportLogits, logits));
    return losses === null ? [queryLosses] : [queryLosses, losses];
  };
  const { results, gradients } = gradientsOf(job.engine.tf, compute, learnedInputs(job), [
    weights,
    coldWeights,
  ]);
  const [queryLosses = null, supportLosses = recorded?.losses ?? null] = results as tfjs.Tensor1D[];
  return {
    gradients: new Map(Object.entries(gradients.dense)),
    rowGradient: packIn(gradients.rows),
    queryLosses,
    supportLosses,
  };
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
  const { losses } = adapted(job, { ...loop, innerSteps: 1 }, support, null);
  return { gradients: new Map(), rowGradient: null, queryLosses: null, supportLosses: losses };
}

interface Adapted {
  readonly state: LoopState;
  /** Support losses before the first step; null when they were not computed. */
  readonly losses: tfjs.Tensor1D | null;
  /** By step. */
  readonly gradients: readonly NamedTensors[];
  /** Of the support rows after the last step; null without a level shift. */
  readonly supportLogits: tfjs.Tensor2D | null;
}

/** @param recorded what is to be taken from an earlier run instead of computing it. */
function adapted(
  job: JobTensors,
  loop: InnerLoop,
  support: Pass | null,
  recorded: Adapted | null,
): Adapted {
  const tasks = adaptingTasksOf(job);
  let state = startState(loop, tasks);
  if (support === null) return { state, losses: null, gradients: [], supportLogits: null };
  const shared = recorded === null ? trunkOf(support) : null;
  const rates = ratesOf(loop, tasks);
  let losses: tfjs.Tensor1D | null = null;
  const gradients: NamedTensors[] = [];
  for (let step = 0; step < loop.innerSteps; step += 1) {
    let along = recorded?.gradients[step];
    if (shared !== null) {
      const found = supportGradient(support, shared, blocksOf(tasks, state), rates);
      losses ??= found.losses;
      along = found.scaledGradients;
    }
    if (along === undefined) throw new Error(`inner step ${step} was not recorded`);
    gradients.push(along);
    state = steppedState(loop, tasks, state, along, rates, step);
  }
  const supportLogits =
    loop.levelShift && shared !== null
      ? logitsOf(support, shared, blocksOf(tasks, state))
      : (recorded?.supportLogits ?? null);
  return { state, losses, gradients, supportLogits };
}
