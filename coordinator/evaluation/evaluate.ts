/** Evaluates a trained run on held-out adgroups: every arm side by side, nothing tuned on test. */

import { at } from '../../shared/base/arrays.js';
import { createHash } from 'node:crypto';
import { canonicalJson } from '../../shared/base/canonical-json.js';
import { configHash, type RunConfig } from '../../shared/config/run-config.js';
import { QianmoError } from '../../shared/base/errors.js';
import { metaParametersDigest } from '../../shared/models/meta-parameters-digest.js';
import { blobRefOf } from '../../shared/storage/blob-store.js';
import { labelOf } from '../../shared/tasks/task-label.js';
import type { AdgroupSplit, TaskStore } from '../../shared/tasks/task-store.js';
import type { Dispatcher } from '../dispatch/dispatcher.js';
import type { PreparedRun, RunCaller } from '../plan/prepared-run.js';
import { planArms, type ArmPlan, type TrainedParameters } from './arm-plan.js';
import { blockChoiceRule } from './block-choice.js';
import { cellsPerArm } from './grid.js';
import {
  clickRateOf,
  readSplitRows,
  type FlatRows,
  type SplitRows,
} from '../scoring/held-out-rows.js';
import type { TaskJobContext } from './task-jobs.js';
import { writePredictions } from './predictions.js';
import { supportHashesOf } from '../scoring/support-hashes.js';
import { encodeTaskAdaptation, taskAdaptationOf } from '../scoring/task-adaptation.js';
import { encodeTestLogits } from '../scoring/test-logits.js';
import { REPORT_FORMAT_VERSION, type EvaluationReport } from '../scoring/evaluation-report.js';
import { calibrationCurvesOf, differenceHistogramsOf } from '../scoring/report-shapes.js';
import { runProtocols } from './protocols.js';
import { periodsToReplay, type Period } from './replay-periods.js';
import { predictArms, type ArmChoices } from './run-arms.js';
import { validateArms } from './validate-arms.js';
import { validationDrawCount, validationDraws } from './validation-draws.js';
import { scoreSlices, type ScoredRows } from '../scoring/score-arms.js';
import { selectionCriterionOf } from './selection.js';

export interface EvaluateOptions {
  /** The ids of jobs derive from its name and from what is evaluated. */
  readonly run: PreparedRun;
  readonly dispatcher: Dispatcher;
  readonly trained: TrainedParameters;
  /** Index of the label whose tasks are judged together, by the loss of that label. Default 0. */
  readonly labelIndex?: number;
  /** The periods to replay, as `demandEvaluable` found them. */
  readonly periods: readonly Period[];
  readonly caller: RunCaller;
  /** A Parquet file for the predictions of every arm for each test row, written last. */
  readonly predictionsPath?: string;
}

export interface Evaluation {
  readonly report: EvaluationReport;
  /**
   * The encoded logits of every arm for the test rows. The report names their digest; `compare`
   * reads them.
   */
  readonly testLogits: Uint8Array;
  /** The encoded adaptation of the test tasks; null without the arm `meta-adapted`. */
  readonly taskAdaptation: Uint8Array | null;
}

/** Raised when passes send other jobs under the same numbers. */
const PASSES_VERSION = 3;

interface ParameterDigests {
  readonly meta: string;
  readonly global: string | null;
}

/**
 * Evaluates the tasks of one label. Validation tasks decide every setting; test tasks are only scored.
 * The caller writes the results to the run's output. Nothing is written before this returns, so that
 * an evaluation can be interrupted.
 *
 * @throws whatever the dispatcher throws.
 */
export async function evaluate(options: EvaluateOptions): Promise<Evaluation> {
  const { run, trained, labelIndex = 0 } = options;
  const { config, store } = run;
  const { clock } = options.caller;
  const startedMs = clock.monotonicMs();
  const plan = planArms(run, trained);
  const taskIndices = (split: AdgroupSplit): number[] => taskIndicesOf(store, split, labelIndex);
  const digests = digestsOf(plan);
  const backends = new Set<string>();
  const passesOver = predictionPasses(options, digests, backends);
  const trainClickRate = await clickRateOf(store, taskIndices('train'));

  const validationTasks = taskIndices('validation');
  const taskPasses = plan.validationPasses * validationDrawCount(config) * validationTasks.length;
  const context = passesOver('choosing settings', taskPasses);
  const draws = await validationDraws(context, validationTasks);
  const { choices: chosen, validation } = await validateArms(draws, plan, {
    evaluation: config.evaluation,
    seed: config.seed,
    trainClickRate,
  });

  const testTasks = taskIndices('test');
  const test = await readSplitRows(store, testTasks);
  const { logits, measures } = await predictArms(
    passesOver('predicting test adgroups', plan.testPasses * testTasks.length),
    plan,
    { choices: chosen, trainClickRate, isMeasured: true },
    test,
  );
  const scored: ScoredRows = {
    rows: test.query,
    supportRowCounts: testTasks.map((index) => at(store.tasks, index).supportRowCount),
    logits,
  };
  const protocols = await runProtocols({
    evaluation: config.evaluation,
    seed: config.seed,
    store,
    testTasks,
    validationTasks,
    plan,
    knowledge: { choices: chosen, trainClickRate },
    periods: options.periods,
    passesOver,
  });
  const testLogits = testLogitsOf(store, test, scored);
  const logitsRef = blobRefOf(testLogits);
  const report: EvaluationReport = {
    formatVersion: REPORT_FORMAT_VERSION,
    run: {
      ...describeRun(run, digests),
      finishedEpochMs: clock.epochMs(),
      durationMs: clock.monotonicMs() - startedMs,
      backends: [...backends].sort(),
    },
    counts: countsOf(taskIndices('train').length, at(draws, 0).rows.query, test),
    ...labelPart(store, labelIndex),
    trainClickRate,
    ...(validation === null ? {} : { validation }),
    ...resultsOf(config, plan, chosen, scored),
    testLogits: logitsRef,
    ...(protocols.length === 0 ? {} : { protocols }),
  };
  if (options.predictionsPath !== undefined)
    await writePredictions(options.predictionsPath, store, test.query, scored.logits);
  const taskAdaptation =
    measures === null
      ? null
      : encodeTaskAdaptation(taskAdaptationOf(run.spec, measures, test.support), logitsRef.sha256);
  return { report, testLogits, taskAdaptation };
}

function digestsOf({ meta, global }: ArmPlan): ParameterDigests {
  return {
    meta: metaParametersDigest(meta.parameters),
    global: global === null ? null : metaParametersDigest(global.parameters),
  };
}

/** Empty if all tasks of the store have clicks as their label. */
function labelPart({ manifest }: TaskStore, labelIndex: number): Pick<EvaluationReport, 'label'> {
  return manifest.labels === undefined ? {} : { label: labelOf(manifest, { labelIndex }) };
}

function testLogitsOf(
  store: TaskStore,
  { query: rows, support }: SplitRows,
  { logits, supportRowCounts }: ScoredRows,
): Uint8Array {
  const taskKeys = rows.taskIndices.map((index) => at(store.tasks, index).key);
  const supportHashes = supportHashesOf(support);
  return encodeTestLogits({ taskKeys, supportRowCounts, supportHashes, rows, logits });
}

function resultsOf(
  config: RunConfig,
  plan: ArmPlan,
  { cells, blocks, blend }: ArmChoices,
  scored: ScoredRows,
): Omit<EvaluationReport, 'formatVersion' | 'run' | 'counts' | 'trainClickRate'> {
  const { evaluation } = config;
  return {
    confidence: evaluation.confidence,
    bootstrapSamples: evaluation.bootstrapSamples,
    calibrationBins: evaluation.calibrationBins,
    selection: {
      criterion: selectionCriterionOf(scored.rows),
      cellsPerArm: cellsPerArm(evaluation),
      chosen: [...cells.values()],
      ...(blocks === null
        ? {}
        : { blocks: { rule: blockChoiceRule(plan.isShiftAlone), buckets: [...blocks] } }),
      ...(blend === null ? {} : { blend }),
    },
    arms: [...scored.logits.keys()],
    armsLeftOut: [...plan.leftOut],
    slices: scoreSlices(scored, { evaluation, seed: config.seed }),
    calibrationCurves: calibrationCurvesOf(scored, evaluation),
    differenceHistograms: differenceHistogramsOf(scored),
  };
}

function taskIndicesOf(store: TaskStore, split: AdgroupSplit, labelIndex: number): number[] {
  return store.tasks
    .filter((task) => task.split === split && (task.labelIndex ?? 0) === labelIndex)
    .map((task) => task.taskIndex);
}

type Evaluated = Pick<PreparedRun, 'config' | 'store'> & Pick<EvaluateOptions, 'labelIndex'>;

/**
 * Checks everything that an evaluation needs from the store, before anything is computed.
 *
 * @returns the periods to replay.
 * @throws QianmoError of kind `data` if the store holds out too few adgroups for the arms of the plan,
 *   or if its rows cannot be replayed.
 */
export async function demandEvaluable(
  evaluated: Evaluated,
  plan: Pick<ArmPlan, 'hasSettings'>,
): Promise<Period[]> {
  demandHeldOutAdgroups(evaluated, plan);
  const { config, store, labelIndex = 0 } = evaluated;
  return periodsToReplay(config.evaluation, store, taskIndicesOf(store, 'test', labelIndex));
}

function demandHeldOutAdgroups(
  { config, store, labelIndex = 0 }: Evaluated,
  plan: Pick<ArmPlan, 'hasSettings'>,
): void {
  const count = (split: AdgroupSplit): number => taskIndicesOf(store, split, labelIndex).length;
  const { segment } = labelOf(store.manifest, { labelIndex });
  const missing =
    count('test') === 0
      ? 'test'
      : plan.hasSettings && count('validation') === 0
        ? 'validation'
        : null;
  if (missing === null) return;
  throw new QianmoError({
    kind: 'data',
    what: `the task store has no ${missing} adgroup${segment === null ? '' : ` of the segment ${segment}`}`,
    where: config.data.store,
    expected: 'validation adgroups to choose settings on and test adgroups to score',
    found: `${count('train')} train, ${count('validation')} validation, ${count('test')} test`,
    cure: `raise data.taskSplit.${missing}Share and prepare the store again`,
  });
}

/** Returns a function that makes contexts whose progress counts up to `taskTotal` task passes. */
function predictionPasses(
  options: EvaluateOptions,
  digests: ParameterDigests,
  backends: Set<string>,
): (stage: string, taskTotal: number) => TaskJobContext {
  let waveCount = 0;
  const { run, dispatcher, caller } = options;
  const context = {
    ...run,
    runId: evaluationRunId(options, digests),
    dispatcher,
    signal: caller.signal,
    nextWave: () => waveCount++,
    onBackend: (backend: string) => void backends.add(backend),
  };
  return (stage, taskTotal) => {
    let done = 0;
    return {
      ...context,
      onTasksDone: (taskCount) => {
        done += taskCount;
        caller.sink({ kind: 'progress', stage, done, total: taskTotal });
      },
    };
  };
}

/**
 * Differs whenever the same job would mean something else. A record that an earlier evaluation left on
 * the queue is therefore either correct or not found.
 */
function evaluationRunId(
  { run: { config, store }, labelIndex }: EvaluateOptions,
  digests: ParameterDigests,
): string {
  const { evaluation, method, model, training } = config;
  const meaning = canonicalJson({
    digests,
    store: store.digest,
    evaluation,
    method,
    model,
    ...(labelIndex === undefined ? {} : { labelIndex }),
    microBatchRowsMax: training.microBatchRowsMax,
    passes: PASSES_VERSION,
  });
  const name = createHash('sha256').update(meaning).digest('hex').slice(0, 12);
  return `${config.run.slice(0, 100)}-evaluation-${name}`;
}

function describeRun(
  { config, store, storeAddress }: PreparedRun,
  digests: ParameterDigests,
): Omit<EvaluationReport['run'], 'finishedEpochMs' | 'durationMs' | 'backends'> {
  return {
    run: config.run,
    seed: config.seed,
    method: config.method.kind,
    model: config.model.kind,
    personalBlocks: [...config.model.personal],
    configHash: configHash(config),
    storeAddress,
    storeDigest: store.digest,
    metaDigest: digests.meta,
    globalDigest: digests.global,
  };
}

function countsOf(
  trainTasks: number,
  validationQuery: FlatRows,
  test: SplitRows,
): EvaluationReport['counts'] {
  return {
    trainTasks,
    validationTasks: validationQuery.taskIndices.length,
    testTasks: test.query.taskIndices.length,
    validationQueryRows: validationQuery.clicks.length,
    testSupportRows: test.support.clicks.length,
    testQueryRows: test.query.clicks.length,
  };
}
