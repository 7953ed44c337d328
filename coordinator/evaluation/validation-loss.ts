/** The loss by which training stops early: that of a bounded number of validation adgroups. */

import { spreadOver } from '../../shared/base/arrays.js';
import type { RunConfig } from '../../shared/config/run-config.js';
import { methodPlanOf } from '../../shared/methods/methods.js';
import { adapts, predictionLoopOf } from '../../shared/methods/inner-loop/method.js';
import type { Cell } from '../scoring/evaluation-report.js';
import { readFlatRows, type FlatRows } from '../scoring/held-out-rows.js';
import type { ValidationLoss } from '../training/train-options.js';
import { UNADAPTED } from './selection.js';
import { validationScore, validationTasksOf, type ScoredRun } from './validation-score.js';

/**
 * Returns what scores a run; undefined where its training does not stop early. The rows are read at the first call.
 *
 * @throws as `validationTasksOf`: before training, not at its first score.
 */
export function validationLossOf(run: ScoredRun): ValidationLoss | undefined {
  const { config, store } = run;
  const { earlyStopping } = config.training;
  if (earlyStopping === undefined) return undefined;
  const { tasksMax, segment = null } = earlyStopping;
  const cells = trainedCells(config);
  const taskIndices = spreadOver(validationTasksOf(store, config.data.store, segment), tasksMax);
  let reading: Promise<FlatRows> | undefined;
  return async (parameters, terms = {}) => {
    reading ??= readFlatRows(store, taskIndices, 'query');
    const scored = { ...run, terms };
    return (await validationScore(scored, parameters, await reading, { cells })).validationLogloss;
  };
}

/** Without inner steps, and with those that the method trains with, if it has any. */
function trainedCells({ method }: Pick<RunConfig, 'method'>): Cell[] {
  const plan = methodPlanOf(method);
  const { count, rate } = predictionLoopOf(plan).steps;
  const unadapted: Cell = { kind: 'inner-steps', ...UNADAPTED };
  // One model for all tasks is judged as it is, whatever finetuning would make of it.
  if (count === 0 || (!adapts(plan) && plan.predictionLoop === undefined)) return [unadapted];
  return [unadapted, { kind: 'inner-steps', innerRate: rate, innerSteps: count }];
}
