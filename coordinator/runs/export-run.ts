/**
 * Exports a trained run in full, or refreshes it: appends new logs to its task store, trains the trunk further if asked to,
 * adapts what that makes stale, and moves the label. What is done is known from the store, the checkpoint and the bundles
 * alone, so that a refresh which was stopped or killed goes on when it is called again, and one that is repeated has
 * nothing to do.
 */

import { tmpdir } from 'node:os';
import { openTaskStore } from '../../shared/tasks/task-store-reader.js';
import { appendLogs, type AppendedLogs } from '../prepare/append-logs.js';
import { QianmoError, errorOf } from '../../shared/base/errors.js';
import {
  moveLabel,
  LATEST_LABEL,
  moveLabelFrom,
  readLabel,
  readBundleManifest,
  type PublishedBundle,
} from '../../shared/bundle/bundle-store.js';
import type { BundleServing } from '../../shared/bundle/bundle-manifest.js';
import {
  probeConditionalWrites,
  joinAddress,
  type ObjectStore,
} from '../../shared/storage/object-store.js';
import { metaParametersDigest } from '../../shared/models/meta-parameters.js';
import { labelsOf } from '../../shared/tasks/task-label.js';
import {
  adgroupsOf,
  changedSince,
  featuresAt,
  type TaskStore,
  type TaskEntry,
} from '../../shared/tasks/task-store.js';
import {
  exportBundle,
  exportChanged,
  type ExportedBundle,
  type ExportSource,
  type ExportedChanges,
} from '../export/export-bundle.js';
import { withCrowdBlocksOf } from '../evaluation/crowd-blocks.js';
import {
  needsEvaluation,
  otherChoice,
  servedLevelOf,
  servingOf,
} from '../export/adapted-shards.js';
import { warningEvent } from '../../shared/events/run-events.js';
import type { PreparedRun } from '../plan/prepared-run.js';
import {
  CROWD_BLOCKS_FILE,
  fileOfSegment,
  parseReport,
  REPORT_FILE,
  type EvaluationReport,
} from '../scoring/evaluation-report.js';
import { decodeTestLogits, TEST_LOGITS_KEY, type TestLogits } from '../scoring/test-logits.js';
import { interruptedAs } from './run-handle.js';
import type { RunContext } from './run-context.js';
import { chosenConfigOf } from './places.js';
import {
  dispatchForRun,
  openWithDispatch,
  isOverQueue,
  type DispatchChoice,
  type RunDispatch,
} from './dispatch-for-run.js';
import { loggedCallOf, loggedRun, trackedCallOf } from './logged-run.js';
import type { RequestOf } from './requests.js';
import {
  objectStoreOf,
  openStoreAsPrepared,
  preparedRunOn,
  savedMetaParametersOf,
  writesUnconditional,
  checkpointAddressOf,
  openPreparedRun,
} from './run-files.js';
import { readPublishedBundle } from '../../shared/bundle/read-bundle.js';
import type { RunConfig } from '../../shared/config/run-config.js';
import { methodPlanOf } from '../../shared/methods/methods.js';
import type { BlobRef } from '../../shared/storage/blob-store.js';
import type { NamedTensors } from '../../shared/tensors/named-tensors.js';
import { sha256Of } from '../../shared/tensors/sha256.js';
import { decodeTensors, floatsOf } from '../../shared/tensors/tensor-codec.js';
import { grownParameters } from '../checkpoints/checkpoint-reader.js';
import { plateausMaxOf } from '../../shared/config/training-config.js';
import {
  latestManifestOf,
  plateausIn,
  type CheckpointManifest,
  outerStepsOf,
} from '../checkpoints/checkpoint-manifest.js';
import { createInMemoryDispatcher } from '../dispatch/in-memory-dispatcher.js';
import { rateShareAt } from '../training/meta-optimizer.js';

export interface ExportResult extends ExportedBundle {
  /** Where the bundles are. */
  readonly bundles: string;
  readonly label: string;
}

export async function exportRun(
  request: RequestOf<'export'>,
  context: RunContext,
): Promise<ExportResult> {
  const config = await chosenConfigOf(request.config, context.environment);
  const bundles = request.out ?? joinAddress(config.output, 'bundles');
  return loggedRun(loggedCallOf('export', config), context, async (logged) => {
    const [source, { dispatcher }] = await openWithDispatch(config, request, logged, async () => {
      const store = await openStoreAsPrepared(config, logged);
      return sourceOf(preparedRunOn(store, config), store, logged);
    });
    const objects = objectStoreOf(config, bundles, logged);
    if (!(await probeConditionalWrites(objects))) logged.sink(writesUnconditional(objects.address));
    const compute = await logged.machine.openCompute(logged, config.compute);
    const surroundings = { objects, dispatcher, compute, caller: logged };
    const exported = await interruptedAs(exportBundle(source, request, surroundings), () =>
      stoppedExport(bundles),
    );
    await moveLabel(objects, request.label, exported.digest);
    return { ...exported, bundles, label: request.label };
  });
}

function stoppedExport(bundles: string) {
  return {
    what: 'the export was stopped before the bundle was published',
    where: bundles,
    cure: 'run the same command again; adgroups that were adapted are kept',
  };
}

async function sourceOf(
  run: PreparedRun,
  store: TaskStore,
  context: RunContext,
): Promise<ExportSource> {
  const { config } = run;
  const trained = await trainedSourceOf(run, store, context);
  const digest = metaParametersDigest(trained.parameters);
  const serving: BundleServing[] = [];
  let served: Pick<ExportSource, 'parameters' | 'level'> = {
    ...{ parameters: trained.parameters, level: 'meta' },
  };
  const testLogits: (TestLogits | null)[] = [];
  for (const { segment } of labelsOf(store.manifest)) {
    const { report, where, logits } = await evaluationOf(run, segment);
    const { method } = config;
    const made = { metaDigest: digest, storeDigest: store.digest, method, where };
    serving.push(servingOf(report, made));
    const other = report === null || !needsEvaluation(method) ? null : otherChoice(report);
    if (other !== null) context.sink(warningEvent('other-choice', other));
    const isOfThis = report?.run.metaDigest === digest && report.run.storeDigest === store.digest;
    testLogits.push(isOfThis ? logits : null);
    const { crowds } = report?.selection ?? {};
    if (crowds !== undefined && servedLevelOf({ crowds }) === 'crowd') {
      const blocks = await evaluatedCrowdBlocks(run, crowds.blocks);
      served = { parameters: withCrowdBlocksOf(trained.parameters, blocks), level: 'crowd' };
    }
  }
  return { ...trained, ...served, serving, testLogits };
}

/** @throws QianmoError of kind `data` if the file is not the one that the report names. */
async function evaluatedCrowdBlocks({ config }: PreparedRun, ref: BlobRef): Promise<NamedTensors> {
  const found = await objectStoreOf(config, config.output).get(CROWD_BLOCKS_FILE);
  const where = joinAddress(config.output, CROWD_BLOCKS_FILE);
  const blocks =
    found === null || sha256Of(found.bytes) !== ref.sha256
      ? null
      : floatsOf(decodeTensors(found.bytes, where));
  if (blocks !== null) return blocks;
  throw errorOf('data', 'the blocks of crowds are not those that the evaluation chose', {
    where,
    expected: `a file with the sha256 ${ref.sha256}`,
    ...(found === null ? { found: 'no file' } : {}),
    cure: 'evaluate the run again: qianmo evaluate run.yaml',
  });
}

/** What an export needs that no evaluation has a part in. */
async function trainedSourceOf(
  run: PreparedRun,
  store: TaskStore,
  context: RunContext,
): Promise<Omit<ExportSource, 'serving' | 'testLogits' | 'level'>> {
  const saved = await savedMetaParametersOf(run, context);
  if (saved === null)
    throw errorOf('usage', 'the run has no checkpoint to export', {
      where: joinAddress(run.config.output, 'checkpoints'),
      cure: 'train it first: qianmo train run.yaml',
    });
  return {
    ...{ run, store },
    parameters: saved.metaParameters,
    checkpoint: {
      ...{ outerStep: saved.outerStep, digest: metaParametersDigest(saved.trained) },
      fingerprints: saved.computedOn.map(({ fingerprint }) => fingerprint),
      ...(saved.earlierStores.length === 0 ? {} : { earlierStores: [...saved.earlierStores] }),
    },
    columns: (await store.readColumnTypes?.()) ?? {},
  };
}

interface FoundEvaluation {
  readonly report: EvaluationReport | null;
  readonly where: string;
  readonly logits: TestLogits | null;
}

/** The evaluation of a segment's adgroups in the output of the run. */
async function evaluationOf(
  { config }: PreparedRun,
  segment: string | null,
): Promise<FoundEvaluation> {
  const output = objectStoreOf(config, config.output);
  const key = fileOfSegment(REPORT_FILE, segment);
  const where = joinAddress(config.output, key);
  const json = await output.get(key);
  if (json === null) return { report: null, where, logits: null };
  const report = parseReport(Buffer.from(json.bytes).toString('utf8'), where);
  const logitsKey = fileOfSegment(TEST_LOGITS_KEY, segment);
  const bytes = await output.get(logitsKey);
  const logits = bytes === null ? null : decodeTestLogits(bytes.bytes, logitsKey);
  return { report, where, logits };
}

interface ChangedExport {
  /** The bundle that the label points at now. */
  readonly digest: string;
  readonly bundles: string;
  readonly label: string;
  /** The digest of the bundle that was changed. */
  readonly base: string;
  /** Null if nothing has changed since that bundle, which is then kept. */
  readonly changes: ExportedChanges | null;
}

interface RefreshedExport extends ChangedExport {
  /** Null unless the trunk has changed since that bundle. */
  readonly full: ExportedBundle | null;
}

/** Moves a label to the bundle that was made, unless it is there. */
type Publish = (
  objects: ObjectStore,
  moved: { from: string | null; to: string },
) => Promise<unknown>;

/** Exports what has changed since the bundle of a label, or all if the trunk has: what is served stays as it is. */
async function exportRefreshed(
  config: RunConfig,
  request: ChangedPlace & DispatchChoice,
  made: Pick<ChangeDispatch, 'dispatchOf' | 'publish'>,
  context: RunContext,
): Promise<RefreshedExport> {
  const opened = await openChange(config, request, context);
  const { objects, place, source, published, isSameTrunk } = opened;
  const { dispatchOf, publish } = made;
  const carried = { ...made, hereMax: hereMaxOf(config, request) };
  if (isSameTrunk) return { ...(await exportChanges(opened, carried, context)), full: null };
  refuseOtherTrunk(config);
  const { dispatcher } = await dispatchOf();
  const compute = await context.machine.openCompute(context, config.compute);
  const surroundings = { objects, dispatcher, compute, caller: context };
  const { encoding, rows } = published.manifest.blocks;
  const full = await interruptedAs(exportBundle(source, { encoding, rows }, surroundings), () =>
    stoppedExport(place.bundles),
  );
  await publish(objects, { from: opened.labelled, to: full.digest });
  return { ...place, digest: full.digest, changes: null, full };
}

/** Blocks of crowds are fitted to one trunk, by an evaluation. */
function refuseOtherTrunk({ method, output }: RunConfig): void {
  const { crowd } = methodPlanOf(method);
  if (crowd === undefined) return;
  throw errorOf('usage', 'a refresh keeps the blocks of crowds, which do not fit another trunk', {
    where: output,
    found: `method.crowd: ${crowd}, and a trunk that is trained further`,
    cure: 'leave out --outer-steps; or run qianmo train --resume, evaluate and export',
  });
}

/**
 * Beyond these numbers another process is worth the time of its start: workers compute side by side, and a single one
 * leaves this process free for what does not compute.
 */
const ADGROUPS_HERE_MAX = { besideSeveral: 10_000, besideOne: 100_000 };

/** How changed adgroups may be adapted. */
interface ChangeDispatch {
  /** So many are adapted in this process; none where other machines compute. */
  readonly hereMax: number;
  readonly dispatchOf: () => Promise<RunDispatch>;
  readonly publish: Publish;
}

function hereMaxOf(config: RunConfig, choice: DispatchChoice): number {
  if (choice.processes === 1) return ADGROUPS_HERE_MAX.besideOne;
  const isElsewhere = isOverQueue(config, choice) && choice.workers === undefined;
  return isElsewhere ? 0 : ADGROUPS_HERE_MAX.besideSeveral;
}

type ChangedPlace = Pick<RequestOf<'refresh'>, 'out' | 'label'>;

/** What a bundle was made of, and what there is now. */
interface OpenedChange {
  readonly objects: ObjectStore;
  readonly place: Pick<ChangedExport, 'bundles' | 'label' | 'base'>;
  readonly published: PublishedBundle;
  /** The bundle that the label pointed at; null if it is a new one. */
  readonly labelled: string | null;
  readonly source: ExportSource;
  readonly isChanged: (task: TaskEntry) => boolean;
  readonly isSameTrunk: boolean;
}

async function openChange(
  config: RunConfig,
  request: ChangedPlace,
  context: RunContext,
): Promise<OpenedChange> {
  const bundles = request.out ?? bundlesAddressOf(config);
  const objects = objectStoreOf(config, bundles, context);
  const store = await openStoreAsPrepared(config, context);
  const run = preparedRunOn(store, config);
  const { published, labelled } = await bundleToChange(objects, request.label);
  const isChanged = changedSinceBundle(store, published, objects);
  const trained = await trainedSourceOf(run, store, context);
  const { serving, provenance } = published.manifest;
  return {
    ...{ objects, published, labelled, isChanged },
    place: { bundles, label: request.label, base: published.digest },
    source: { ...trained, serving, testLogits: serving.map(() => null), level: 'meta' },
    isSameTrunk: provenance.checkpoint.digest === trained.checkpoint.digest,
  };
}

async function exportChanges(
  { objects, place, published, labelled, source, isChanged, isSameTrunk }: OpenedChange,
  carried: ChangeDispatch,
  context: RunContext,
): Promise<ChangedExport> {
  const { bundles } = place;
  const changedCount = adgroupsOf(source.store).filter(isChanged).length;
  if (isSameTrunk && changedCount === 0) {
    await carried.publish(objects, { from: labelled, to: published.digest });
    return { ...place, digest: published.digest, changes: null };
  }
  const loaded = await readPublishedBundle(objects, published.digest);
  const { machine, clock, sink } = context;
  const compute = await machine.openCompute(context, source.run.config.compute);
  const isHere = compute.isExact && changedCount <= carried.hereMax;
  const dispatcher = isHere
    ? createInMemoryDispatcher({
        ...{ executors: [await compute.executorOn(source.store)], clock, sink },
        attemptsMax: source.run.config.queue.jobAttemptsMax,
      })
    : (await carried.dispatchOf()).dispatcher;
  const surroundings = { objects, dispatcher, compute, caller: context };
  const crowds = withCrowdBlocksOf(source.parameters, loaded.model.dense);
  const served = { ...source, parameters: grownParameters(crowds, source.run.spec) };
  const changes = await interruptedAs(
    exportChanged(served, { published, loaded }, isChanged, surroundings),
    () => stoppedExport(bundles),
  );
  const digest = changes?.digest ?? published.digest;
  await carried.publish(objects, { from: labelled, to: digest });
  return { ...place, digest, changes };
}

/**
 * Demands what a refresh needs before it appends rows: a bundle.
 *
 * @returns throws unless the bundle was made of this store as it is or once was, and the run can be trained further if it
 *   is to be.
 * @throws QianmoError of kind `usage` if there is none.
 */
export async function refreshableOf(
  config: RunConfig,
  { out, label, outerSteps }: ChangedPlace & { readonly outerSteps?: number | undefined },
): Promise<(store: TaskStore) => void> {
  const objects = objectStoreOf(config, out ?? bundlesAddressOf(config));
  const { published } = await bundleToChange(objects, label);
  const trained = await latestManifestOf(objectStoreOf(config, checkpointAddressOf(config)));
  return (store) => {
    changedSinceBundle(store, published, objects);
    if (outerSteps !== undefined) refuseOtherTrunk(config);
    if (outerSteps !== undefined && trained !== null)
      requireTrainable(trained, { store, config, outerSteps });
  };
}

/** The bundle of the label, or the latest one if the label is a new one. */
async function bundleToChange(
  objects: ObjectStore,
  label: string,
): Promise<Pick<OpenedChange, 'published' | 'labelled'>> {
  const own = await readLabel(objects, label);
  const found = own ?? (await readLabel(objects, LATEST_LABEL));
  if (found !== null) {
    const published = await readBundleManifest(objects, found.bundle);
    return { published, labelled: own?.bundle ?? null };
  }
  throw errorOf('usage', 'there is no bundle that could be changed', {
    where: objects.address,
    expected: `a bundle with the label ${[...new Set([label, LATEST_LABEL])].join(' or ')}`,
    cure: 'export the run in full first: qianmo export run.yaml',
  });
}

function bundlesAddressOf({ output }: RunConfig): string {
  return joinAddress(output, 'bundles');
}

function changedSinceBundle(
  store: TaskStore,
  { digest, manifest }: PublishedBundle,
  objects: ObjectStore,
): (task: TaskEntry) => boolean {
  const { storeDigest } = manifest.provenance;
  const isChanged = changedSince(store, storeDigest);
  if (isChanged !== null) return isChanged;
  throw new QianmoError({
    kind: 'usage',
    what: 'the bundle was made of another task store, so what has changed is not known',
    where: `${objects.address}@${digest}`,
    expected: `a store that was ${store.digest.slice(0, 12)} or one that logs were appended to since`,
    found: storeDigest.slice(0, 12),
    cure: 'export the run in full: qianmo export run.yaml',
  });
}

interface TrainedFurther {
  readonly fromOuterStep: number;
  readonly toOuterStep: number;
}

/**
 * Trains on from the latest checkpoint, unless that has been done since logs were appended last.
 *
 * @returns null if there was nothing to train.
 * @throws QianmoError of kind `usage` if the run cannot be trained on.
 */
async function trainFurther(
  config: RunConfig,
  outerSteps: number,
  dispatchOf: () => Promise<RunDispatch>,
  context: RunContext,
): Promise<TrainedFurther | null> {
  const run = await openPreparedRun(config, context);
  const manifest = await latestManifestOf(objectStoreOf(config, checkpointAddressOf(config)));
  // The next reader of the checkpoint says what is wrong with it.
  if (manifest === null) return null;
  const extendTo = refreshedLengthOf(manifest, { store: run.store, config, outerSteps });
  if (extendTo === null) return null;
  const { trainOn } = await import('./train-run.js');
  const start = { resume: true, fresh: false, extendTo };
  const trained = await trainOn(run, await dispatchOf(), start, context);
  // Training may have stopped early.
  return { fromOuterStep: manifest.outerStep, toOuterStep: trained.outerSteps };
}

type TrainedSoFar = Pick<
  CheckpointManifest,
  'outerStep' | 'storeDigest' | 'earlierStores' | 'extendedOuterSteps' | 'validated'
>;

interface Refreshed {
  readonly store: Pick<TaskStore, 'digest' | 'manifest'>;
  readonly config: RunConfig;
  /** How many outer steps to train further. */
  readonly outerSteps: number;
}

/**
 * The outer step to train to. It follows from the checkpoint, so that a refresh which was killed does not train longer
 * than one that was not: a checkpoint of the store as it is has the length that the refresh gave it.
 *
 * @returns null if nothing is to be trained.
 */
export function refreshedLengthOf(
  manifest: TrainedSoFar,
  { store, config, outerSteps }: Refreshed,
): number | null {
  const { storeDigest, earlierStores = [] } = manifest;
  if (storeDigest === store.digest)
    return earlierStores.length > 0 && !isAtItsEnd(manifest, config)
      ? outerStepsOf(manifest, config.training)
      : null;
  requireTrainable(manifest, { store, config, outerSteps });
  return manifest.outerStep + outerSteps;
}

/**
 * Demands that the run may be trained further. It is asked before logs are appended, too.
 *
 * @throws QianmoError of kind `usage` if it may not.
 */
function requireTrainable(manifest: TrainedSoFar, { store, config, outerSteps }: Refreshed): void {
  const { outerStep, storeDigest, earlierStores = [] } = manifest;
  const { staleness, schedule, outerSteps: scheduledSteps } = config.training;
  const refused = (what: string, found: string, cure: string): QianmoError =>
    new QianmoError({ kind: 'usage', what, where: config.output, found, cure });
  if (storeDigest !== store.digest && featuresAt(store, storeDigest) === null)
    throw refused(
      'the run was trained on another task store, so it cannot be trained further on this one',
      `a checkpoint of ${storeDigest.slice(0, 12)}, a store of ${store.digest.slice(0, 12)}`,
      'train the run on this store: qianmo train run.yaml --fresh',
    );
  if (staleness !== undefined)
    throw refused(
      'a run with staleness is not trained further by a refresh',
      'training.staleness, by which outer steps depend on how many there are',
      'leave out --outer-steps, or training.staleness from the start',
    );
  if (earlierStores.length === 0 && !isAtItsEnd(manifest, config))
    throw refused(
      'the run has not been trained to its end',
      `outer step ${outerStep} of ${outerStepsOf(manifest, config.training)}`,
      'train it first: qianmo train run.yaml --resume',
    );
  if (rateShareAt(outerStep + outerSteps - 1, schedule, scheduledSteps) > 0) return;
  const leftSteps = Math.max(0, scheduledSteps - outerStep);
  const cure = 'a run that is to be trained further needs a finalShare above 0 from the start';
  throw refused(
    leftSteps === 0
      ? 'further outer steps would change nothing: the rate of this run has fallen to 0'
      : `further outer steps would change nothing after ${leftSteps}, when the rate of this run falls to 0`,
    `training.schedule: { decay: ${schedule.decay}, finalShare: 0 }`,
    leftSteps === 0
      ? `leave out --outer-steps; ${cure}`
      : `set --outer-steps ${leftSteps} or less; ${cure}`,
  );
}

/** Whether it has all its outer steps, or has stopped early. */
export function isAtItsEnd(manifest: TrainedSoFar, config: RunConfig): boolean {
  const { earlyStopping, schedule } = config.training;
  const hasStoppedEarly =
    earlyStopping !== undefined &&
    plateausIn(manifest.validated, earlyStopping.patience) >= plateausMaxOf(schedule);
  return hasStoppedEarly || manifest.outerStep >= outerStepsOf(manifest, config.training);
}

export interface RefreshResult extends RefreshedExport, AppendedLogs {
  /** Null if the trunk was not trained. */
  readonly trained: TrainedFurther | null;
  readonly appendMs: number;
  readonly trainMs: number;
  readonly exportMs: number;
}

export async function refreshRun(
  request: RequestOf<'refresh'>,
  context: RunContext,
): Promise<RefreshResult> {
  const config = await chosenConfigOf(request.config, context.environment);
  const checking = { ...context, checkedFiles: new Set<string>() };
  return loggedRun(trackedCallOf('refresh', config), checking, async (logged) => {
    const startedMs = logged.clock.monotonicMs();
    const appended = await appendToStore(config, request, logged);
    const appendMs = logged.clock.monotonicMs() - startedMs;
    const publish: Publish = (objects, moved) => moveLabelFrom(objects, request.label, moved);
    return { ...appended, appendMs, ...(await exportStale(config, request, publish, logged)) };
  });
}

/** Trains further if that is asked for, and exports what is stale then. */
export async function exportStale(
  config: RunConfig,
  {
    outerSteps,
    ...request
  }: ChangedPlace & DispatchChoice & Pick<RequestOf<'refresh'>, 'outerSteps'>,
  publish: Publish,
  context: RunContext,
): Promise<Omit<RefreshResult, keyof AppendedLogs | 'appendMs'>> {
  const { clock } = context;
  const startedMs = clock.monotonicMs();
  let dispatch: Promise<RunDispatch> | null = null;
  const dispatchOf = (): Promise<RunDispatch> =>
    (dispatch ??= dispatchForRun(config, { runId: config.run }, request, context));
  const trained =
    outerSteps === undefined ? null : await trainFurther(config, outerSteps, dispatchOf, context);
  const trainedMs = clock.monotonicMs();
  const exported = await exportRefreshed(config, request, { dispatchOf, publish }, context);
  const exportMs = clock.monotonicMs() - trainedMs;
  return { ...exported, trained, trainMs: trainedMs - startedMs, exportMs };
}

/** @throws QianmoError of kind `usage`, before anything is written, if the run cannot be refreshed. */
export async function appendToStore(
  config: RunConfig,
  request: ChangedPlace & Pick<RequestOf<'refresh'>, 'logs' | 'outerSteps'>,
  { clock, sink, signal, checkedFiles = new Set() }: RunContext,
): Promise<AppendedLogs> {
  const objectStoreAt = (address: string) => objectStoreOf(config, address);
  const demandRefreshable = await refreshableOf(config, request);
  return appendLogs(config, [request.logs].flat(), {
    ...{ clock, sink, signal, objectStoreOf: objectStoreAt, temporaryFolder: tmpdir() },
    openStore: async () => {
      const options = { checkedFiles, objectStoreOf: objectStoreAt };
      const store = await openTaskStore(config.data.store, options);
      return closeUnless(store, () => demandRefreshable(store));
    },
  });
}

async function closeUnless(store: TaskStore, demand: () => void): Promise<TaskStore> {
  try {
    demand();
    return store;
  } catch (error) {
    await store.close();
    throw error;
  }
}
