/** Evaluates a trained run on held-out adgroups: every arm side by side, nothing tuned on test. */

import { createHash } from 'node:crypto';
import { at, spanAt } from '../../shared/base/arrays.js';
import { canonicalJson } from '../../shared/base/canonical-json.js';
import { QianmoError } from '../../shared/base/errors.js';
import { ARM_NAMES, GLOBAL_ARMS, type ArmName } from '../../shared/config/arms.js';
import { configHash } from '../../shared/config/run-config.js';
import { metaParametersDigest } from '../../shared/models/meta-parameters.js';
import { blobRefOf } from '../../shared/storage/blob-store.js';
import { labelOf } from '../../shared/tasks/task-label.js';
import { encodeTensors } from '../../shared/tensors/tensor-codec.js';
import type { AdgroupSplit, TaskStore } from '../../shared/tasks/task-store.js';
import type { Dispatcher } from '../dispatch/dispatcher.js';
import type { PreparedRun, RunCaller } from '../plan/prepared-run.js';
import type {
  EvaluationReport,
  ShotPoint,
  BlockChoice,
  CrowdChoice,
  Selection,
  ValidationSummary,
} from '../scoring/evaluation-report.js';
import {
  clickRateOf,
  readSplitRows,
  supportRowCountsOf,
  type SplitRows,
  type TaskCounts,
} from '../scoring/held-out-rows.js';
import {
  calibrationCurvesOf,
  scoreSlice,
  scoreSlices,
  type ScoredRows,
  adgroupImpressions,
  adgroupLosses,
} from '../scoring/score-arms.js';
import { EVERY_ADGROUP, sizeBucketIndexOf, sizeBuckets } from '../scoring/size-buckets.js';
import { encodeTestLogits } from '../scoring/test-logits.js';
import {
  adaptationOf,
  constantLogits,
  oracleLogits,
  planArms,
  selectionCriterionOf,
  shiftedLogits,
  UNADAPTED,
  type ArmPlan,
  type TrainedParameters,
  selectCell,
} from './arms.js';
import {
  predictLogits,
  dividedStore,
  type AdaptableModel,
  type TaskJobContext,
} from './task-jobs.js';
import { crowdBlocksOf, withCrowdBlocksOf } from './crowd-blocks.js';
import { featureImportance } from './feature-importance.js';
import { writePredictions } from './predictions.js';
import { sumOf } from '../scoring/metrics.js';
import {
  bestCell,
  chooseArm,
  finiteOrNull,
  heldOutLosses,
  pairedDifference,
  type AdgroupLosses,
  type ValidatedArm,
} from '../scoring/validated-losses.js';

interface EvaluateOptions {
  /** The ids of jobs derive from its name and from what is evaluated. */
  readonly run: PreparedRun;
  readonly dispatcher: Dispatcher;
  readonly trained: TrainedParameters;
  /** Index of the label whose tasks are judged together, by the loss of that label. Default 0. */
  readonly labelIndex?: number;
  readonly caller: RunCaller;
  /** A Parquet file for the predictions of every arm for each test row, written last. */
  readonly predictionsPath?: string;
  /** False leaves out the importance of features, which takes a pass for each of them. */
  readonly hasImportance?: boolean;
}

interface Evaluation {
  readonly report: EvaluationReport;
  /**
   * The encoded logits of every arm for the test rows. The report names their digest; `compare`
   * reads them.
   */
  readonly testLogits: Uint8Array;
  /** The blocks of crowds as a tensor file, whose digest the report names; null without crowds. */
  readonly crowdBlocks: Uint8Array | null;
}

interface ParameterDigests {
  readonly meta: string;
  readonly global: string | null;
}

function digestsOf({ meta, global }: ArmPlan): ParameterDigests {
  return {
    meta: metaParametersDigest(meta.parameters),
    global: global === null ? null : metaParametersDigest(global.parameters),
  };
}

/**
 * Evaluates the tasks of one label. Validation tasks decide every setting; test tasks are only scored.
 * The caller writes the results to the run's output. Nothing is written before this returns, so that
 * an evaluation can be interrupted.
 *
 * @throws whatever the dispatcher throws.
 */
export async function evaluate(options: EvaluateOptions): Promise<Evaluation> {
  const { run, trained, labelIndex = 0, hasImportance = true } = options;
  const { config, store } = run;
  const { evaluation, seed } = config;
  const { confidence, bootstrapSamples, calibrationBins } = evaluation;
  const startedMs = options.caller.clock.monotonicMs();
  const planned = planArms(run, trained);
  const tasksOf = (split: AdgroupSplit): number[] => taskIndicesOf(store, split, labelIndex);
  const digests = digestsOf(planned);
  const backends = new Set<string>();
  const passesOver = predictionPasses(options, digests, backends);
  const { plan, crowdBlocks } = await withCrowdModel(passesOver, planned, tasksOf('train'));
  const trainClickRate = await clickRateOf(store, tasksOf('train'));
  const validationRows = await readSplitRows(store, tasksOf('validation'));
  const { choices, validation } = await validateArms(
    passesOver('choosing settings', plan.passes * tasksOf('validation').length),
    validationRows,
    plan,
    { ...evaluation, trainClickRate },
  );
  const knowledge = { choices, trainClickRate };
  const test = await readSplitRows(store, tasksOf('test'));
  const context = passesOver('predicting test adgroups', plan.passes * tasksOf('test').length);
  const scored: ScoredRows = {
    rows: test.query,
    supportRowCounts: supportRowCountsOf(test),
    logits: await predictArms(context, plan, knowledge, test),
  };
  const settings = { ...evaluation, seed, references: GLOBAL_ARMS };
  const shots = await predictShotCurve(passesOver, plan, knowledge, {
    ...{ taskIndices: tasksOf('test'), supportRowsMaxes: evaluation.shots ?? [], settings },
  });
  const importance = hasImportance
    ? await featureImportance(passesOver, adaptedModel(plan, choices), {
        ...{ store, seed, taskIndices: tasksOf('validation') },
      })
    : [];
  const testLogits = encodeTestLogits({
    ...scored,
    rows: test.query,
    taskKeys: test.query.taskIndices.map((index) => at(store.tasks, index).key),
  });
  const report: EvaluationReport = {
    formatVersion: 1,
    run: {
      ...describeRun(run, digests),
      finishedEpochMs: options.caller.clock.epochMs(),
      durationMs: options.caller.clock.monotonicMs() - startedMs,
      backends: [...backends].sort(),
    },
    counts: countsOf(tasksOf('train').length, validationRows, test),
    ...(store.manifest.labels === undefined
      ? {}
      : { label: labelOf(store.manifest, { labelIndex }) }),
    trainClickRate,
    ...(validation === null ? {} : { validation }),
    ...{ confidence, bootstrapSamples, calibrationBins, importance },
    selection: selectionOf(plan, choices, { scored, crowdBlocks }),
    arms: ARM_NAMES.filter((arm) => scored.logits.has(arm)),
    armsLeftOut: [...plan.leftOut],
    slices: scoreSlices(scored, settings),
    ...(shots.length === 0 ? {} : { shots }),
    calibrationCurves: calibrationCurvesOf(scored, evaluation),
    testLogits: blobRefOf(testLogits),
  };
  if (options.predictionsPath !== undefined)
    await writePredictions(options.predictionsPath, store, test.query, scored.logits);
  return { report, testLogits, crowdBlocks };
}

/** Fits blocks of crowds where an arm has them. */
async function withCrowdModel(
  passesOver: ReturnType<typeof predictionPasses>,
  plan: ArmPlan,
  taskIndices: readonly number[],
): Promise<{ readonly plan: ArmPlan } & Pick<Evaluation, 'crowdBlocks'>> {
  const { meta } = plan;
  if (!plan.usesCrowds) return { plan, crowdBlocks: null };
  const context = passesOver('fitting crowds', taskIndices.length);
  const blocks = await crowdBlocksOf(context, meta, taskIndices);
  const parameters = withCrowdBlocksOf(meta.parameters, blocks);
  return { plan: { ...plan, crowd: { ...meta, parameters } }, crowdBlocks: encodeTensors(blocks) };
}

/** The adapted model of the run, with blocks of crowds if validation chooses them; null if no arm has it. */
function adaptedModel(
  { meta, crowd, global, usesMeta }: ArmPlan,
  { cells, crowds }: ArmChoices,
): Parameters<typeof featureImportance>[1] {
  const hasCrowds = crowd !== null && crowds?.serves === 'crowds';
  const cell = cells.get(hasCrowds ? 'crowd-adapted' : 'meta-adapted')?.cell;
  if (usesMeta)
    return {
      model: hasCrowds ? crowd : meta,
      adaptation: cell === undefined ? UNADAPTED : adaptationOf(cell),
    };
  return global === null ? null : { model: global, adaptation: UNADAPTED };
}

function selectionOf(
  { innerSteps }: ArmPlan,
  { cells, blocks, crowds }: ArmChoices,
  { scored, crowdBlocks }: { scored: ScoredRows; crowdBlocks: Uint8Array | null },
): EvaluationReport['selection'] {
  return {
    criterion: selectionCriterionOf(scored.rows),
    cellsPerArm: innerSteps.cells.length,
    chosen: [...cells.values()],
    ...(blocks === null ? {} : { blocks: { rule: BLOCK_CHOICE_RULE, buckets: [...blocks] } }),
    ...(crowds === null || crowdBlocks === null
      ? {}
      : { crowds: { ...crowds, blocks: blobRefOf(crowdBlocks) } }),
  };
}

/** Every arm adapts on the first support rows only. */
/** One point for each number of support rows, the smallest first. */
async function predictShotCurve(
  passesOver: ReturnType<typeof predictionPasses>,
  plan: ArmPlan,
  knowledge: ArmKnowledge,
  curve: {
    readonly taskIndices: readonly number[];
    readonly supportRowsMaxes: readonly number[];
    readonly settings: Parameters<typeof scoreSlice>[2];
  },
): Promise<ShotPoint[]> {
  const { taskIndices, supportRowsMaxes, settings } = curve;
  const points: ShotPoint[] = [];
  for (const supportRowsMax of new Set(supportRowsMaxes.toSorted((a, b) => a - b))) {
    const stage = `k-shot curve, ${supportRowsMax} rows`;
    const context = passesOver(stage, plan.passes * taskIndices.length);
    const divided = dividedStore(context.store, taskIndices, { by: 'shots', supportRowsMax });
    const rows = await readSplitRows(divided.store, taskIndices);
    const logits = await predictArms({ ...context, ...divided }, plan, knowledge, rows);
    points.push(shotPoint(supportRowsMax, rows, logits, settings));
  }
  return points;
}

function shotPoint(
  supportRowsMax: number,
  rows: SplitRows,
  logits: ScoredRows['logits'],
  settings: Parameters<typeof scoreSlice>[2],
): ShotPoint {
  const supportRowCounts = supportRowCountsOf(rows);
  const adaptedOnRowCount = supportRowCounts.reduce((sum, count) => sum + count, 0);
  const bucket = { ...EVERY_ADGROUP, name: `shots ${supportRowsMax}` };
  const slice = scoreSlice({ rows: rows.query, supportRowCounts, logits }, bucket, settings);
  if (slice === null) throw new Error('there is no adgroup to score');
  return { supportRowsMax, adaptedOnRowCount, slice };
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
    ...{ storeAddress, storeDigest: store.digest },
    ...{ metaDigest: digests.meta, globalDigest: digests.global },
  };
}

function countsOf(
  trainTasks: number,
  validation: SplitRows,
  test: SplitRows,
): EvaluationReport['counts'] {
  return {
    trainTasks,
    validationTasks: validation.query.taskIndices.length,
    testTasks: test.query.taskIndices.length,
    validationQueryRows: validation.query.clicks.length,
    testSupportRows: test.support.clicks.length,
    testQueryRows: test.query.clicks.length,
  };
}

/** Everything the arms need besides the rows that they predict. */
interface ArmKnowledge {
  readonly choices: ArmChoices;
  /** Clicks per impression, or the mean value, of the training tasks. The constant arm predicts it. */
  readonly trainClickRate: number;
}

/** @returns logits, or values, of every arm for the query rows of the test tasks, `[rowCount]`. */
async function predictArms(
  context: TaskJobContext,
  plan: ArmPlan,
  { choices, trainClickRate }: ArmKnowledge,
  test: SplitRows,
): Promise<Map<ArmName, Float32Array>> {
  const { taskIndices } = test.query;
  const found = new Map<ArmName, Float32Array>();
  found.set('constant', constantLogits(test.query, trainClickRate));
  const oracle = oracleLogits(test.query);
  if (oracle !== null) found.set('oracle', oracle);
  const predict = async (
    model: AdaptableModel,
    unadaptedArm: ArmName,
    adaptedArm: ArmName,
  ): Promise<void> => {
    const cell = choices.cells.get(adaptedArm)?.cell;
    const { logits } = await predictLogits(context, {
      ...{ ...model, taskIndices, role: 'query' },
      adaptations: cell === undefined ? [UNADAPTED] : [UNADAPTED, adaptationOf(cell)],
      keep: cell === undefined ? [0] : [0, 1],
    });
    found.set(unadaptedArm, at(logits, 0));
    if (cell !== undefined) found.set(adaptedArm, at(logits, 1));
  };
  const { global, meta, arms } = plan;
  if (global !== null && plan.usesGlobal) await predict(global, 'global', 'finetuned');
  if (plan.usesMeta) await predict(meta, 'meta-unadapted', 'meta-adapted');
  if (plan.crowd !== null) await predict(plan.crowd, 'crowd-unadapted', 'crowd-adapted');
  const level = choices.crowds?.serves === 'crowds' ? 'crowd' : 'meta';
  const [unadapted, adapted] = [found.get(`${level}-unadapted`), found.get(`${level}-adapted`)];
  if (choices.blocks !== null && unadapted !== undefined && adapted !== undefined)
    found.set(
      'meta-chosen',
      chosenLogits(choices.blocks, { adapted, unadapted }, test.query, supportRowCountsOf(test)),
    );
  const shift = choices.cells.get('global-shift')?.cell;
  const query = found.get('global');
  if (global !== null && shift !== undefined && query !== undefined) {
    const { logits } = await predictLogits(context, {
      ...{ ...global, taskIndices, role: 'support' },
      ...{ adaptations: [UNADAPTED], keep: [0] },
    });
    found.set('global-shift', shiftedLogits(shift, { query, support: at(logits, 0) }, test));
  }
  const wanted = ARM_NAMES.flatMap((arm): [ArmName, Float32Array][] => {
    const logits = found.get(arm);
    return logits !== undefined && arms.has(arm) ? [[arm, logits]] : [];
  });
  return new Map(wanted);
}

function taskIndicesOf(store: TaskStore, split: AdgroupSplit, labelIndex: number): number[] {
  return store.tasks
    .filter((task) => task.split === split && (task.labelIndex ?? 0) === labelIndex)
    .map((task) => task.taskIndex);
}

/**
 * Checked before anything is computed.
 *
 * @throws QianmoError of kind `data` if the store holds out too few adgroups for the arms of the plan.
 */
export function requireHeldOutAdgroups(
  {
    config,
    store,
    labelIndex = 0,
  }: Pick<PreparedRun, 'config' | 'store'> & Pick<EvaluateOptions, 'labelIndex'>,
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

/** Raised when passes send other jobs under the same numbers. */
const PASSES_VERSION = 1;

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

/** The settings that validation decided. */
interface ArmChoices {
  readonly cells: ReadonlyMap<ArmName, Selection>;
  /** The choices of the arm meta-chosen by size bucket; null without that arm. */
  readonly blocks: readonly BlockChoice[] | null;
  /** Null without crowds. */
  readonly crowds: Omit<CrowdChoice, 'blocks'> | null;
}

interface ValidationSettings {
  readonly sizeBucketEdges: readonly number[];
  /** Clicks per impression, or the mean value, of the training tasks. */
  readonly trainClickRate: number;
}

interface ValidatedArms {
  readonly choices: ArmChoices;
  /** Null if there are no validation adgroups. */
  readonly validation: ValidationSummary | null;
}

async function validateArms(
  context: TaskJobContext,
  rows: SplitRows,
  plan: ArmPlan,
  settings: ValidationSettings,
): Promise<ValidatedArms> {
  if (rows.query.taskIndices.length === 0)
    return { choices: { cells: new Map(), blocks: null, crowds: null }, validation: null };
  const { sizeBucketEdges: edges } = settings;
  const impressions = adgroupImpressions(rows.query);
  const byCell = await triedLosses(context, rows, plan, settings);
  const cells = new Map<ArmName, Selection>();
  const grids = [
    ['global-shift', plan.shiftPriors],
    ['finetuned', plan.innerSteps],
    ['meta-adapted', plan.innerSteps],
    ['crowd-adapted', plan.innerSteps],
  ] as const;
  for (const [arm, grid] of grids) {
    const tried = byCell.get(arm) ?? [];
    if (tried.length > 0) cells.set(arm, selectCell(arm, grid, tried, impressions));
  }
  const levelOf = (level: 'meta' | 'crowd'): LevelLosses => ({
    adapted: byCell.get(`${level}-adapted`) ?? [],
    unadapted: byCell.get(`${level}-unadapted`)?.[0] ?? new Float64Array(),
  });
  const choosing: Choosing = {
    ...{ edges, impressions, supportRowCounts: supportRowCountsOf(rows), ...levelOf('meta') },
    ...(plan.crowd === null ? {} : { withCrowds: levelOf('crowd') }),
  };
  const hasBlocks = plan.arms.has('meta-chosen') && choosing.adapted.length > 0;
  const validated = ARM_NAMES.flatMap((arm): ValidatedArm[] => {
    if (!plan.arms.has(arm)) return [];
    const tried = byCell.get(arm) ?? [];
    const lossesBy = (isCounted?: (adgroup: number) => boolean): AdgroupLosses =>
      arm === 'meta-chosen'
        ? chosenLosses(choosing, isCounted)
        : at(tried, bestCell(tried, isCounted));
    if (arm === 'meta-chosen' ? !hasBlocks : tried.length === 0) return [];
    return [{ arm, losses: lossesBy(), heldOut: heldOutLosses(impressions.length, lossesBy) }];
  });
  return {
    choices: {
      cells,
      blocks: hasBlocks ? chosenBlocks(servedLevel(choosing)) : null,
      crowds: choosing.withCrowds === undefined ? null : crowdChoiceOf(choosing),
    },
    validation: chooseArm(validated, impressions),
  };
}

/**
 * The losses of every arm with each of its settings; arms without a grid have one. It takes one pass over the query rows
 * for each model, with all of its cells, and one over support rows for shifts.
 */
async function triedLosses(
  context: TaskJobContext,
  rows: SplitRows,
  { arms, global, meta, ...plan }: ArmPlan,
  { trainClickRate }: ValidationSettings,
): Promise<Map<ArmName, readonly AdgroupLosses[]>> {
  const losses = new Map<ArmName, readonly AdgroupLosses[]>();
  const lossesOf = (logits: Float32Array): AdgroupLosses => adgroupLosses(logits, rows.query);
  losses.set('constant', [lossesOf(constantLogits(rows.query, trainClickRate))]);
  const oracle = oracleLogits(rows.query);
  if (oracle !== null) losses.set('oracle', [lossesOf(oracle)]);
  const predict = async (
    model: AdaptableModel,
    role: 'query' | 'support',
    hasGrid: boolean,
  ): Promise<{ unadapted: Float32Array; byCell: readonly AdgroupLosses[] }> => {
    const keepsLogits = model === global && arms.has('global-shift');
    const cells = hasGrid ? plan.innerSteps.cells.map(adaptationOf) : [];
    const { lossSums, logits } = await predictLogits(context, {
      ...{ ...model, taskIndices: rows.query.taskIndices, role },
      ...{ adaptations: [UNADAPTED, ...cells], keep: keepsLogits ? [0] : [] },
    });
    return { unadapted: logits[0] ?? new Float32Array(), byCell: lossSums };
  };
  if (global !== null && plan.usesGlobal) {
    const query = await predict(global, 'query', arms.has('finetuned'));
    losses.set('global', query.byCell.slice(0, 1));
    losses.set('finetuned', query.byCell.slice(1));
    if (arms.has('global-shift')) {
      const support = await predict(global, 'support', false);
      const logits = { query: query.unadapted, support: support.unadapted };
      const shifted = plan.shiftPriors.cells.map((cell) => shiftedLogits(cell, logits, rows));
      losses.set('global-shift', shifted.map(lossesOf));
    }
  }
  if (plan.usesMeta) {
    const { byCell } = await predict(meta, 'query', plan.adaptsMeta);
    losses.set('meta-unadapted', byCell.slice(0, 1));
    losses.set('meta-adapted', byCell.slice(1));
  }
  if (plan.crowd !== null) {
    const { byCell } = await predict(plan.crowd, 'query', plan.adaptsMeta);
    losses.set('crowd-unadapted', byCell.slice(0, 1));
    losses.set('crowd-adapted', byCell.slice(1));
  }
  return losses;
}

const BUCKET_ADGROUPS_MIN = 10;

/** How the arm meta-chosen chooses, in words, as reports have it. */
const BLOCK_CHOICE_RULE =
  'adapted blocks where their loss on the validation adgroups of the bucket, paired and per impression, is below that of the ' +
  `unadapted ones; a bucket of fewer than ${BUCKET_ADGROUPS_MIN} goes by all validation adgroups`;

interface LevelLosses {
  /** With each cell of the grid. */
  readonly adapted: readonly AdgroupLosses[];
  readonly unadapted: AdgroupLosses;
}

/** The validation losses that decide which blocks an adgroup is served. */
interface Choosing extends LevelLosses {
  readonly edges: readonly number[];
  readonly impressions: Float64Array;
  readonly supportRowCounts: readonly number[];
  /** Absent without crowds. */
  readonly withCrowds?: LevelLosses;
}

/** Crowds are served where adapted adgroups lose less with them, by more than two standard errors. */
export function crowdChoiceOf(
  { adapted, impressions, withCrowds }: Choosing,
  isCounted: (adgroup: number) => boolean = () => true,
): Omit<CrowdChoice, 'blocks'> {
  if (withCrowds === undefined || adapted.length === 0) return { difference: null, serves: 'none' };
  const counted = (values: Float64Array): Float64Array =>
    values.filter((_, adgroup) => isCounted(adgroup));
  const best = (tried: readonly AdgroupLosses[]): AdgroupLosses =>
    counted(at(tried, bestCell(tried, isCounted)));
  const [withThem, without] = [best(withCrowds.adapted), best(adapted)];
  const difference = pairedDifference(withThem, without, counted(impressions));
  const isBetter = difference !== null && difference.value < -2 * difference.standardError;
  return { difference, serves: isBetter ? 'crowds' : 'none' };
}

function servedLevel(choosing: Choosing, isCounted?: (adgroup: number) => boolean): Choosing {
  const { serves } = crowdChoiceOf(choosing, isCounted);
  return serves === 'none' ? choosing : { ...choosing, ...choosing.withCrowds };
}

/**
 * Decides by size bucket which blocks an adgroup is served: its own adapted ones, or those that all adgroups start
 * from. Personalisation may help small adgroups and hurt big ones, or the other way round.
 *
 * @param isCounted the adgroups that decide.
 */
export function chosenBlocks(
  { edges, impressions, supportRowCounts, adapted, unadapted }: Choosing,
  isCounted: (adgroup: number) => boolean = () => true,
): BlockChoice[] {
  const losses = at(adapted, bestCell(adapted, isCounted));
  const counted = [...unadapted.keys()].filter(isCounted);
  const differenceOf = (adgroups: readonly number[]): number | null => {
    const shown = sumOf(adgroups.map((adgroup) => at(impressions, adgroup)));
    const sum = sumOf(adgroups.map((adgroup) => at(losses, adgroup) - at(unadapted, adgroup)));
    return finiteOrNull(sum / shown);
  };
  const buckets = edges.length === 0 ? [EVERY_ADGROUP] : sizeBuckets(edges);
  return buckets.map((bucket, index): BlockChoice => {
    const own = counted.filter(
      (adgroup) => sizeBucketIndexOf(edges, at(supportRowCounts, adgroup)) === index,
    );
    const difference = differenceOf(own);
    const isOwn = difference !== null && own.length >= BUCKET_ADGROUPS_MIN;
    const deciding = (isOwn ? difference : differenceOf(counted)) ?? 0;
    return {
      ...bucket,
      ...{ adgroupCount: own.length, difference, decidedBy: isOwn ? 'bucket' : 'all' },
      serves: deciding < 0 ? 'adapted' : 'unadapted',
    };
  });
}

/** The losses of the arm meta-chosen, with the cell and the blocks that these adgroups choose. */
function chosenLosses(choosing: Choosing, isCounted?: (adgroup: number) => boolean): AdgroupLosses {
  const served = servedLevel(choosing, isCounted);
  const { adapted, unadapted, edges, supportRowCounts } = served;
  const losses = at(adapted, bestCell(adapted, isCounted));
  const blocks = chosenBlocks(served, isCounted);
  return unadapted.map((loss, adgroup) => {
    const bucket = sizeBucketIndexOf(edges, at(supportRowCounts, adgroup));
    return at(blocks, bucket).serves === 'adapted' ? at(losses, adgroup) : loss;
  });
}

interface BlockLogits {
  readonly adapted: Float32Array;
  readonly unadapted: Float32Array;
}

/** The logits that are served: for each adgroup, those chosen for the bucket that it is in. */
function chosenLogits(
  choices: readonly BlockChoice[],
  { adapted, unadapted }: BlockLogits,
  query: TaskCounts,
  supportRowCounts: readonly number[],
): Float32Array {
  const served = Float32Array.from(unadapted);
  for (const [position, count] of supportRowCounts.entries()) {
    const choice = choices.find(
      ({ supportRowCountMin: least, supportRowCountMax: most }) =>
        count >= least && (most === null || count <= most),
    );
    if (choice?.serves !== 'adapted') continue;
    const [start, end] = spanAt(query.starts, position);
    served.set(adapted.subarray(start, end), start);
  }
  return served;
}
