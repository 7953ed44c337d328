/**
 * The outer gradient of a micro-batch of tasks. After adaptation,
 *
 *   phi_i = start, then steps along v_s = innerRate * grad L(phi ; S_i)
 *   g     = sum_i w_i * grad L(phi_i ; Q_i)
 *
 * In second order, one tape covers everything. In first order, the v_s are recorded beforehand and are
 * constants of the tape, which then covers starts, steps and the query loss. So the variables that a
 * method learns there (gates, generators) have a gradient in either order.
 *
 * Before any adaptation, over support and query rows alike (or support rows alone),
 *
 *   g = sum_i w_i * grad L(start_i ; S_i and Q_i)
 *
 * which is the whole gradient of a method whose tasks do not adapt, and the cold term of one whose tasks
 * do. Where all tasks start alike, no task has blocks of its own, and rows lie flat.
 */

import type * as tfjs from '@tensorflow/tfjs';
import {
  adapts,
  type ColdTerm,
  type MethodPlan,
  type OuterGradient,
} from '../../../shared/methods/inner-loop/method.js';
import {
  learnedInputs,
  lossesOf,
  logitsOf,
  passOf,
  withTrunk,
  gradientsOf,
  packIn,
  type JobTensors,
  type MetaGradientResult,
  type TaskWeights,
  type Pass,
  type RowsWithTrunk,
  type TensorsByName,
} from './passes.js';
import type { InnerLoop } from '../../../shared/methods/inner-loop/inner-loop.js';
import {
  adaptingTasksOf,
  blocksOf,
  startState,
  ratesOf,
  steppedState,
  stepGradient,
  type LoopState,
} from './inner-loop.js';
import { scoredLogits, scoredState } from './moderated-logits.js';
import type { RowRole } from '../models/row-batch.js';

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
function readsColdLosses({ cold }: MethodPlan, order: Order): boolean {
  return cold?.rows === 'support' && order === 'second';
}

function derivedPlan({ innerLoop, cold }: MethodPlan, order: Order): DerivedPlan {
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

function unadaptedRoleOf({
  innerLoop,
  cold,
}: Pick<MethodPlan, 'innerLoop' | 'cold'>): 'all' | 'flat' | 'support' {
  if (cold?.rows === 'support') return 'support';
  return isOwnAtStart(innerLoop) ? 'all' : 'flat';
}

/** Returns whether tasks have blocks of their own before any step. */
function isOwnAtStart({ start, variances }: InnerLoop): boolean {
  return start !== undefined || variances !== undefined;
}

/** The query losses of tasks that have taken no step, `[taskCount]`. Their starts are those that steps begin from. */
export function unadaptedQueryLosses(job: JobTensors, loop: InnerLoop): tfjs.Tensor1D {
  const query = passOf(job, 'query', true);
  if (query === null) throw new Error('a query loss has query rows');
  return lossesOf(query, scoredLogits(withTrunk(query), unadaptedState(job, loop)));
}

function unadaptedState(job: JobTensors, loop: InnerLoop): LoopState {
  const tasks = adaptingTasksOf(job);
  const rates = ratesOf(loop, tasks);
  return scoredState(loop, tasks, startState(loop, tasks), { rows: null, rates });
}

/** The reported losses are over all rows; those before and after adaptation are the same. */
function unadaptedGradient(
  job: JobTensors,
  plan: Pick<MethodPlan, 'innerLoop' | 'cold'>,
  taskWeights: tfjs.Tensor1D,
): MetaGradientResult {
  const loop = plan.innerLoop;
  const isOwn = isOwnAtStart(loop);
  const all = passOf(job, unadaptedRoleOf(plan), isOwn);
  if (all === null)
    return { gradients: new Map(), rowGradient: null, queryLosses: null, supportLosses: null };
  const compute = (): tfjs.Tensor[] => {
    const rows = withTrunk(all);
    return [
      lossesOf(
        all,
        isOwn
          ? scoredLogits(rows, unadaptedState(beforeSupport(job, loop), loop))
          : logitsOf(rows, new Map()),
      ),
    ];
  };
  const { results, gradients } = gradientsOf(job.engine.tf, compute, learnedInputs(job), [
    taskWeights,
  ]);
  const losses = results[0] as tfjs.Tensor1D;
  return {
    gradients: new Map(Object.entries(gradients.dense)),
    rowGradient: packIn(gradients.rows),
    queryLosses: losses,
    supportLosses: losses,
  };
}

/** A start that reads support rows would know the labels that are judged: it is given none. */
function beforeSupport(job: JobTensors, { reads }: InnerLoop): JobTensors {
  if (reads.supportFields !== true) return job;
  return { ...job, batchOf: (role) => (role === 'support' ? null : job.batchOf(role)) };
}

/** The roles whose rows the outer gradient reads. */
export function rolesOf(plan: MethodPlan): readonly RowRole[] {
  if (!adapts(plan)) return [unadaptedRoleOf(plan)];
  const roles = new Set<RowRole>(['support', 'query']);
  if (plan.cold !== null) roles.add(unadaptedRoleOf(plan));
  return [...roles, ...rolesBesideOf(plan.innerLoop)];
}

/** The roles whose rows the query loss before the first inner step reads. */
export function rolesBeforeSteps({ reads, start }: InnerLoop): ReadonlySet<string> {
  const ofStart = start === undefined ? [] : [...rolesBesideOf({ reads }), 'support'];
  return new Set(['query', ...ofStart]);
}

/** The roles whose rows an inner loop reads beside those that are learned from or judged. */
export function rolesBesideOf({ reads }: Pick<InnerLoop, 'reads'>): RowRole[] {
  return reads.attributes === true ? ['first'] : [];
}

/** A plan whose outer gradient is a derivative. */
interface DerivedPlan extends Pick<MethodPlan, 'innerLoop' | 'cold'> {
  readonly order: Order;
}

type Order = Extract<OuterGradient, { kind: 'derivative' }>['order'];

interface KeptWeights {
  /** `[taskCount]` */
  readonly warm: tfjs.Tensor1D;
  /** Weights of the support losses before the first step, in second order. */
  readonly cold?: tfjs.Tensor1D;
}

function keptGradient(
  job: JobTensors,
  plan: DerivedPlan,
  { warm, cold }: KeptWeights,
): MetaGradientResult {
  const support = passOf(job, 'support', true);
  const query = passOf(job, 'query', true);
  if (query === null) return withoutQuery(job, plan, support, cold);
  const before =
    plan.order === 'last-step' && support !== null ? allButLast(job, plan, support) : null;
  const loop = before?.loop ?? plan.innerLoop;
  const recorded = plan.order === 'first' ? adapted(job, loop, support, null) : null;
  const compute = (): tfjs.Tensor[] => {
    const { losses, ...after } = adapted(job, loop, support, recorded);
    const tasks = adaptingTasksOf(job);
    const rates = ratesOf(loop, tasks);
    const state = scoredState(loop, tasks, after.state, { rows: after.rows, rates });
    const queryLosses = lossesOf(query, scoredLogits(withTrunk(query), state));
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
    supportLosses:
      before?.losses ?? (results[1] as tfjs.Tensor1D | undefined) ?? recorded?.losses ?? null,
  };
}

/** The loop of the last step alone, which begins where all others end, and the support losses before the first one. */
function allButLast(
  job: JobTensors,
  { innerLoop }: DerivedPlan,
  support: Pass,
): { readonly loop: InnerLoop; readonly losses: tfjs.Tensor1D | null } {
  const { count, rate } = innerLoop.steps;
  const first = { ...innerLoop, steps: { rate, count: count - 1 } };
  const { state, losses } = adapted(job, first, support, null);
  return { loop: { ...innerLoop, start: () => state, steps: { rate, count: 1 } }, losses };
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
  /** The support rows; null where there are none, and where gradients were recorded. */
  readonly rows: RowsWithTrunk | null;
  /** Support losses before the first step; null when they were not computed. */
  readonly losses: tfjs.Tensor1D | null;
  /** By step. */
  readonly gradients: readonly TensorsByName[];
}

/** @param recorded an earlier run whose gradients are taken instead of computing them. */
function adapted(
  job: JobTensors,
  loop: InnerLoop,
  support: Pass | null,
  recorded: Adapted | null,
): Adapted {
  const tasks = adaptingTasksOf(job);
  let state = startState(loop, tasks);
  // Without support rows all steps end where they began.
  if (support === null) return { state, rows: null, losses: null, gradients: [] };
  const rows = recorded === null ? withTrunk(support) : null;
  const rates = ratesOf(loop, tasks);
  let losses: tfjs.Tensor1D | null = null;
  if (loop.steps.count === 0) {
    if (rows !== null) losses = lossesOf(support, logitsOf(rows, blocksOf(tasks, state)));
    return { state, rows, losses, gradients: [] };
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
    state = steppedState(loop, tasks, state, { scaledGradients: along, rates, rows });
  }
  return { state, rows, losses, gradients };
}
