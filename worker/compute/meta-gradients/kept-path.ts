/**
 * The outer gradient, with everything that the inner steps computed kept.
 *
 *   phi_i = start, then steps along v_s = innerRate * grad L(phi ; S_i)
 *   g     = sum_i w_i * grad L(phi_i ; Q_i)
 *
 * In second order, one tape covers everything. In first order, the v_s are recorded beforehand and are
 * constants of the tape, which then covers starts, steps and the query loss. So the variables that a
 * method learns there (rates, gates, generators) have a gradient in either order.
 */

import type * as tfjs from '@tensorflow/tfjs';
import type { InnerLoop } from '../../../shared/methods/inner-loop/inner-loop.js';
import type { MethodPlan } from '../../../shared/methods/inner-loop/method.js';
import { adaptingTasksOf } from './adapting-tasks.js';
import {
  blocksOf,
  ratesOf,
  startState,
  steppedState,
  stepGradient,
  type LoopState,
} from './inner-loop.js';
import { shiftedBy, type ShiftBasis } from './shift-by-level.js';
import { gradientsOf, packIn, type TensorsByName } from './tensors-by-name.js';
import {
  learnedInputs,
  logitsOf,
  lossesOf,
  passOf,
  withTrunk,
  type JobTensors,
  type MetaGradientResult,
  type Pass,
} from './passes.js';
import { unadaptedGradient } from './unadapted.js';

/** A plan whose outer gradient is a derivative. */
export interface DerivedPlan extends Pick<MethodPlan, 'innerLoop' | 'cold'> {
  readonly order: 'first' | 'second';
}

interface KeptWeights {
  /** `[taskCount]` */
  readonly warm: tfjs.Tensor1D;
  /** Weights of the support losses before the first step, in second order. */
  readonly cold?: tfjs.Tensor1D;
}

export function keptGradient(
  job: JobTensors,
  plan: DerivedPlan,
  { warm, cold }: KeptWeights,
): MetaGradientResult {
  const loop = plan.innerLoop;
  const support = passOf(job, 'support', true);
  const query = passOf(job, 'query', true);
  if (query === null) return withoutQuery(job, plan, support, cold);
  const recorded = plan.order === 'first' ? adapted(job, loop, support, null) : null;
  const compute = (): tfjs.Tensor[] => {
    const { state, basis, losses } = adapted(job, loop, support, recorded);
    const logits = logitsOf(withTrunk(query), blocksOf(adaptingTasksOf(job), state));
    const queryLosses = lossesOf(query, shiftedBy(loop.shift, basis, query, logits));
    return [queryLosses, ...(losses === null ? [] : [losses])];
  };
  const { results, gradients } = gradientsOf(job.engine.tf, compute, learnedInputs(job), [
    warm,
    cold ?? null,
  ]);
  return {
    gradients: new Map(Object.entries(gradients.dense)),
    rowGradient: packIn(gradients.rows),
    queryLosses: results[0] as tfjs.Tensor1D,
    supportLosses: (results[1] as tfjs.Tensor1D | undefined) ?? recorded?.losses ?? null,
  };
}

/** No gradient but that of a cold term; the support loss is reported all the same. */
function withoutQuery(
  job: JobTensors,
  plan: DerivedPlan,
  support: Pass | null,
  cold: tfjs.Tensor1D | undefined,
): MetaGradientResult {
  if (cold !== undefined) return { ...unadaptedGradient(job, plan, cold), queryLosses: null };
  const { innerLoop } = plan;
  const loop = { ...innerLoop, steps: { ...innerLoop.steps, count: 1 } };
  const { losses } = adapted(job, loop, support, null);
  return { gradients: new Map(), rowGradient: null, queryLosses: null, supportLosses: losses };
}

/** After the inner steps on the support rows. */
interface Adapted {
  readonly state: LoopState;
  /** Null where no shift follows. */
  readonly basis: ShiftBasis | null;
  /** Support losses before the first step; null when they were not computed. */
  readonly losses: tfjs.Tensor1D | null;
  /** By step. */
  readonly gradients: readonly TensorsByName[];
}

/** @param recorded an earlier run whose gradients and shift basis are taken instead of computing them. */
function adapted(
  job: JobTensors,
  loop: InnerLoop,
  support: Pass | null,
  recorded: Adapted | null,
): Adapted {
  const tasks = adaptingTasksOf(job);
  let state = startState(loop, tasks);
  // Without support rows all steps end where they began.
  if (support === null) return { state, basis: null, losses: null, gradients: [] };
  const rows = recorded === null ? withTrunk(support) : null;
  const rates = ratesOf(loop, tasks);
  let losses: tfjs.Tensor1D | null = null;
  if (loop.steps.count === 0) {
    if (rows !== null) losses = lossesOf(support, logitsOf(rows, blocksOf(tasks, state)));
    return { state, basis: null, losses, gradients: [] };
  }
  const gradients: TensorsByName[] = [];
  for (let stepIndex = 0; stepIndex < loop.steps.count; stepIndex += 1) {
    let along = recorded?.gradients[stepIndex];
    if (rows !== null) {
      const found = stepGradient(rows, state, rates);
      losses ??= found.losses;
      along = found.scaledGradients;
    }
    if (along === undefined) throw new Error(`inner step ${stepIndex} was not recorded`);
    gradients.push(along);
    state = steppedState(loop, tasks, state, { scaledGradients: along, rates });
  }
  const basis =
    loop.shift !== null && rows !== null
      ? { support, logits: logitsOf(rows, blocksOf(tasks, state)) }
      : (recorded?.basis ?? null);
  return { state, basis, losses, gradients };
}
