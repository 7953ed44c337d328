/**
 * One number for a trained run: its logloss on the query rows of the validation adgroups, or for values
 * its squared error, with the best cell of the evaluation's grid. Not adapting at all is one of the
 * cells. Test adgroups are not involved.
 */

import { at } from '../../shared/base/arrays.js';
import { createHash } from 'node:crypto';
import { canonicalJson } from '../../shared/base/canonical-json.js';
import type { RunConfig } from '../../shared/config/run-config.js';
import { DivergenceError, QianmoError } from '../../shared/base/errors.js';
import type { MetaParameters } from '../../shared/models/initial-values.js';
import { adapts } from '../../shared/methods/inner-loop/method.js';
import { methodPlanOf } from '../../shared/methods/methods.js';
import { metaParametersDigest } from '../../shared/models/meta-parameters-digest.js';
import { labelsOf } from '../../shared/tasks/task-label.js';
import type { TaskStore } from '../../shared/tasks/task-store.js';
import type { Dispatcher } from '../dispatch/dispatcher.js';
import type { PreparedRun } from '../plan/prepared-run.js';
import type { Cell } from '../scoring/evaluation-report.js';
import { innerStepGrid } from './grid.js';
import { readFlatRows, type FlatRows } from '../scoring/held-out-rows.js';
import { sumOf } from '../scoring/metrics.js';
import { adgroupImpressions } from '../scoring/score-arms.js';
import {
  bestCell,
  heldOutLosses,
  type EntryLosses,
  type ValidatedEntries,
} from '../scoring/validated-losses.js';
import { predictLogits } from './predict-logits.js';
import { adaptationOf, selectionCriterionOf, UNADAPTED } from './selection.js';

export function validationCriterionOf(validation: FlatRows): string {
  return `${selectionCriterionOf(validation)}, with the best inner rate and number of inner steps`;
}

export interface ScoredRun extends PreparedRun {
  readonly dispatcher: Dispatcher;
  readonly signal: AbortSignal;
}

interface ValidationScore {
  readonly validationLogloss: number;
  /** 0 inner steps mean no adaptation. */
  readonly cell: Cell;
  readonly metaDigest: string;
  /**
   * The sum of losses of each adgroup, each with the cell that the other folds of adgroups choose: a run with many cells is
   * not favoured over one with few.
   */
  readonly heldOutLosses: EntryLosses;
}

/**
 * The rows that a run is scored on: those of the whole store, or of one segment. Segments may have
 * labels that are judged by different losses.
 *
 * @param scored the validation tasks that score, of all; by default all of them.
 * @throws QianmoError `usage` if the segment does not exist or none is named, `data` if there is no
 *   validation adgroup.
 */
export async function readValidationRows(
  store: TaskStore,
  storeAddress: string,
  segment: string | null,
  scored: (taskIndices: readonly number[]) => readonly number[] = (all) => all,
): Promise<FlatRows> {
  return readFlatRows(store, scored(validationTasksOf(store, storeAddress, segment)), 'query');
}

/**
 * The indices of the validation tasks of the store, or of one segment.
 *
 * @throws as `readValidationRows`.
 */
export function validationTasksOf(
  store: TaskStore,
  storeAddress: string,
  segment: string | null,
): number[] {
  const labels = labelsOf(store.manifest);
  const labelIndex = labels.findIndex((label) => label.segment === segment);
  if (labelIndex < 0)
    throw new QianmoError({
      kind: 'usage',
      what: 'a run is scored on the tasks of one segment',
      where: storeAddress,
      expected: `segment: one of ${labels.map((label) => label.segment ?? 'none').join(', ')}`,
      found: segment ?? 'none',
      cure: 'name a segment of the store, or leave it out if the store has none',
    });
  const tasks = store.tasks.filter(
    (task) => task.split === 'validation' && (task.labelIndex ?? 0) === labelIndex,
  );
  if (tasks.length === 0)
    throw new QianmoError({
      kind: 'data',
      what: 'the task store has no validation adgroup',
      where: storeAddress,
      expected: `validation adgroups to score on${segment === null ? '' : ` of the segment ${segment}`}`,
      found: `${store.tasks.length} adgroups, none of them in the validation split`,
      cure: 'raise data.taskSplit.validationShare and prepare the store again',
    });
  return tasks.map((task) => task.taskIndex);
}

/** The cells that are tried for every run. */
export function validationCells({ evaluation }: Pick<RunConfig, 'evaluation'>): Cell[] {
  return [{ kind: 'inner-steps', ...UNADAPTED }, ...innerStepGrid(evaluation).cells];
}

/** The cells that a bundle of the run can serve: a run whose method adapts nothing is served as it is. */
export function servableCells(config: Pick<RunConfig, 'evaluation' | 'method'>): Cell[] {
  const [unadapted, ...adapted] = validationCells(config);
  if (unadapted === undefined) throw new Error('not adapting is the first cell');
  return adapts(methodPlanOf(config.method)) ? [unadapted, ...adapted] : [unadapted];
}

/**
 * @param cells of which the best one counts; those of the evaluation by default.
 * @throws DivergenceError when no cell gives finite logits.
 */
export async function validationScore(
  run: ScoredRun,
  parameters: MetaParameters,
  validation: FlatRows,
  cells: readonly Cell[] = validationCells(run.config),
): Promise<ValidationScore> {
  const metaDigest = metaParametersDigest(parameters);
  let waveCount = 0;
  const { lossSums } = await predictLogits(
    {
      ...run,
      runId: scoringRunId(run, metaDigest),
      nextWave: () => waveCount++,
      onTasksDone: () => undefined,
      onBackend: () => undefined,
    },
    {
      parameters,
      method: run.config.method,
      taskIndices: validation.taskIndices,
      adaptations: cells.map(adaptationOf),
      role: 'query',
      keep: [],
    },
  );
  const best = bestCell(lossSums);
  const validationLogloss = sumOf(at(lossSums, best)) / sumOf(validation.impressions);
  if (Number.isFinite(validationLogloss))
    return {
      ...{ validationLogloss, cell: at(cells, best), metaDigest },
      heldOutLosses: heldOutLosses(entriesOf(validation), (isOther) =>
        at(lossSums, bestCell(lossSums, isOther)),
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

function entriesOf(rows: FlatRows): ValidatedEntries {
  return {
    ...{ adgroupCount: rows.taskIndices.length, drawCount: 1, supportRowCounts: [] },
    impressions: Float64Array.from(adgroupImpressions(rows)),
  };
}

/** Differs whenever the same job would mean something else. */
export function scoringRunId({ config, store }: ScoredRun, metaDigest: string): string {
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
