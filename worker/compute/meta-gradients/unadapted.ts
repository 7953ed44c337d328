/**
 * The gradient before any adaptation, over support and query rows alike (or support rows alone),
 *
 *   g = sum_i w_i * grad L(start_i ; S_i and Q_i)
 *
 * This is the whole gradient of a method whose tasks do not adapt, and the cold term of one whose
 * tasks do. Where all tasks start alike, no task has blocks of its own, and rows lie flat.
 */

import type * as tfjs from '@tensorflow/tfjs';
import type { InnerLoop } from '../../../shared/methods/inner-loop/inner-loop.js';
import type { MethodPlan } from '../../../shared/methods/inner-loop/method.js';
import { adaptingTasksOf } from './adapting-tasks.js';
import { blocksOf, startState } from './inner-loop.js';
import { gradientsOf, packIn } from './tensors-by-name.js';
import {
  learnedInputs,
  lossesOf,
  logitsOf,
  passOf,
  withTrunk,
  type JobTensors,
  type MetaGradientResult,
} from './passes.js';

export function unadaptedRoleOf({
  innerLoop,
  cold,
}: Pick<MethodPlan, 'innerLoop' | 'cold'>): 'all' | 'flat' | 'support' {
  if (cold?.rows === 'support') return 'support';
  return innerLoop.start === undefined ? 'flat' : 'all';
}

/** The query losses of tasks that have taken no step, `[taskCount]`. Their starts are those that steps begin from. */
export function unadaptedQueryLosses(job: JobTensors, loop: InnerLoop): tfjs.Tensor1D {
  const query = passOf(job, 'query', true);
  if (query === null) throw new Error('a query loss has query rows');
  const tasks = adaptingTasksOf(job);
  return lossesOf(query, logitsOf(withTrunk(query), blocksOf(tasks, startState(loop, tasks))));
}

/** The reported losses are over all rows; those before and after adaptation are the same. */
export function unadaptedGradient(
  job: JobTensors,
  plan: Pick<MethodPlan, 'innerLoop' | 'cold'>,
  taskWeights: tfjs.Tensor1D,
): MetaGradientResult {
  const loop = plan.innerLoop;
  const isOwn = loop.start !== undefined;
  const all = passOf(job, unadaptedRoleOf(plan), isOwn);
  if (all === null)
    return { gradients: new Map(), rowGradient: null, queryLosses: null, supportLosses: null };
  const compute = (): tfjs.Tensor[] => {
    const tasks = adaptingTasksOf(beforeSupport(job, loop));
    const blocks = isOwn ? blocksOf(tasks, startState(loop, tasks)) : new Map<string, never>();
    return [lossesOf(all, logitsOf(withTrunk(all), blocks))];
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
