/**
 * The outer gradient, with everything that the inner steps computed kept.
 *
 *   phi_i = start, then steps along v_s = innerRate * grad L(phi ; S_i)
 *   g     = sum_i w_i * grad L(phi_i ; Q_i)
 *
 * or, for a multi-step loss, with sum_s omega_s L(phi_i after s steps ; Q_i) instead of L(phi_i ; Q_i).
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
  type StepAt,
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
  /** `[innerSteps]`: see `TaskWeights`. */
  readonly steps?: tfjs.Tensor1D | undefined;
}

export function keptGradient(
  job: JobTensors,
  plan: DerivedPlan,
  { warm, cold, steps }: KeptWeights,
): MetaGradientResult {
  const { tf } = job.engine;
  const loop = plan.innerLoop;
  const support = passOf(job, 'support', true);
  const query = passOf(job, 'query', true);
  if (query === null) return withoutQuery(job, plan, support, cold);
  // Without support rows all steps end where they began.
  const isMultiStep = steps !== undefined && support !== null;
  const walk: Walk = { loop, support, isMultiStep };
  const recorded = plan.order === 'first' ? adapted(job, walk, null) : null;
  const compute = (): tfjs.Tensor[] => {
    const { ends, losses } = adapted(job, walk, recorded);
    const rows = withTrunk(query);
    const queryLosses = ends.map(({ state, basis }) => {
      const logits = logitsOf(rows, blocksOf(adaptingTasksOf(job), state));
      return lossesOf(query, shiftedBy(loop.shift, basis, query, logits));
    });
    // The last one first.
    return [...queryLosses.reverse(), ...(losses === null ? [] : [losses])];
  };
  const endWeights = isMultiStep
    ? stepsOf(loop).map((step) => weightsAfter(tf, warm, steps, step))
    : [warm];
  const { results, gradients } = gradientsOf(tf, compute, learnedInputs(job), [
    ...endWeights.reverse(),
    cold ?? null,
  ]);
  return {
    gradients: new Map(Object.entries(gradients.dense)),
    rowGradient: packIn(gradients.rows),
    queryLosses: results[0] as tfjs.Tensor1D,
    supportLosses:
      (results[endWeights.length] as tfjs.Tensor1D | undefined) ?? recorded?.losses ?? null,
  };
}

/** Weights of the query losses after step `stepIndex`, `[taskCount]`. */
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
  plan: DerivedPlan,
  support: Pass | null,
  cold: tfjs.Tensor1D | undefined,
): MetaGradientResult {
  if (cold !== undefined) return { ...unadaptedGradient(job, plan, cold), queryLosses: null };
  const { innerLoop } = plan;
  const loop = { ...innerLoop, steps: { ...innerLoop.steps, count: 1 } };
  const { losses } = adapted(job, { loop, support, isMultiStep: false }, null);
  return { gradients: new Map(), rowGradient: null, queryLosses: null, supportLosses: losses };
}

/** Inner steps on the support rows. */
interface Walk {
  readonly loop: InnerLoop;
  readonly support: Pass | null;
  /** True if the state after every step is judged, and not only the last one. */
  readonly isMultiStep: boolean;
}

interface End {
  readonly state: LoopState;
  /** Null where no shift follows. */
  readonly basis: ShiftBasis | null;
}

interface Adapted {
  readonly ends: readonly End[];
  /** Support losses before the first step; null when they were not computed. */
  readonly losses: tfjs.Tensor1D | null;
  /** By step. */
  readonly gradients: readonly TensorsByName[];
}

/** @param recorded an earlier run whose gradients and shift bases are taken instead of computing them. */
function adapted(
  job: JobTensors,
  { loop, support, isMultiStep }: Walk,
  recorded: Adapted | null,
): Adapted {
  const tasks = adaptingTasksOf(job);
  const { count } = loop.steps;
  let state = startState(loop, tasks);
  if (support === null) return { ends: [{ state, basis: null }], losses: null, gradients: [] };
  const rows = recorded === null ? withTrunk(support) : null;
  const rates = ratesOf(loop, tasks);
  let losses: tfjs.Tensor1D | null = null;
  if (count === 0) {
    if (rows !== null) losses = lossesOf(support, logitsOf(rows, blocksOf(tasks, state)));
    return { ends: [{ state, basis: null }], losses, gradients: [] };
  }
  const gradients: TensorsByName[] = [];
  const ends: End[] = [];
  for (const stepIndex of stepsOf(loop)) {
    const step: StepAt = { loop, stepIndex, rates };
    let along = recorded?.gradients[stepIndex];
    if (rows !== null) {
      const found = stepGradient(step, rows, state);
      losses ??= found.losses;
      along = found.scaledGradients;
    }
    if (along === undefined) throw new Error(`inner step ${stepIndex} was not recorded`);
    gradients.push(along);
    state = steppedState(step, tasks, state, along);
    if (!isMultiStep && stepIndex < count - 1) continue;
    const basis =
      loop.shift !== null && rows !== null
        ? { support, logits: logitsOf(rows, blocksOf(tasks, state)) }
        : (recorded?.ends[ends.length]?.basis ?? null);
    ends.push({ state, basis });
  }
  return { ends, losses, gradients };
}

function stepsOf({ steps }: InnerLoop): number[] {
  return Array.from({ length: steps.count }, (_, step) => step);
}
