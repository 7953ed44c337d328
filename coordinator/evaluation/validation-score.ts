/**
 * One number for a trained run: its logloss on the query rows of the validation adgroups, or for values
 * its squared error, as a bundle of it would be served. Test adgroups are not involved.
 */

import { createHash } from 'node:crypto';
import { at, spreadOver } from '../../shared/base/arrays.js';
import { canonicalJson } from '../../shared/base/canonical-json.js';
import { DivergenceError, errorOf } from '../../shared/base/errors.js';
import type { RunConfig } from '../../shared/config/run-config.js';
import { adapts } from '../../shared/methods/inner-loop/method.js';
import { methodPlanOf } from '../../shared/methods/methods.js';
import { type MetaParameters, metaParametersDigest } from '../../shared/models/meta-parameters.js';
import { labelsOf } from '../../shared/tasks/task-label.js';
import type { TaskStore } from '../../shared/tasks/task-store.js';
import type { PreparedRun } from '../plan/prepared-run.js';
import type { Cell } from '../scoring/evaluation-report.js';
import { readFlatRows, type FlatRows } from '../scoring/held-out-rows.js';
import { adgroupImpressions } from '../scoring/score-arms.js';
import {
  bestCell,
  heldOutLosses,
  meanLoss,
  type AdgroupLosses,
} from '../scoring/validated-losses.js';
import type { TrainOptions } from '../training/train-options.js';
import { adaptationOf, innerStepGrid, UNADAPTED } from './arms.js';
import { predictLogits, type TaskJobContext } from './task-jobs.js';

interface ScoredRun extends PreparedRun, Pick<TaskJobContext, 'dispatcher' | 'signal'> {}

interface ValidationScore {
  /** With the best cell for all adgroups. */
  readonly validationLogloss: number;
  /** 0 inner steps mean no adaptation. */
  readonly cell: Cell;
  readonly metaDigest: string;
  /**
   * The sum of losses of each adgroup, each with the cell that the other folds of adgroups choose: a run with many cells is
   * not favoured over one with few.
   */
  readonly heldOutLosses: AdgroupLosses;
}

/**
 * The indices of the validation tasks of the store, or of one segment. Segments may have labels that are judged by
 * different losses.
 *
 * @throws QianmoError `usage` if the segment does not exist or none is named, `data` if there is no
 *   validation adgroup.
 */
export function validationTasksOf(
  store: TaskStore,
  storeAddress: string,
  segment: string | null,
): number[] {
  const labels = labelsOf(store.manifest);
  const labelIndex = labels.findIndex((label) => label.segment === segment);
  if (labelIndex < 0)
    throw errorOf('usage', 'a run is scored on the tasks of one segment', {
      where: storeAddress,
      expected: `segment: one of ${labels.map((label) => label.segment ?? 'none').join(', ')}`,
      found: segment ?? 'none',
      cure: 'name a segment of the store, or leave it out if the store has none',
    });
  const tasks = store.tasks.filter(
    (task) => task.split === 'validation' && (task.labelIndex ?? 0) === labelIndex,
  );
  if (tasks.length === 0)
    throw errorOf('data', 'the task store has no validation adgroup', {
      where: storeAddress,
      expected: `validation adgroups to score on${segment === null ? '' : ` of the segment ${segment}`}`,
      found: `${store.tasks.length} adgroups, none of them in the validation split`,
      cure: 'raise data.taskSplit.validationShare and prepare the store again',
    });
  return tasks.map((task) => task.taskIndex);
}

/** The cells that a bundle of the run can serve: a run whose method adapts nothing is served as it is. */
function servableCells({ method, evaluation }: RunConfig): Cell[] {
  const unadapted: Cell = { kind: 'inner-steps', ...UNADAPTED };
  return adapts(methodPlanOf(method))
    ? [unadapted, ...innerStepGrid(evaluation).cells]
    : [unadapted];
}

/**
 * @param validation the query rows of validation tasks of one label.
 * @param cells the best of these counts.
 * @throws DivergenceError when no cell gives finite logits.
 */
export async function validationScore(
  run: ScoredRun,
  parameters: MetaParameters,
  validation: FlatRows,
  cells: readonly Cell[] = servableCells(run.config),
): Promise<ValidationScore> {
  const metaDigest = metaParametersDigest(parameters);
  let waveCount = 0;
  const context: TaskJobContext = {
    ...run,
    runId: scoringRunId(run, metaDigest),
    nextWave: () => waveCount++,
    onTasksDone: () => undefined,
    onBackend: () => undefined,
  };
  const { lossSums: byCell } = await predictLogits(context, {
    ...{ parameters, method: run.config.method, taskIndices: validation.taskIndices },
    adaptations: cells.map(adaptationOf),
    ...{ role: 'query', keep: [] },
  });
  const impressions = adgroupImpressions(validation);
  const best = bestCell(byCell);
  const validationLogloss = meanLoss(at(byCell, best), impressions);
  if (Number.isFinite(validationLogloss))
    return {
      ...{ validationLogloss, cell: at(cells, best), metaDigest },
      heldOutLosses: heldOutLosses(impressions.length, (isOther) =>
        at(byCell, bestCell(byCell, isOther)),
      ),
    };
  throw new DivergenceError({
    kind: 'failed',
    what: 'no logit of the validation adgroups is finite',
    where: run.config.run,
    found: `${cells.length} settings of inner rate and inner steps tried`,
    cure: 'train with smaller rates',
  });
}

/** Differs whenever the same job would mean something else. */
function scoringRunId({ config, store }: ScoredRun, metaDigest: string): string {
  const { evaluation, method, model, training } = config;
  const meaning = canonicalJson({
    metaDigest,
    store: store.digest,
    evaluation,
    method,
    model,
    training,
  });
  const name = createHash('sha256').update(meaning).digest('hex').slice(0, 12);
  return `${config.run}-score-${name}`;
}

/**
 * Returns the loss by which training stops early, that of a bounded number of validation adgroups; undefined where
 * it does not. The rows are read at the first call.
 *
 * @throws as `validationTasksOf`: before training, not at its first score.
 */
export function validationLossOf(run: ScoredRun): TrainOptions['validationLoss'] {
  const { config, store } = run;
  const { earlyStopping } = config.training;
  if (earlyStopping === undefined) return undefined;
  const { tasksMax, segment = null } = earlyStopping;
  const cells = trainedCells(config);
  const taskIndices = spreadOver(validationTasksOf(store, config.data.store, segment), tasksMax);
  let reading: Promise<FlatRows> | undefined;
  return async (parameters) => {
    reading ??= readFlatRows(store, taskIndices, 'query');
    return (await validationScore(run, parameters, await reading, cells)).validationLogloss;
  };
}

/** Without inner steps, and with those that the method trains with, if it has any. */
function trainedCells({ method }: Pick<RunConfig, 'method'>): Cell[] {
  const plan = methodPlanOf(method);
  const { count, rate } = plan.innerLoop.steps;
  const unadapted: Cell = { kind: 'inner-steps', ...UNADAPTED };
  // One model for all tasks is judged as it is, whatever finetuning would make of it.
  if (count === 0 || !adapts(plan)) return [unadapted];
  return [unadapted, { kind: 'inner-steps', innerRate: rate, innerSteps: count }];
}
