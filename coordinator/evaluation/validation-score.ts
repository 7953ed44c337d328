/**
 * One number for a trained run: its logloss (of values, its squared error) on the query rows of the validation adgroups with the best
 * cell of the evaluation's grid, not adapting at all included. Test adgroups have no part in it.
 */

import { at } from '../../shared/base/arrays.js';
import { createHash } from 'node:crypto';
import type { Clock } from '../../shared/base/clock.js';
import { canonicalJson } from '../../shared/base/canonical-json.js';
import type { RunConfig } from '../../shared/config/run-config.js';
import { DivergenceError, QianmoError } from '../../shared/base/errors.js';
import type { MetaParameters } from '../../shared/models/initial-values.js';
import { metaParametersDigest } from '../../shared/models/meta-parameters-digest.js';
import type { ModelSpec } from '../../shared/models/model-spec.js';
import { labelsOf } from '../../shared/tasks/task-label.js';
import type { TaskStore } from '../../shared/tasks/task-store.js';
import type { Dispatcher } from '../dispatch/dispatcher.js';
import type { Cell } from '../scoring/evaluation-report.js';
import { innerStepGrid } from './grid.js';
import { readFlatRows, type FlatRows } from '../scoring/held-out-rows.js';
import { sumOf } from '../scoring/metrics.js';
import { predictLogits } from './predict-logits.js';
import { adaptationOf, selectionCriterionOf, UNADAPTED } from './selection.js';

export function validationCriterionOf(validation: FlatRows): string {
  return `${selectionCriterionOf(validation)}, with the best inner rate and number of inner steps`;
}

export interface ScoredRun {
  readonly config: RunConfig;
  readonly spec: ModelSpec;
  readonly store: TaskStore;
  readonly storeAddress: string;
  readonly dispatcher: Dispatcher;
  readonly clock: Clock;
  readonly signal: AbortSignal;
}

interface ValidationScore {
  readonly validationLogloss: number;
  /** Inner steps 0: without adaptation. */
  readonly cell: Cell;
  readonly metaDigest: string;
}

/**
 * The rows that a run is scored on: of the whole store, or of one segment, whose label may be judged
 * by another loss than that of others.
 *
 * @throws QianmoError `usage` when the segment is not there or not named, `data` when there is no
 *   validation adgroup.
 */
export async function readValidationRows(
  store: TaskStore,
  storeAddress: string,
  segment: string | null,
): Promise<FlatRows> {
  const labels = labelsOf(store.manifest);
  const labelIndex = labels.findIndex((label) => label.segment === segment);
  if (labelIndex < 0)
    throw new QianmoError({
      kind: 'usage',
      what: 'a run is scored on the tasks of one segment',
      where: storeAddress,
      expected: `segment: one of ${labels.map((label) => label.segment ?? 'none').join(', ')}`,
      found: segment ?? 'none',
      cure: 'name a segment of the store, or none where it has none',
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
      found: `${store.tasks.length} adgroups, none of them of the validation split`,
      cure: 'raise data.taskSplit.validationShare and prepare the store again',
    });
  return readFlatRows(
    store,
    tasks.map((task) => task.taskIndex),
    'query',
  );
}

/** Tried for every run alike. */
export function validationCells({ evaluation }: Pick<RunConfig, 'evaluation'>): Cell[] {
  return [{ kind: 'inner-steps', ...UNADAPTED }, ...innerStepGrid(evaluation).cells];
}

/** @throws DivergenceError when no cell gives finite logits. */
export async function validationScore(
  run: ScoredRun,
  parameters: MetaParameters,
  validation: FlatRows,
): Promise<ValidationScore> {
  const cells = validationCells(run.config);
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
  const impressions = sumOf(validation.impressions);
  let best: ValidationScore | null = null;
  for (const [index, cell] of cells.entries()) {
    const validationLogloss = sumOf(at(lossSums, index)) / impressions;
    if (
      Number.isFinite(validationLogloss) &&
      validationLogloss < (best?.validationLogloss ?? Infinity)
    )
      best = { validationLogloss, cell, metaDigest };
  }
  if (best !== null) return best;
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
