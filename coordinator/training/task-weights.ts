/** How much each task of an outer step counts in the meta-gradient. Pure. */

import type { RunConfig } from '../../shared/config/run-config.js';
import { QianmoError } from '../../shared/errors.js';
import { coldShareOf } from '../../shared/methods/methods.js';
import type { TaskRows } from '../../shared/tasks/task-store.js';

/**
 * - `uniform`: every task alike.
 * - `examples`, `sqrt`: in proportion to the impressions of the query rows, or their square root;
 *   impressions, so that pre-aggregated logs weigh what the expanded rows would.
 * - `rows`: in proportion to the impressions of all rows, which makes the weighted sum of the
 *   tasks' losses the mean loss per impression: what the global method minimises.
 * - `sqrt-rows`: in proportion to the square root of those.
 */
export type TaskWeightRule = 'uniform' | 'examples' | 'sqrt' | 'rows' | 'sqrt-rows';

const COLD_RULES = { uniform: 'uniform', examples: 'rows', sqrt: 'sqrt-rows' } as const;

export function taskWeightRuleOf(config: Pick<RunConfig, 'method' | 'training'>): TaskWeightRule {
  return config.method.kind === 'global' ? 'rows' : config.training.taskWeight;
}

/** The cold term is over support and query rows, so all of them weigh; null without such a term. */
export function coldTaskWeightRuleOf({
  method,
  training,
}: Pick<RunConfig, 'method' | 'training'>): TaskWeightRule | null {
  return coldShareOf(method) > 0 ? COLD_RULES[training.taskWeight] : null;
}

/**
 * Weights of all tasks of one outer step, in their order; they sum to 1.
 *
 * @throws QianmoError of kind `data` when no task has an impression to be weighted by.
 */
export function taskWeightsOf(tasks: readonly TaskRows[], rule: TaskWeightRule): number[] {
  const measures = tasks.map((task) => measureOf(task, rule));
  const total = measures.reduce((sum, measure) => sum + measure, 0);
  if (!(total > 0))
    throw new QianmoError({
      kind: 'data',
      what: 'no task of an outer step has impressions to be weighted by',
      where: `tasks ${tasks.map((task) => task.taskIndex).join(', ')}`,
      expected: 'a sum of impressions above 0',
      found: `${total}`,
      cure: 'set training.taskWeight: uniform, or leave out rows of weight 0 when preparing',
    });
  return measures.map((measure) => measure / total);
}

function measureOf(task: TaskRows, rule: TaskWeightRule): number {
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
  }
}

function impressionsFrom(task: TaskRows, rowIndex: number): number {
  return task.impressions.subarray(rowIndex).reduce((sum, count) => sum + count, 0);
}
