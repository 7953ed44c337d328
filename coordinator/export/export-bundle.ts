/**
 * Exports a trained run as a bundle: adapts every adgroup, packs the blocks, measures what it has made,
 * and publishes the manifest last.
 */

import { createHash } from 'node:crypto';
import { at, spanAt } from '../../shared/base/arrays.js';
import { canonicalJson } from '../../shared/base/canonical-json.js';
import { writeArray, type PutFile } from '../../shared/bundle/array-files.js';
import { blockLayoutOf } from '../../shared/bundle/block-layout.js';
import {
  BUNDLE_FORMAT_VERSION,
  type BundleArray,
  type BundleCalibration,
  type BundleManifest,
  type BundleServing,
} from '../../shared/bundle/bundle-manifest.js';
import { publishBundle, type PublishedBundle } from '../../shared/bundle/bundle-store.js';
import {
  buildKeyIndex,
  UNKNOWN_BLOCK,
  type KeyIndexArrays,
} from '../../shared/bundle/key-index.js';
import type { BlockEncoding, BlockLayout } from '../../shared/bundle/ranking-model.js';
import { configHash, type RunConfig } from '../../shared/config/run-config.js';
import { predictionLoopOf } from '../../shared/methods/inner-loop/method.js';
import { restsOnSupport, type LevelShift } from '../../shared/methods/inner-loop/inner-loop.js';
import { methodPlanOf } from '../../shared/methods/methods.js';
import type { MetaParameters } from '../../shared/models/initial-values.js';
import type { AdaptedTask } from '../../shared/bundle/adapted-tasks.js';
import { ObjectBlobStore } from '../../shared/storage/blob-store.js';
import type { ObjectStore } from '../../shared/storage/object-store.js';
import { labelsOf, labelOf } from '../../shared/tasks/task-label.js';
import { adgroupsOf, type TaskStore } from '../../shared/tasks/task-store.js';
import type { NamedTensors } from '../../shared/tensors/named-tensors.js';
import type { Dispatcher } from '../dispatch/dispatcher.js';
import type { TaskJobContext } from '../evaluation/task-jobs.js';
import type { PreparedRun, RunCaller } from '../plan/prepared-run.js';
import type { TestLogits } from '../scoring/test-logits.js';
import { AdaptedShards } from './adapted-shards.js';
import { calibrationIndexOf, calibrationsOf } from './calibrate.js';
import { encodingLossesOf, outputsWith, type EncodingLoss } from './encoding-losses.js';
import {
  exportShardsOf,
  rowCountOf,
  tasksInBlockOrder,
  type AdaptedRows,
  type ExportShard,
} from './export-groups.js';
import type { LocalCompute } from './local-scorer.js';
import {
  chosenAdgroups,
  selfCheckArrays,
  selfCheckOf,
  selfCheckRowsOf,
  withRows,
  type MeasuredAdgroup,
} from './measured-rows.js';
import { blocksPerFileOf, PackedBlocks } from './packed-blocks.js';
import {
  dictionaryArrays,
  indexArrays,
  parameterArrays,
  targetEncodingArrays,
} from './shared-arrays.js';
import { unknownBlockOf } from './unknown-block.js';
import { servedBlocksOf } from './serving-choice.js';

export interface ExportSource {
  readonly run: PreparedRun;
  /** As `prepare` wrote it, without the view of the model. */
  readonly store: TaskStore;
  readonly checkpoint: BundleManifest['provenance']['checkpoint'];
  readonly parameters: MetaParameters;
  /** By label. */
  readonly serving: readonly BundleServing[];
  /** By label, as evaluation predicted them; null where it did not. */
  readonly testLogits: readonly (TestLogits | null)[];
  /** The types of the logs' columns, for the row encoder. */
  readonly columns: BundleManifest['columns'];
}

export interface ExportSettings {
  readonly encoding: BlockEncoding;
  readonly rows: AdaptedRows;
}

export interface ExportSurroundings {
  readonly objects: ObjectStore;
  readonly dispatcher: Dispatcher;
  readonly compute: LocalCompute;
  readonly caller: RunCaller;
}

export interface ExportedBundle extends PublishedBundle {
  /** Adgroups that an earlier, killed export had adapted. */
  readonly keptAdgroupCount: number;
  readonly encodings: readonly EncodingLoss[];
  /** Query rows that encodings were compared on. */
  readonly measuredRowCount: number;
  readonly selfCheckRowCount: number;
  /**
   * The largest difference of an output from what evaluation predicted, in float32; null where there is
   * nothing to compare.
   */
  readonly evaluatedDifferenceMax: number | null;
}

/** @throws whatever the dispatcher throws. What is adapted by then is kept for the next export. */
export async function exportBundle(
  source: ExportSource,
  settings: ExportSettings,
  surroundings: ExportSurroundings,
): Promise<ExportedBundle> {
  const { run, parameters, serving } = source;
  const { objects, compute, caller } = surroundings;
  const model = { parameters, method: run.config.method };
  const meaning = meaningOf(source, settings);
  const shards = exportShardsOf(run.store, { serving, rows: settings.rows });
  const context = jobContext(source, surroundings, meaning);
  const adapting = new AdaptedShards(
    { shards, model, rows: settings.rows, meaning, objects },
    {
      ...context,
      onTasksDone: progressOf(caller, 'adapting adgroups', adgroupsOf(run.store).length),
    },
  );
  const keptAdgroupCount = await adapting.complete();
  const calibrations = await calibrationsOf(context, model, serving);
  const unknown = await unknownBlockOf(context, model, compute, caller);
  const keys = tasksInBlockOrder(shards).map((taskIndex) => at(source.store.tasks, taskIndex).key);
  const index = buildKeyIndex(keys);
  const plan = { source, settings, shards, calibrations, unknown, index };
  const packed = await packAdgroups(plan, adapting, surroundings);
  const measured = await measure(plan, packed, surroundings);
  const arrays = [...packed.arrays, ...(await sharedArrays(plan, measured, packed))];
  const published = await publishBundle(objects, manifestOf(plan, packed, arrays));
  await adapting.remove();
  return { ...published, keptAdgroupCount, ...measured.figures };
}

/** Differs whenever the same shard would mean something else. */
export function meaningOf(
  { run: { config, store }, checkpoint, serving }: ExportSource,
  { rows }: ExportSettings,
): string {
  const { method, model, training, compute } = config;
  const meaning = canonicalJson({
    ...{ checkpoint: checkpoint.digest, store: store.digest, method, model, serving, rows },
    microBatchRowsMax: training.microBatchRowsMax,
    fingerprint: compute.fingerprint,
  });
  return createHash('sha256').update(meaning).digest('hex').slice(0, 16);
}

export function jobContext(
  { run }: ExportSource,
  { dispatcher, caller }: ExportSurroundings,
  meaning: string,
): TaskJobContext {
  let waveCount = 0;
  return {
    ...run,
    ...{ dispatcher, signal: caller.signal },
    runId: `${run.config.run.slice(0, 100)}-export-${meaning}`,
    nextWave: () => waveCount++,
    onTasksDone: () => undefined,
    onBackend: () => undefined,
  };
}

export function progressOf(
  { sink }: RunCaller,
  stage: string,
  total: number,
): (taskCount: number) => void {
  let done = 0;
  return (taskCount) => {
    done += taskCount;
    sink({ kind: 'progress', stage, done, total });
  };
}

interface ExportPlan {
  readonly source: ExportSource;
  readonly settings: ExportSettings;
  readonly shards: readonly ExportShard[];
  readonly calibrations: readonly BundleCalibration[];
  readonly unknown: Awaited<ReturnType<typeof unknownBlockOf>>;
  readonly index: KeyIndexArrays;
}

interface PackedAdgroups {
  readonly layout: BlockLayout;
  readonly blocksPerFile: number;
  readonly blockCount: number;
  readonly arrays: readonly BundleArray[];
  readonly measured: readonly MeasuredAdgroup[];
  /** The adapted tasks of the measured adgroups and of block 0, by block. */
  readonly tasks: ReadonlyMap<number, AdaptedTask>;
  readonly put: PutFile;
}

async function packAdgroups(
  plan: ExportPlan,
  adapting: AdaptedShards,
  { objects, caller }: ExportSurroundings,
): Promise<PackedAdgroups> {
  const { source, settings, shards, unknown, calibrations } = plan;
  const { spec, config } = source.run;
  const shift = shiftOf(config);
  const layout = blockLayoutOf(spec, { encoding: settings.encoding, hasLevel: shift !== null });
  const tasksInOrder = tasksInBlockOrder(shards);
  const chosen = chosenAdgroups(source.store, tasksInOrder, config);
  const measured = await withRows(source.store, chosen);
  const blobs = new ObjectBlobStore(objects);
  const put: PutFile = (bytes) => blobs.putVerified(bytes);
  const blocksPerFile = blocksPerFileOf(layout);
  const blockCount = 1 + tasksInOrder.length;
  const packing = new PackedBlocks({
    ...{ layout, initial: unknown.block.blocks, blockCount, blocksPerFile, put },
    shiftedFeatures: shift?.features ?? [],
    encodedFeatures: spec.options.supportInputs?.targetEncodings ?? [],
  });
  const unknownNotes = { supportRowCount: 0, labelIndex: 0, calibrationIndex: 0 };
  await packing.add(unknown.block, unknownNotes);
  const tasks = await packShards(
    { source, shards, calibrations, rows: settings.rows, firstBlock: 1 },
    { adapting, packing, done: progressOf(caller, 'packing adgroups', tasksInOrder.length) },
    new Set(measured.map(({ block }) => block)),
  );
  tasks.set(UNKNOWN_BLOCK, unknown.block);
  const arrays = await packing.finish();
  return { layout, blocksPerFile, blockCount, arrays, measured, tasks, put };
}

interface PackedShards {
  readonly source: ExportSource;
  readonly shards: readonly ExportShard[];
  readonly calibrations: readonly BundleCalibration[];
  readonly rows: AdaptedRows;
  /** The block of the first adgroup of the shards. */
  readonly firstBlock: number;
}

interface ShardPacking {
  readonly adapting: AdaptedShards;
  readonly packing: PackedBlocks;
  readonly done: (adgroupCount: number) => void;
}

/** Packs adapted adgroups, and returns the tasks of the wanted blocks. */
export async function packShards(
  { source: { run, store }, shards, calibrations, rows, firstBlock }: PackedShards,
  { adapting, packing, done }: ShardPacking,
  wanted: ReadonlySet<number>,
): Promise<Map<number, AdaptedTask>> {
  const loop = predictionLoopOf(methodPlanOf(run.config.method));
  const tasks = new Map<number, AdaptedTask>();
  let block = firstBlock;
  for (const [index, { labelIndex, adaptation }] of shards.entries()) {
    const adapted = await adapting.read(index);
    const isOnRows = restsOnSupport(loop, adaptation.innerSteps);
    for (const task of adapted) {
      const supportRowCount = rowCountOf(at(store.tasks, task.taskIndex), rows);
      const stored = completed(task, loop.shift);
      await packing.add(stored, {
        supportRowCount: isOnRows ? supportRowCount : 0,
        labelIndex,
        calibrationIndex: calibrationIndexOf(calibrations, { labelIndex, supportRowCount }),
      });
      if (wanted.has(block)) tasks.set(block, ownCopy(stored));
      block += 1;
    }
    done(adapted.length);
  }
  return tasks;
}

export function shiftOf({ method }: RunConfig): LevelShift | null {
  return predictionLoopOf(methodPlanOf(method)).shift;
}

/** An unadapted task has no shift: a level of 0 says the same, and is scored by the same graph. */
function completed(task: AdaptedTask, shift: LevelShift | null): AdaptedTask {
  if (task.shift !== null || shift === null) return task;
  return { ...task, shift: { level: 0, effects: shift.features.map(() => new Map()) } };
}

/** Blocks of a shard are views of one array, which a copy does not keep in memory. */
function ownCopy(task: AdaptedTask): AdaptedTask {
  const blocks = [...task.blocks].map(
    ([name, { shape, values }]) => [name, { shape, values: values.slice() }] as const,
  );
  return { ...task, blocks: new Map(blocks) };
}

interface MeasuredExport {
  readonly selfCheck: ReturnType<typeof selfCheckArrays>;
  readonly figures: Pick<
    ExportedBundle,
    'encodings' | 'measuredRowCount' | 'selfCheckRowCount' | 'evaluatedDifferenceMax'
  >;
}

async function measure(
  { source, settings, unknown }: ExportPlan,
  { layout, measured, tasks }: PackedAdgroups,
  { compute }: ExportSurroundings,
): Promise<MeasuredExport> {
  const { spec, config } = source.run;
  const initial: NamedTensors = unknown.block.blocks;
  const { tables, dense } = source.parameters;
  const shift = shiftOf(config);
  const scorer = await compute.scorerOf({ spec, shift, tables, dense });
  const hasLevel = layout.levelByteOffset !== null;
  const scored = { spec, hasLevel, initial, scorer, tasks };
  const chosen = selfCheckRowsOf(measured);
  const outputs = outputsWith({ ...scored, adgroups: chosen }, settings.encoding);
  const ofAll = { ...scored, adgroups: measured };
  const { serving, testLogits, store } = source;
  return {
    selfCheck: selfCheckArrays(
      selfCheckOf(chosen, outputs, store.manifest.features),
      store.manifest.features,
    ),
    figures: {
      encodings: encodingLossesOf(ofAll),
      measuredRowCount: measured.reduce((sum, { places }) => sum + places.length, 0),
      selfCheckRowCount: chosen.reduce((sum, { places }) => sum + places.length, 0),
      evaluatedDifferenceMax:
        settings.rows === 'all'
          ? null
          : evaluatedDifference(
              { store, serving, testLogits },
              measured,
              outputsWith(ofAll, 'float32'),
            ),
    },
  };
}

async function sharedArrays(
  { source, unknown, index }: ExportPlan,
  { selfCheck }: MeasuredExport,
  { put }: PackedAdgroups,
): Promise<BundleArray[]> {
  const { run, store, parameters } = source;
  const written: BundleArray[] = [];
  const arrays = [
    ...parameterArrays(run.spec, parameters, unknown.block.blocks),
    ...indexArrays(index),
    ...selfCheck,
  ];
  for (const array of arrays) written.push(await writeArray(array, put));
  for await (const array of dictionaryArrays(store)) written.push(await writeArray(array, put));
  for await (const array of targetEncodingArrays(store)) written.push(await writeArray(array, put));
  return written;
}

function manifestOf(
  plan: ExportPlan,
  { layout, blocksPerFile, blockCount }: PackedAdgroups,
  arrays: readonly BundleArray[],
): BundleManifest {
  const { source, settings, calibrations, unknown, index } = plan;
  const { config, store } = source.run;
  const { data, model, method, training } = config;
  const { trainable } = training;
  return {
    formatVersion: BUNDLE_FORMAT_VERSION,
    provenance: {
      ...{ run: config.run, seed: config.seed, configHash: configHash(config) },
      ...{ checkpoint: source.checkpoint, storeDigest: store.digest },
    },
    ...{ model, method, ...(trainable === undefined ? {} : { trainable }) },
    features: data.features,
    encodedFeatures: store.manifest.features,
    columns: source.columns,
    taskColumns: store.manifest.taskColumns,
    ...(data.segments === undefined ? {} : { segmentColumn: data.segments.column }),
    labels: [...labelsOf(store.manifest)],
    serving: [...source.serving],
    calibrations: [...calibrations],
    blocks: {
      ...{ count: blockCount, encoding: settings.encoding, blocksPerFile, rows: settings.rows },
      strideByteCount: layout.strideByteCount,
    },
    unknown: unknown.described,
    index: { seed: index.seed },
    arrays: [...arrays].sort((first, second) => (first.name < second.name ? -1 : 1)),
  };
}

interface Compared {
  readonly store: TaskStore;
  readonly serving: readonly BundleServing[];
  /** By label; null where there was no evaluation. */
  readonly testLogits: readonly (TestLogits | null)[];
}

/**
 * The largest difference over measured test adgroups; null if none of them was evaluated.
 *
 * @param outputs of all query rows of each adgroup, with blocks as they adapted on support rows.
 */
function evaluatedDifference(
  { store, serving, testLogits }: Compared,
  adgroups: readonly MeasuredAdgroup[],
  outputs: readonly Float32Array[],
): number | null {
  const placesByLabel = testLogits.map(
    (found) => new Map((found?.taskKeys ?? []).map((key, place) => [key, place])),
  );
  let difference: number | null = null;
  for (const [index, { task }] of adgroups.entries()) {
    const { key, supportRowCount, labelIndex = 0 } = at(store.tasks, task.taskIndex);
    const place = at(placesByLabel, labelIndex).get(key);
    const found = at(testLogits, labelIndex);
    if (place === undefined || found === null) continue;
    const arms =
      servedBlocksOf(at(serving, labelIndex), supportRowCount) === 'adapted'
        ? ['meta-adapted']
        : ['meta-unadapted', 'global'];
    const logits = arms.map((arm) => found.logits.get(arm)).find((each) => each !== undefined);
    if (logits === undefined) continue;
    const label = labelOf(store.manifest, { labelIndex });
    const inOwnUnit = (output: number): number =>
      label.loss === 'squared' ? label.mean + label.deviation * output : output;
    const [start, end] = spanAt(found.rows.starts, place);
    const evaluated = logits.subarray(start, end);
    for (const [row, output] of at(outputs, index).entries())
      difference = Math.max(difference ?? 0, Math.abs(inOwnUnit(output) - at(evaluated, row)));
  }
  return difference;
}
