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
  startState,
  steppedState,
  supportGradient,
  type LoopState,
} from './inner-loop.js';
import { gradientsOf, packGroup, packIn, type NamedTensors } from './named-tensors.js';
import {
  logitsOf,
  lossesOf,
  passOf,
  trunkOf,
  type JobTensors,
  type MetaGradientResult,
  type Pass,
} from './passes.js';

export function keptGradient(
  job: JobTensors,
  loop: InnerLoop,
  weights: tfjs.Tensor1D,
): MetaGradientResult {
  const support = passOf(job, 'support', true);
  const query = passOf(job, 'query', true);
  if (query === null) return withoutQuery(job, loop, support);
  const recorded = loop.order === 'first' ? adapted(job, loop, support, null) : null;
  const compute = (): tfjs.Tensor[] => {
    const { state, losses } = adapted(job, loop, support, recorded?.gradients ?? null);
    const blocks = blocksOf(adaptingTasksOf(job), state);
    const queryLosses = lossesOf(query, logitsOf(query, trunkOf(query), blocks));
    return losses === null ? [queryLosses] : [queryLosses, losses];
  };
  const inputs = { dense: Object.fromEntries(job.dense), rows: packGroup(job.rows) };
  const { results, gradients } = gradientsOf(job.engine.tf, compute, inputs, [weights]);
  const [queryLosses = null, supportLosses = recorded?.losses ?? null] = results as tfjs.Tensor1D[];
  return {
    gradients: new Map(Object.entries(gradients.dense)),
    rowGradient: packIn(gradients.rows),
    queryLosses,
    supportLosses,
  };
}

/** No gradient; the support loss is reported all the same. */
function withoutQuery(job: JobTensors, loop: InnerLoop, support: Pass | null): MetaGradientResult {
  const { losses } = adapted(job, { ...loop, innerSteps: 1 }, support, null);
  return { gradients: new Map(), rowGradient: null, queryLosses: null, supportLosses: losses };
}

interface Adapted {
  readonly state: LoopState;
  /** Support losses before the first step; null when they were not computed. */
  readonly losses: tfjs.Tensor1D | null;
  /** By step. */
  readonly gradients: readonly NamedTensors[];
}

/** @param recorded scaled gradients by step, to be stepped along instead of computing them. */
function adapted(
  job: JobTensors,
  loop: InnerLoop,
  support: Pass | null,
  recorded: readonly NamedTensors[] | null,
): Adapted {
  const tasks = adaptingTasksOf(job);
  let state = startState(loop, tasks);
  if (support === null) return { state, losses: null, gradients: [] };
  const shared = recorded === null ? trunkOf(support) : null;
  let losses: tfjs.Tensor1D | null = null;
  const gradients: NamedTensors[] = [];
  for (let step = 0; step < loop.innerSteps; step += 1) {
    let along = recorded?.[step];
    if (shared !== null) {
      const found = supportGradient(support, shared, blocksOf(tasks, state), loop.innerRate);
      losses ??= found.losses;
      along = found.scaledGradients;
    }
    if (along === undefined) throw new Error(`inner step ${step} was not recorded`);
    gradients.push(along);
    state = steppedState(loop, tasks, state, along, step);
  }
  return { state, losses, gradients };
}
