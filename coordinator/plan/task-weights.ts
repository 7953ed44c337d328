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
 * - `rows`: in proportion to the impressions of all rows. The weighted sum of the tasks' losses is then
 *   the mean loss per impression, which the global method minimises.
 * - `sqrt-rows`: in proportion to the square root of these impressions.
 * - `support`, `sqrt-support`: the same for the support rows.
 */
type TaskWeightRule =
  'uniform' | 'examples' | 'sqrt' | 'rows' | 'sqrt-rows' | 'support' | 'sqrt-support';

const COLD_RULES = {
  all: { uniform: 'uniform', examples: 'rows', sqrt: 'sqrt-rows' },
  support: { uniform: 'uniform', examples: 'support', sqrt: 'sqrt-support' },
} as const;

export function taskWeightRuleOf(config: Pick<RunConfig, 'method' | 'training'>): TaskWeightRule {
  return adapts(methodPlanOf(config.method)) ? config.training.taskWeight : 'rows';
}

/** The rule for the cold term, which weights by the rows of that term; null without a cold term. */
export function coldTaskWeightRuleOf({
  method,
  training,
}: Pick<RunConfig, 'method' | 'training'>): TaskWeightRule | null {
  const { cold } = methodPlanOf(method);
  return cold === null ? null : COLD_RULES[cold.rows][training.taskWeight];
}

/**
 * The weights of all tasks of one outer step, in order. They sum to 1.
 *
 * @throws QianmoError of kind `data` if no task has impressions.
 */
export function taskWeightsOf(tasks: readonly PlannedRows[], rule: TaskWeightRule): number[] {
  const measures = tasks.map((task) => measureOf(task, rule));
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
  switch (rule) {
    case 'uniform':
      return 1;
    case 'examples':
      return impressionsFrom(task, task.supportRowCount);
    case 'sqrt':
      return Math.sqrt(impressionsFrom(task, task.supportRowCount));
    case 'rows':
      return impressionsFrom(task, 0);
    case 'sqrt-rows':
      return Math.sqrt(impressionsFrom(task, 0));
    case 'support':
      return supportImpressions(task);
    case 'sqrt-support':
      return Math.sqrt(supportImpressions(task));
  }
}

function supportImpressions(task: PlannedRows): number {
  return impressionsFrom(task, 0) - impressionsFrom(task, task.supportRowCount);
}

function impressionsFrom(task: PlannedRows, rowIndex: number): number {
  let sum = 0;
  for (const count of task.impressions.subarray(rowIndex)) sum += count;
  return sum;
}
