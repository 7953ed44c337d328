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
import { methodPlanOf, shiftsAlone } from '../../shared/methods/methods.js';
import { metaParametersDigest } from '../../shared/models/meta-parameters-digest.js';
import { labelsOf } from '../../shared/tasks/task-label.js';
import type { TaskStore } from '../../shared/tasks/task-store.js';
import type { PreparedRun } from '../plan/prepared-run.js';
import type { Cell } from '../scoring/evaluation-report.js';
import { ownGrid } from './grid.js';
import { readFlatRows, type FlatRows } from '../scoring/held-out-rows.js';
import { adgroupImpressions } from '../scoring/score-arms.js';
import {
  bestCell,
  heldOutLosses,
  meanLoss,
  servedShift,
  type EntryLosses,
  type ValidatedEntries,
} from '../scoring/validated-losses.js';
import { predictLogits } from './predict-logits.js';
import type { TaskJobContext } from './task-jobs.js';
import { validationDraws } from './validation-draws.js';
import { adaptationOf, selectionCriterionOf, UNADAPTED } from './selection.js';

export function validationCriterionOf(validation: FlatRows): string {
  return `${selectionCriterionOf(validation)}, with the best inner rate and number of inner steps`;
}

export interface ScoredRun
  extends PreparedRun, Pick<TaskJobContext, 'dispatcher' | 'signal' | 'terms'> {}

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
export function validationCells(config: Parameters<typeof ownGrid>[0]): Cell[] {
  return [{ kind: 'inner-steps', ...UNADAPTED }, ...ownGrid(config).cells];
}

/** The cells that a bundle of the run can serve: a run whose method adapts nothing is served as it is. */
function servableCells(config: Parameters<typeof ownGrid>[0]): Cell[] {
  const [unadapted, ...adapted] = validationCells(config);
  if (unadapted === undefined) throw new Error('not adapting is the first cell');
  return adapts(methodPlanOf(config.method)) ? [unadapted, ...adapted] : [unadapted];
}

interface ScoringTerms {
  /** Of these the best one counts; by default, those of the evaluation. */
  readonly cells?: readonly Cell[];
  /**
   * Whether the run is scored as a bundle of it is served, and its validation tasks are divided as often as
   * `evaluation.validationDraws` says instead of once.
   */
  readonly isAsServed?: boolean;
}

function cellsOf(config: RunConfig, isAsServed: boolean): Cell[] {
  return isAsServed ? servableCells(config) : validationCells(config);
}

/** @throws DivergenceError when no cell gives finite logits. */
export async function validationScore(
  run: ScoredRun,
  parameters: MetaParameters,
  validation: FlatRows,
  { isAsServed = false, cells = cellsOf(run.config, isAsServed) }: ScoringTerms = {},
): Promise<ValidationScore> {
  const metaDigest = metaParametersDigest(parameters);
  const { taskIndices } = validation;
  let waveCount = 0;
  const context: TaskJobContext = {
    ...run,
    runId: `${scoringRunId(run, metaDigest)}${isAsServed ? '-served' : ''}`,
    nextWave: () => waveCount++,
    onTasksDone: () => undefined,
    onBackend: () => undefined,
  };
  const draws = isAsServed
    ? await validationDraws(context, taskIndices)
    : [{ context, rows: { query: validation } }];
  const lossSums = cells.map((): EntryLosses[] => []);
  for (const draw of draws) {
    const found = await predictLogits(draw.context, {
      ...{ parameters, method: run.config.method, taskIndices },
      adaptations: cells.map(adaptationOf),
      ...{ role: 'query', keep: [] },
    });
    for (const [cell, sums] of lossSums.entries()) sums.push(at(found.lossSums, cell));
  }
  const entries = entriesOf(draws.map(({ rows }) => rows.query));
  const byCell = lossSums.map((sums) => Float64Array.from(sums.flatMap((ofDraw) => [...ofDraw])));
  const chosenCell = (isCounted?: (entry: number) => boolean): number =>
    isAsServed && shiftsAlone(run.config)
      ? servedShift(byCell, entries, isCounted)
      : bestCell(byCell, isCounted);
  const best = chosenCell();
  const validationLogloss = meanLoss(at(byCell, best), entries);
  if (Number.isFinite(validationLogloss)) {
    const heldOut = heldOutLosses(entries, (isOther) => at(byCell, chosenCell(isOther)));
    return {
      ...{ validationLogloss, cell: at(cells, best), metaDigest },
      heldOutLosses: byAdgroup(heldOut, entries),
    };
  }
  throw new DivergenceError({
    kind: 'failed',
    what: 'no logit of the validation adgroups is finite',
    where: run.config.run,
    found: `${cells.length} settings of inner rate and inner steps tried`,
    cure: 'train with smaller rates',
  });
}

function entriesOf(draws: readonly FlatRows[]): ValidatedEntries {
  return {
    ...{ adgroupCount: at(draws, 0).taskIndices.length, drawCount: draws.length },
    supportRowCounts: [],
    impressions: Float64Array.from(draws.flatMap((rows) => [...adgroupImpressions(rows)])),
  };
}

/** The loss per impression of each adgroup over all draws, times the impressions that it has in the first. */
function byAdgroup(
  losses: EntryLosses,
  { adgroupCount, drawCount, impressions }: ValidatedEntries,
): EntryLosses {
  if (drawCount === 1) return losses;
  const [sums, shown] = [new Float64Array(adgroupCount), new Float64Array(adgroupCount)];
  for (const [entry, loss] of losses.entries()) {
    const adgroup = entry % adgroupCount;
    sums[adgroup] = at(sums, adgroup) + loss;
    shown[adgroup] = at(shown, adgroup) + at(impressions, entry);
  }
  return sums.map((sum, adgroup) => (sum / at(shown, adgroup)) * at(impressions, adgroup));
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
