/**
 * Exports a trained run as a bundle: adapts adgroups, packs their blocks, scores self-check rows, and publishes the
 * manifest last. An export of changes adapts changed and new adgroups only, writes their blocks behind the others, and has
 * all other files of the bundle before: the trunk, what is served and the calibrations stay as they are.
 */

import { createHash } from 'node:crypto';
import { at, spanAt } from '../../shared/base/arrays.js';
import { canonicalJson } from '../../shared/base/canonical-json.js';
import { QianmoError, errorOf } from '../../shared/base/errors.js';
import {
  adaptedTaskOf,
  blockLayoutOf,
  readBlock,
  writeBlock,
} from '../../shared/bundle/block-codec.js';
import {
  readFileOf,
  writeArray,
  writeRowsBehind,
  type NamedArray,
  type PutFile,
} from '../../shared/bundle/array-files.js';
import {
  BUNDLE_FORMAT_VERSION,
  type BundleArray,
  type BundleManifest,
  type BundleServing,
} from '../../shared/bundle/bundle-manifest.js';
import {
  expectedOf,
  NO_EVIDENCE,
  offsetOf,
  type BundleCalibration,
} from '../../shared/bundle/calibration.js';
import { publishBundle, type PublishedBundle } from '../../shared/bundle/bundle-store.js';
import {
  blockOfKey,
  buildKeyIndex,
  liveBlocks,
  UNKNOWN_BLOCK,
  type KeyIndexArrays,
} from '../../shared/bundle/key-index.js';
import type { BlockEncoding, BlockLayout } from '../../shared/bundle/ranking-model.js';
import type { LoadedBundle } from '../../shared/bundle/read-bundle.js';
import { configHash } from '../../shared/config/run-config.js';
import { restsOnSupport } from '../../shared/methods/inner-loop/inner-loop.js';
import { methodPlanOf } from '../../shared/methods/methods.js';
import type { MetaParameters } from '../../shared/models/meta-parameters.js';
import type { AdaptedTask } from '../../shared/bundle/adapted-tasks.js';
import { blobKeyOf, blobRefOf } from '../../shared/storage/blob-store.js';
import type { ObjectStore } from '../../shared/storage/object-store.js';
import { labelsOf } from '../../shared/tasks/task-label.js';
import { adgroupsOf, type TaskEntry, type TaskStore } from '../../shared/tasks/task-store.js';
import { digestOf, elementCountOf } from '../../shared/tensors/named-tensors.js';
import type { Dispatcher } from '../dispatch/dispatcher.js';
import type { TaskJobContext } from '../evaluation/task-jobs.js';
import type { PreparedRun, RunCaller } from '../plan/prepared-run.js';
import type { TestLogits } from '../scoring/test-logits.js';
import {
  AdaptedShards,
  exportShardsOf,
  rowCountOf,
  tasksInBlockOrder,
  type AdaptedRows,
  type ExportShard,
} from './adapted-shards.js';
import { calibrationsOf } from './calibrate.js';
import { type LocalCompute, unknownBlockOf } from './unknown-block.js';
import {
  checkedAdgroupsOf,
  evaluatedDifference,
  encodedRowsOf,
  selfCheckArrays,
  type CheckedAdgroup,
} from './self-check.js';
import { blocksPerFileOf, PackedBlocks } from './packed-blocks.js';
import { packedDictionaryOf } from '../../shared/features/packed-dictionary.js';
import type { ModelSpec } from '../../shared/models/model-spec.js';
import {
  ofAllParts,
  targetEncodingNameOf,
  targetEncodingsIn,
} from '../../shared/tasks/target-encoding.js';

export interface ExportSource {
  readonly run: PreparedRun;
  /** The store that `prepare` wrote, without the view of the model. */
  readonly store: TaskStore;
  readonly checkpoint: BundleManifest['provenance']['checkpoint'];
  readonly parameters: MetaParameters;
  /** By label. */
  readonly serving: readonly BundleServing[];
  /** By label, as evaluation predicted them; null where it did not. */
  readonly testLogits: readonly (TestLogits | null)[];
  /** The arms that the bundle serves: with blocks of crowds or without. */
  readonly level: 'meta' | 'crowd';
  /** The types of the logs' columns, for the row encoder. */
  readonly columns: BundleManifest['columns'];
}

interface ExportSettings {
  readonly encoding: BlockEncoding;
  readonly rows: AdaptedRows;
}

interface ExportSurroundings {
  readonly objects: ObjectStore;
  readonly dispatcher: Dispatcher;
  readonly compute: LocalCompute;
  readonly caller: RunCaller;
}

interface ExportedBlocks extends PublishedBundle {
  /** Adgroups that an earlier, killed export had adapted. */
  readonly keptAdgroupCount: number;
  readonly selfCheckRowCount: number;
}

export interface ExportedBundle extends ExportedBlocks {
  /**
   * The largest difference of a self-check output in float32 from what evaluation predicted; null where there is nothing to
   * compare.
   */
  readonly evaluatedDifferenceMax: number | null;
}

export interface ExportedChanges extends ExportedBlocks {
  readonly changedAdgroupCount: number;
  readonly newAdgroupCount: number;
  /** True if all blocks were written again, without those of adgroups that have another one. */
  readonly isRewritten: boolean;
  /** The bytes of the files that the bundle before does not have. */
  readonly newByteCount: number;
  /** Features whose tables have rows for new values. */
  readonly grownTables: readonly string[];
}

/** The bundle whose adgroups have changed. */
interface BundleBefore {
  readonly published: PublishedBundle;
  readonly loaded: LoadedBundle;
}

/** Adgroups that are adapted, and where their blocks lie. */
interface BlockPlan {
  readonly source: ExportSource;
  readonly rows: AdaptedRows;
  readonly shards: readonly ExportShard[];
  readonly calibrations: readonly BundleCalibration[];
  readonly layout: BlockLayout;
  readonly blocksPerFile: number;
  /** Block 0, unless the bundle before has it. */
  readonly unknown: AdaptedTask | null;
  readonly before: BundleBefore | null;
  /** Blocks of the bundle before that are written again; none unless all are. */
  readonly copied: readonly number[];
  readonly isRewritten: boolean;
  /** The first block of the adgroups that are adapted. */
  readonly firstBlock: number;
  readonly index: KeyIndexArrays;
}

/** Exports of changed adgroups after which all blocks are written again, so that the files stay few. */
const EXPORTS_IN_A_ROW_MAX = 16;

/** @throws whatever the dispatcher throws. What is adapted by then is kept for the next export. */
export async function exportBundle(
  source: ExportSource,
  settings: ExportSettings,
  surroundings: ExportSurroundings,
): Promise<ExportedBundle> {
  const { run, parameters, serving } = source;
  const { rows, encoding } = settings;
  const model = { parameters, method: run.config.method };
  const shards = exportShardsOf(run.store, { serving, rows });
  const meaning = meaningOf(source, rows);
  const { adapting, context, keptAdgroupCount } = await adaptAdgroups(source, surroundings, {
    ...{ shards, rows, meaning },
  });
  const calibrations = await calibrationsOf(context, model, serving);
  const { compute, caller } = surroundings;
  const unknown = await unknownBlockOf(context, model, compute, caller);
  const layout = blockLayoutOf(run.spec, encoding);
  const plan: BlockPlan = {
    ...{ source, rows, shards, calibrations, layout, blocksPerFile: blocksPerFileOf(layout) },
    ...{ unknown: unknown.block, before: null, copied: [] },
    ...{ isRewritten: true, firstBlock: 1 },
    index: buildKeyIndex(keysOf(source.store, shards)),
  };
  const packed = await packPlan(plan, adapting, surroundings);
  const manifest = fullManifest(plan, settings, unknown.described, packed.arrays);
  const published = await publishBundle(surroundings.objects, manifest);
  await adapting.remove();
  return {
    ...{ ...published, keptAdgroupCount, selfCheckRowCount: packed.selfCheckRowCount },
    evaluatedDifferenceMax:
      rows === 'all' ? null : evaluatedDifference(source, packed.checked, packed.exact),
  };
}

/**
 * @param isChanged whether an adgroup has other rows than when the bundle was made.
 * @returns null if no adgroup has changed.
 * @throws whatever the dispatcher throws; QianmoError of kind `usage` if the bundle has another trunk.
 */
export async function exportChanged(
  source: ExportSource,
  before: BundleBefore,
  isChanged: (task: TaskEntry) => boolean,
  surroundings: ExportSurroundings,
): Promise<ExportedChanges | null> {
  const { objects } = surroundings;
  const { manifest, digest } = before.published;
  requireSameTrunk(source, before, objects.address);
  const served = { ...source, serving: manifest.serving };
  const { plan, changedAdgroupCount } = changePlan(served, before, isChanged);
  const { shards, rows, isRewritten } = plan;
  const adgroupCount = tasksInBlockOrder(shards).length;
  if (adgroupCount === 0) return null;
  const meaning = `${meaningOf(served, rows)}-${digest.slice(0, 16)}`;
  const { adapting, keptAdgroupCount } = await adaptAdgroups(served, surroundings, {
    ...{ shards, rows, meaning },
  });
  const { arrays, selfCheckRowCount } = await packPlan(plan, adapting, surroundings);
  const published = await publishBundle(objects, changedManifest(plan, manifest, arrays));
  await adapting.remove();
  const known = new Set(manifest.arrays.flatMap(({ files }) => files.map(({ sha256 }) => sha256)));
  const files = arrays.flatMap((array) => array.files).filter(({ sha256 }) => !known.has(sha256));
  const countIn = (tables: MetaParameters['tables'], name: string): number =>
    tables.get(name)?.rowCount ?? 0;
  return {
    ...{ ...published, keptAdgroupCount, selfCheckRowCount, changedAdgroupCount, isRewritten },
    newAdgroupCount: adgroupCount - changedAdgroupCount,
    newByteCount: files.reduce((sum, { byteCount }) => sum + byteCount, 0),
    grownTables: source.run.spec.tables
      .map(({ name }) => name)
      .filter(
        (name) =>
          countIn(source.parameters.tables, name) > countIn(before.loaded.model.tables, name),
      ),
  };
}

function requireSameTrunk(
  { checkpoint }: ExportSource,
  { published: { digest, manifest } }: BundleBefore,
  where: string,
): void {
  const found = manifest.provenance.checkpoint;
  if (found.digest === checkpoint.digest) return;
  throw new QianmoError({
    kind: 'usage',
    what: 'the trunk has changed since the bundle was made, so all blocks are stale',
    where: `${where}@${digest}`,
    expected: `a bundle of the parameters ${checkpoint.digest.slice(0, 12)}, outer step ${checkpoint.outerStep}`,
    found: `one of ${found.digest.slice(0, 12)}, outer step ${found.outerStep}`,
    cure: 'export the run in full: qianmo export run.yaml',
  });
}

function changePlan(
  source: ExportSource,
  before: BundleBefore,
  isChanged: (task: TaskEntry) => boolean,
): { readonly plan: BlockPlan; readonly changedAdgroupCount: number } {
  const { loaded, published } = before;
  const { blocks, calibrations, arrays } = published.manifest;
  const { rows, blocksPerFile } = blocks;
  const changed = adgroupsOf(source.store).filter(isChanged);
  const shards = exportShardsOf({ tasks: changed }, { serving: source.serving, rows });
  const keys = keysOf(source.store, shards);
  const replaced = new Set(keys.map((key) => blockOfKey(loaded.index, key)));
  replaced.delete(UNKNOWN_BLOCK);
  const deadCount = (blocks.deadCount ?? 0) + replaced.size;
  // Each export since all blocks were written has its file of labels.
  const exportCount = arrays.find(({ name }) => name === 'blocks.labels')?.files.length ?? 0;
  const isRewritten =
    2 * deadCount >= blocks.count - 1 + keys.length || exportCount > EXPORTS_IN_A_ROW_MAX;
  const live = isRewritten
    ? [...liveBlocks(loaded.index)].filter((block) => !replaced.has(block))
    : [];
  const { keyBytes, keyOffsets } = loaded.index;
  const decoder = new TextDecoder('utf-8', { ignoreBOM: true });
  const keyOf = (block: number): string =>
    decoder.decode(keyBytes.subarray(...spanAt(keyOffsets, block)));
  const plan: BlockPlan = {
    ...{ source, rows, shards, calibrations, blocksPerFile, unknown: null, before, isRewritten },
    layout: loaded.model.blocks.layout,
    copied: isRewritten ? [UNKNOWN_BLOCK, ...live] : [],
    firstBlock: isRewritten ? 1 + live.length : blocks.count,
    index: isRewritten
      ? buildKeyIndex([...live.map(keyOf), ...keys])
      : buildKeyIndex(keys, loaded.index),
  };
  return { plan, changedAdgroupCount: replaced.size };
}

/** Differs whenever the same shard would mean something else. */
function meaningOf(
  { run: { config, store, spec }, checkpoint, serving, parameters }: ExportSource,
  rows: AdaptedRows,
): string {
  const { method, model, training, compute } = config;
  const meaning = canonicalJson({
    ...{ checkpoint: checkpoint.digest, store: store.digest, method, model, serving, rows },
    // Blocks of crowds are of an evaluation, not of the checkpoint.
    ...(spec.crowd === undefined ? {} : { dense: digestOf(parameters.dense) }),
    microBatchRowsMax: training.microBatchRowsMax,
    fingerprint: compute.fingerprint,
  });
  return createHash('sha256').update(meaning).digest('hex').slice(0, 16);
}

/** The keys of adgroups in the order of their blocks. */
function keysOf(store: TaskStore, shards: readonly ExportShard[]): string[] {
  return tasksInBlockOrder(shards).map((taskIndex) => at(store.tasks, taskIndex).key);
}

interface AdaptedAdgroups {
  readonly adapting: AdaptedShards;
  readonly context: TaskJobContext;
  readonly keptAdgroupCount: number;
}

async function adaptAdgroups(
  { run, parameters }: ExportSource,
  { objects, dispatcher, caller }: ExportSurroundings,
  given: Pick<BlockPlan, 'shards' | 'rows'> & { readonly meaning: string },
): Promise<AdaptedAdgroups> {
  let waveCount = 0;
  const context: TaskJobContext = {
    ...run,
    ...{ dispatcher, signal: caller.signal },
    runId: `${run.config.run.slice(0, 100)}-export-${given.meaning}`,
    nextWave: () => waveCount++,
    onTasksDone: () => undefined,
    onBackend: () => undefined,
  };
  const total = tasksInBlockOrder(given.shards).length;
  const adapting = new AdaptedShards(
    { ...given, objects, model: { parameters, method: run.config.method } },
    { ...context, onTasksDone: progressOf(caller, 'adapting adgroups', total) },
  );
  return { adapting, context, keptAdgroupCount: await adapting.complete() };
}

function progressOf({ sink }: RunCaller, stage: string, total: number): (count: number) => void {
  let done = 0;
  return (count) => {
    done += count;
    sink({ kind: 'progress', stage, done, total });
  };
}

interface PackedPlan {
  readonly arrays: readonly BundleArray[];
  readonly selfCheckRowCount: number;
  /** The adgroups that were scored, with their outputs in float32. */
  readonly checked: readonly CheckedAdgroup[];
  readonly exact: readonly Float32Array[];
}

/** Writes all arrays of the bundle. */
async function packPlan(
  plan: BlockPlan,
  adapting: AdaptedShards,
  { objects, caller, compute }: ExportSurroundings,
): Promise<PackedPlan> {
  const { source, before, unknown, copied, isRewritten, shards } = plan;
  const { run, store, parameters } = source;
  const { spec, config } = run;
  // Also a file that is there, so that it is young, and `prune` keeps it until the manifest names it.
  const put: PutFile = async (bytes) => {
    const ref = blobRefOf(bytes);
    await objects.put(blobKeyOf(ref), bytes, { kind: 'always' });
    await readFileOf(objects, ref);
    return ref;
  };
  const checked = await checkedAdgroupsOf(store, plan.index, config.seed);
  const adgroupCount = tasksInBlockOrder(shards).length;
  const packing = new PackedBlocks({
    ...{ layout: plan.layout, blocksPerFile: plan.blocksPerFile, put },
    blockCount: copied.length + Number(unknown !== null) + adgroupCount,
    encodedFeatures: spec.options.supportInputs?.targetEncodings ?? [],
    before: before === null || isRewritten ? [] : before.published.manifest.arrays,
  });
  if (unknown !== null)
    await packing.add(unknown, {
      ...{ supportRowCount: 0, labelIndex: 0 },
      offset: offsetOf(at(plan.calibrations, 0), unknown.loss, NO_EVIDENCE),
    });
  if (before !== null) for (const block of copied) await packing.copy(before.loaded, block);
  const done = progressOf(caller, 'packing adgroups', adgroupCount);
  const tasks = await packShards(plan, { adapting, packing, done }, checked);
  if (unknown !== null) tasks.set(UNKNOWN_BLOCK, unknown);
  const blocks = await packing.finish();
  const { tables, dense } = parameters;
  const scorer = await compute.scorerOf({ spec, tables, dense });
  const scoredIn = (layout: BlockLayout) =>
    checked.map((adgroup) => {
      const task = tasks.get(adgroup.block);
      const adapted = task === undefined ? earlierTask(plan, adgroup) : asStored(task, layout);
      return { adapted, rows: encodedRowsOf(adgroup) };
    });
  const scored = scoredIn(plan.layout);
  const outputs = scorer.score(scored);
  const expected = scored.map(({ adapted: { loss, support } }, place) => {
    const { block, task } = at(checked, place);
    const { labelIndex = 0 } = at(store.tasks, task.taskIndex);
    const [of, evidence] = block === UNKNOWN_BLOCK ? [0, NO_EVIDENCE] : [labelIndex, support];
    const calibration = at(plan.calibrations, of);
    const offset = offsetOf(calibration, loss, evidence);
    const label = at(labelsOf(store.manifest), of);
    return at(outputs, place).map((output) => expectedOf(label, calibration, offset, output));
  });
  const { encoding } = plan.layout;
  const exactLayout = blockLayoutOf(spec, 'float32');
  const exact =
    encoding === 'float32' || before !== null ? outputs : scorer.score(scoredIn(exactLayout));
  const named = selfCheckArrays(checked, { outputs, expected }, store.manifest.features);
  const written = await Promise.all(named.map((array) => writeArray(array, put)));
  return {
    arrays: [...blocks, ...(await sharedArrays(plan, put)), ...written],
    selfCheckRowCount: checked.reduce((sum, { places }) => sum + places.length, 0),
    ...{ checked, exact },
  };
}

/** The task of an adgroup as the bundle before has it. */
function earlierTask({ before, source }: BlockPlan, { block, task }: CheckedAdgroup): AdaptedTask {
  if (before === null) throw new Error(`block ${block} was not kept`);
  const { model, index } = before.loaded;
  const { key } = at(source.store.tasks, task.taskIndex);
  return adaptedTaskOf(model.blocks, block === UNKNOWN_BLOCK ? block : blockOfKey(index, key));
}

interface ShardPacking {
  readonly adapting: AdaptedShards;
  readonly packing: PackedBlocks;
  readonly done: (adgroupCount: number) => void;
}

/** Packs adapted adgroups, and returns the tasks of the checked ones by block. */
async function packShards(
  { source: { run, store }, shards, calibrations, rows, firstBlock }: BlockPlan,
  { adapting, packing, done }: ShardPacking,
  checked: readonly CheckedAdgroup[],
): Promise<Map<number, AdaptedTask>> {
  const loop = methodPlanOf(run.config.method).innerLoop;
  const wanted = new Set(checked.map((adgroup) => adgroup.block));
  const tasks = new Map<number, AdaptedTask>();
  let block = firstBlock;
  for (const [index, { labelIndex, adaptation }] of shards.entries()) {
    const adaptedTasks = await adapting.read(index);
    const isOnRows = restsOnSupport(loop, adaptation.innerSteps);
    for (const task of adaptedTasks) {
      const supportRowCount = rowCountOf(at(store.tasks, task.taskIndex), rows);
      await packing.add(task, {
        supportRowCount: isOnRows ? supportRowCount : 0,
        labelIndex,
        offset: offsetOf(at(calibrations, labelIndex), task.loss, task.support),
      });
      if (wanted.has(block)) tasks.set(block, ownCopy(task));
      block += 1;
    }
    done(adaptedTasks.length);
  }
  return tasks;
}

/** Blocks of a shard are views of one array, which a copy does not keep in memory. */
function ownCopy(task: AdaptedTask): AdaptedTask {
  const blocks = [...task.blocks].map(
    ([name, { shape, values }]) => [name, { shape, values: values.slice() }] as const,
  );
  return { ...task, blocks: new Map(blocks) };
}

/** The adapted task as a scorer reads it from a block of this layout. */
function asStored(task: AdaptedTask, layout: BlockLayout): AdaptedTask {
  const bytes = new Uint8Array(layout.strideByteCount);
  writeBlock(layout, task.blocks, bytes);
  return { ...task, blocks: readBlock(layout, bytes) };
}

/** The arrays of the trunk, the tables, the dictionaries, the encodings and the index. */
async function sharedArrays(
  { source: { run, store, parameters }, before, index, isRewritten }: BlockPlan,
  put: PutFile,
): Promise<BundleArray[]> {
  const earlier = new Map(before?.published.manifest.arrays.map((array) => [array.name, array]));
  const countsBefore = rowCountsOf(before?.published.manifest.encodedFeatures ?? []);
  const counts = rowCountsOf(store.manifest.features);
  // Blocks of crowds grow with the values of their category.
  const grown = new Set(
    run.spec.variables
      .filter(({ name, shape }) => earlier.get(`dense/${name}`)?.shape.join() !== shape.join())
      .map(({ name }) => `dense/${name}`),
  );
  const isKept = (name: string): boolean => {
    const feature = /^dictionaries\/(.+)\.(bytes|offsets|index)$/.exec(name)?.[1];
    // Appended logs leave target encodings as they are. Dictionaries only grow.
    if (feature === undefined)
      return before !== null && /^(dense|encodings)\//.test(name) && !grown.has(name);
    return !isRewritten && countsBefore.get(feature) === counts.get(feature);
  };
  const written = [...earlier.values()].filter(({ name }) => isKept(name));
  const write = async (array: NamedArray): Promise<void> => {
    if (isKept(array.name)) return;
    // A hash index is another one when entries follow.
    const isHashed = /^index\.|^dictionaries\/.+\.index$/.test(array.name);
    written.push(
      isRewritten || isHashed
        ? await writeArray(array, put)
        : await writeGrown(earlier.get(array.name), array, put),
    );
  };
  const arrays = [...parameterArrays(run.spec, parameters), ...indexArrays(index)];
  for (const array of arrays) await write(array);
  const isWanted = (feature: string): boolean => !isKept(`dictionaries/${feature}.bytes`);
  for await (const array of dictionaryArrays(store, isWanted)) await write(array);
  if (before === null) for await (const array of targetEncodingArrays(store)) await write(array);
  return written;
}

function rowCountsOf(features: BundleManifest['encodedFeatures']): ReadonlyMap<string, number> {
  return new Map(
    features.flatMap((each) => (each.kind === 'number' ? [] : [[each.name, each.rowCount]])),
  );
}

/** Writes what an array has more than the one before, with whose rows it begins. */
export async function writeGrown(
  before: BundleArray | undefined,
  { name, shape, values }: NamedArray,
  put: PutFile,
): Promise<BundleArray> {
  if (before === undefined) throw new Error(`the bundle before has no array ${name}`);
  const first = elementCountOf(before.shape);
  if (values.length < first)
    throw new QianmoError({
      kind: 'usage',
      what: 'the task store has fewer values of a feature than the bundle that is to be changed',
      where: name,
      expected: `[${before.shape.join(', ')}] or more`,
      found: `[${shape.join(', ')}]`,
      cure: 'export the run in full: qianmo export run.yaml',
    });
  if (values.length === first) return before;
  const tailShape = [at(shape, 0) - at(before.shape, 0), ...shape.slice(1)];
  const tail = { name, shape: tailShape, values: values.subarray(first) };
  return writeRowsBehind(before, tail, put);
}

function sortedByName(arrays: readonly BundleArray[]): BundleArray[] {
  return [...arrays].sort((first, second) => (first.name < second.name ? -1 : 1));
}

function fullManifest(
  { source, calibrations, layout, blocksPerFile, shards }: BlockPlan,
  { encoding, rows }: ExportSettings,
  unknown: BundleManifest['unknown'],
  arrays: readonly BundleArray[],
): BundleManifest {
  const { config, store } = source.run;
  const { data, model, method, training } = config;
  const { trainable } = training;
  const count = 1 + tasksInBlockOrder(shards).length;
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
    blocks: { count, encoding, blocksPerFile, rows, strideByteCount: layout.strideByteCount },
    unknown,
    index: { seed: 0 },
    arrays: sortedByName(arrays),
  };
}

function changedManifest(
  { source: { run }, index, firstBlock, shards }: BlockPlan,
  before: BundleManifest,
  arrays: readonly BundleArray[],
): BundleManifest {
  const { deadCount: _deadCount, ...blocks } = before.blocks;
  const count = firstBlock + tasksInBlockOrder(shards).length;
  const deadCount = count - 1 - liveBlocks(index).length;
  return {
    ...before,
    provenance: { ...before.provenance, storeDigest: run.store.digest },
    encodedFeatures: run.store.manifest.features,
    blocks: { ...blocks, count, ...(deadCount === 0 ? {} : { deadCount }) },
    index: { seed: 0 },
    arrays: sortedByName(arrays),
  };
}

function parameterArrays(
  { variables, tables, tableRowWidth }: ModelSpec,
  parameters: MetaParameters,
): NamedArray[] {
  return [
    ...variables.map(({ name, shape }) => {
      const values = parameters.dense.get(name)?.values;
      if (values === undefined) throw new Error(`there is no variable ${name}`);
      return { name: `dense/${name}`, shape, values };
    }),
    ...tables.map(({ name, rowCount }) => {
      const values = parameters.tables.get(name)?.values;
      if (values === undefined) throw new Error(`there is no table ${name}`);
      return { name: `tables/${name}`, shape: [rowCount, tableRowWidth], values };
    }),
  ];
}

/** The values of every wanted feature that is encoded by dictionary, yielded one feature after the other. */
async function* dictionaryArrays(
  store: TaskStore,
  isWanted: (featureName: string) => boolean = () => true,
): AsyncGenerator<NamedArray> {
  for (const feature of store.manifest.features) {
    if (feature.kind === 'number' || feature.encoding.by !== 'dictionary') continue;
    if (!isWanted(feature.name)) continue;
    const values = await dictionaryOf(store, feature.name);
    const { bytes, offsets, slots } = packedDictionaryOf(
      Array.from({ length: feature.rowCount }, (_, id) => (id === 0 ? null : (values[id] ?? null))),
    );
    for (const [part, array] of Object.entries({ bytes, offsets, index: slots }))
      yield {
        name: `dictionaries/${feature.name}.${part}`,
        shape: [array.length],
        values: array,
      };
  }
}

/** The inputs of values in the target encodings of the store, yielded one encoding after the other. */
export async function* targetEncodingArrays(store: TaskStore): AsyncGenerator<NamedArray> {
  for (const categories of targetEncodingsIn(store.manifest.features)) {
    if (store.readTargetEncoding === undefined)
      throw new Error('the task store holds no target encodings');
    const { ids, rates, counts } = ofAllParts(await store.readTargetEncoding(categories));
    const name = targetEncodingNameOf(categories);
    const shape = [rates.length];
    for (const [place, values] of ids.entries())
      yield { name: `${name}.ids${place}`, shape, values };
    yield { name: `${name}.rates`, shape, values: rates };
    yield { name: `${name}.counts`, shape, values: counts };
  }
}

async function dictionaryOf(
  store: TaskStore,
  featureName: string,
): Promise<readonly (string | null)[]> {
  if (store.readDictionary !== undefined) return store.readDictionary(featureName);
  throw errorOf('data', 'the task store holds no dictionaries', {
    where: featureName,
    expected: 'the values of the ids of this feature',
    cure: 'export a run on a store that `qianmo prepare` wrote',
  });
}

export function indexArrays(index: KeyIndexArrays): NamedArray[] {
  const { hashes, blocks, keyBytes, keyOffsets } = index;
  return [
    { name: 'index.hashes', shape: [blocks.length, 2], values: hashes },
    { name: 'index.blocks', shape: [blocks.length], values: blocks },
    { name: 'keys.bytes', shape: [keyBytes.length], values: keyBytes },
    { name: 'keys.offsets', shape: [keyOffsets.length], values: keyOffsets },
  ];
}
