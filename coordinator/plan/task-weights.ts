/** Computes how much each task of an outer step counts in the meta-gradient. Pure. */

import type { RunConfig } from '../../shared/config/run-config.js';
import { QianmoError } from '../../shared/base/errors.js';
import { adapts } from '../../shared/methods/inner-loop/method.js';
import { methodPlanOf } from '../../shared/methods/methods.js';
import type { PlannedRows } from '../../shared/tasks/task-store.js';

/**
 * - `uniform`: every task counts the same.
 * - `examples`, `sqrt`: in proportion to the impressions of the query rows, or to their square root, so
 *   that aggregated logs weigh as much as the expanded rows would.
 * - `rows`, `sqrt-rows`: the same for all rows. With `rows`, the weighted sum of the tasks' losses is
 *   the mean loss per impression, which the global method minimises.
 * - `support`, `sqrt-support`: the same for the support rows.
 */
const MEASURES = {
  uniform: { rows: null, isRoot: false },
  examples: { rows: 'query', isRoot: false },
  sqrt: { rows: 'query', isRoot: true },
  rows: { rows: 'all', isRoot: false },
  'sqrt-rows': { rows: 'all', isRoot: true },
  support: { rows: 'support', isRoot: false },
  'sqrt-support': { rows: 'support', isRoot: true },
} as const;
type TaskWeightRule = keyof typeof MEASURES;

const COLD_RULES = {
  all: { uniform: 'uniform', examples: 'rows', sqrt: 'sqrt-rows' },
  support: { uniform: 'uniform', examples: 'support', sqrt: 'sqrt-support' },
} as const;

export interface TaskWeighting {
  readonly rule: TaskWeightRule;
  /** The rows that the term is over. */
  readonly rows: 'query' | 'support' | 'all';
}

export function taskWeightingOf(config: Pick<RunConfig, 'method' | 'training'>): TaskWeighting {
  return adapts(methodPlanOf(config.method))
    ? { rule: config.training.taskWeight, rows: 'query' }
    : { rule: 'rows', rows: 'all' };
}

/** The weighting of the cold term, which is by the rows of that term; null without a cold term. */
export function coldTaskWeightingOf({
  method,
  training,
}: Pick<RunConfig, 'method' | 'training'>): TaskWeighting | null {
  const { cold } = methodPlanOf(method);
  if (cold === null) return null;
  return { rule: COLD_RULES[cold.rows][training.taskWeight], rows: cold.rows };
}

/**
 * The weights of all tasks of one outer step, in order. They sum to 1. An impression in a batch of trunk rows
 * weighs as much as one in the rows that the term reads of the other tasks does on average.
 *
 * @param isTrunk whether a task is such a batch.
 * @throws QianmoError of kind `data` if no task has impressions.
 */
export function taskWeightsOf(
  tasks: readonly PlannedRows[],
  { rule, rows }: TaskWeighting,
  isTrunk: (taskIndex: number) => boolean = () => false,
): number[] {
  const adgroups = tasks.filter(({ taskIndex }) => !isTrunk(taskIndex));
  const perImpression = (): number => {
    const impressions = adgroups.reduce((sum, task) => sum + impressionsOf(task, rows), 0);
    const measure = adgroups.reduce((sum, task) => sum + measureOf(task, rule), 0);
    return impressions > 0 ? measure / impressions : 1;
  };
  const ofTrunk = adgroups.length < tasks.length ? perImpression() : 0;
  const measures = tasks.map((task) =>
    isTrunk(task.taskIndex) ? ofTrunk * impressionsOf(task, rows) : measureOf(task, rule),
  );
  const total = measures.reduce((sum, measure) => sum + measure, 0);
  if (!(total > 0))
    throw new QianmoError({
      kind: 'data',
      what: 'no task of an outer step has impressions to weight it by',
      where: `tasks ${tasks.map((task) => task.taskIndex).join(', ')}`,
      expected: 'a sum of impressions above 0',
      found: `${total}`,
      cure: 'set training.taskWeight: uniform, or leave out rows of weight 0 when preparing',
    });
  return measures.map((measure) => measure / total);
}

function measureOf(task: PlannedRows, rule: TaskWeightRule): number {
  const { rows, isRoot } = MEASURES[rule];
  if (rows === null) return 1;
  const impressions = impressionsOf(task, rows);
  return isRoot ? Math.sqrt(impressions) : impressions;
}

function impressionsOf(task: PlannedRows, rows: TaskWeighting['rows']): number {
  if (rows === 'support') return impressionsOf(task, 'all') - impressionsOf(task, 'query');
  let sum = 0;
  const first = rows === 'query' ? task.supportRowCount : 0;
  for (const count of task.impressions.subarray(first)) sum += count;
  return sum;
}
