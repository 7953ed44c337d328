/**
 * Exports what has changed since a bundle: adapts changed and new adgroups only, writes their blocks behind the
 * others, and publishes a bundle that has all other files of the one before. The trunk, what is served and the calibrations
 * stay as they are.
 */

import { at, spanAt } from '../../shared/base/arrays.js';
import { QianmoError } from '../../shared/base/errors.js';
import { adaptedTaskOf } from '../../shared/bundle/adapted-block.js';
import {
  writeArray,
  writeRowsBehind,
  type NamedArray,
  type PutFile,
} from '../../shared/bundle/array-files.js';
import type { BundleArray, BundleManifest } from '../../shared/bundle/bundle-manifest.js';
import { publishBundle, type PublishedBundle } from '../../shared/bundle/bundle-store.js';
import {
  blockOfKey,
  buildKeyIndex,
  liveBlocks,
  UNKNOWN_BLOCK,
  type KeyIndexArrays,
} from '../../shared/bundle/key-index.js';
import type { LoadedBundle } from '../../shared/bundle/read-bundle.js';
import type { AdaptedTask } from '../../shared/bundle/adapted-tasks.js';
import { ObjectBlobStore } from '../../shared/storage/blob-store.js';
import { adgroupsOf, type TaskEntry, type TaskStore } from '../../shared/tasks/task-store.js';
import { elementCountOf } from '../../shared/tensors/named-tensors.js';
import { AdaptedShards } from './adapted-shards.js';
import { asStored } from './encoding-losses.js';
import {
  jobContext,
  meaningOf,
  packShards,
  progressOf,
  shiftOf,
  type ExportSource,
  type ExportSurroundings,
} from './export-bundle.js';
import { exportShardsOf, tasksInBlockOrder, type ExportShard } from './export-groups.js';
import {
  chosenAdgroups,
  encodedRowsOf,
  selfCheckArrays,
  selfCheckOf,
  selfCheckRowsOf,
  withRows,
  type ChosenAdgroup,
} from './measured-rows.js';
import { PackedBlocks } from './packed-blocks.js';
import { dictionaryArrays, indexArrays } from './shared-arrays.js';

/** Exports of changed adgroups after which all blocks are written again, so that the files stay few. */
const EXPORTS_IN_A_ROW_MAX = 16;

/** The bundle whose adgroups have changed. */
interface BundleBefore {
  readonly published: PublishedBundle;
  readonly loaded: LoadedBundle;
}

export interface ExportedChanges extends PublishedBundle {
  readonly keptAdgroupCount: number;
  readonly changedAdgroupCount: number;
  readonly newAdgroupCount: number;
  /** Whether all blocks were written again, without those of adgroups that have another one. */
  readonly isRewritten: boolean;
  /** The bytes of the files that the bundle before does not have. */
  readonly newByteCount: number;
  readonly selfCheckRowCount: number;
  /** Features whose tables have rows for new values. */
  readonly grownTables: readonly string[];
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
  const { objects, caller } = surroundings;
  const { manifest } = before.published;
  requireSameTrunk(source, before, objects.address);
  const plan = planOf({ ...source, serving: manifest.serving }, before, isChanged);
  if (plan.tasks.length === 0) return null;
  const { shards, meaning } = plan;
  const adapting = new AdaptedShards(
    {
      ...{ shards, meaning, objects, rows: manifest.blocks.rows },
      model: { parameters: source.parameters, method: source.run.config.method },
    },
    {
      ...jobContext(source, surroundings, meaning),
      onTasksDone: progressOf(caller, 'adapting adgroups', plan.tasks.length),
    },
  );
  const keptAdgroupCount = await adapting.complete();
  const blobs = new ObjectBlobStore(objects);
  const put: PutFile = (bytes) => blobs.putVerified(bytes);
  const terms = { put, checked: checkedAdgroups(plan) };
  const packed = await packChanged(plan, adapting, terms);
  const arrays = [
    ...packed.arrays,
    ...(await otherArrays(plan, put)),
    ...(await selfCheckOfChanged(plan, packed.tasks, surroundings, terms)),
  ];
  const published = await publishBundle(objects, manifestOf(plan, arrays));
  await adapting.remove();
  const { changedAdgroupCount, newAdgroupCount, isRewritten } = plan;
  const known = new Set(manifest.arrays.flatMap(({ files }) => files.map(({ sha256 }) => sha256)));
  const files = arrays.flatMap((array) => array.files).filter(({ sha256 }) => !known.has(sha256));
  return {
    ...{ ...published, keptAdgroupCount, changedAdgroupCount, newAdgroupCount, isRewritten },
    newByteCount: files.reduce((sum, { byteCount }) => sum + byteCount, 0),
    selfCheckRowCount: terms.checked.reduce((sum, { places }) => sum + places.length, 0),
    grownTables: source.run.spec.tables
      .map(({ name }) => name)
      .filter(
        (name) =>
          (source.parameters.tables.get(name)?.rowCount ?? 0) >
          (before.loaded.model.tables.get(name)?.rowCount ?? 0),
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
    cure: 'export the run in full: leave out --only-changed',
  });
}

interface ChangePlan {
  readonly source: ExportSource;
  readonly before: BundleBefore;
  readonly shards: readonly ExportShard[];
  /** Changed and new adgroups in the order of their blocks. */
  readonly tasks: readonly TaskEntry[];
  readonly changedAdgroupCount: number;
  readonly newAdgroupCount: number;
  readonly isRewritten: boolean;
  /** Blocks that are written again, with block 0; none unless all are. */
  readonly copied: readonly number[];
  /** The first block of the changed and new adgroups. */
  readonly firstNew: number;
  readonly index: KeyIndexArrays;
  readonly meaning: string;
}

function planOf(
  source: ExportSource,
  before: BundleBefore,
  isChanged: (task: TaskEntry) => boolean,
): ChangePlan {
  const { published, loaded } = before;
  const { blocks } = published.manifest;
  const { rows, encoding } = blocks;
  const changed = adgroupsOf(source.store).filter(isChanged);
  const shards = exportShardsOf({ tasks: changed }, { serving: source.serving, rows });
  const tasks = tasksInBlockOrder(shards).map((taskIndex) => at(source.store.tasks, taskIndex));
  const keys = tasks.map(({ key }) => key);
  const replaced = new Set(keys.map((key) => blockOfKey(loaded.index, key)));
  replaced.delete(UNKNOWN_BLOCK);
  const deadCount = (blocks.deadCount ?? 0) + replaced.size;
  const isRewritten =
    2 * deadCount >= blocks.count - 1 + tasks.length ||
    exportCountOf(published.manifest) > EXPORTS_IN_A_ROW_MAX;
  const live = isRewritten
    ? [...liveBlocks(loaded.index)].filter((block) => !replaced.has(block))
    : [];
  return {
    ...{ source, before, shards, tasks, isRewritten },
    changedAdgroupCount: replaced.size,
    newAdgroupCount: tasks.length - replaced.size,
    copied: isRewritten ? [UNKNOWN_BLOCK, ...live] : [],
    firstNew: isRewritten ? 1 + live.length : blocks.count,
    index: isRewritten
      ? buildKeyIndex([...keysOf(loaded.index, live), ...keys])
      : buildKeyIndex(keys, loaded.index),
    meaning: `${meaningOf(source, { encoding, rows })}-${published.digest.slice(0, 16)}`,
  };
}

/** Exports since all blocks were written: each has its file of labels. */
function exportCountOf({ arrays }: BundleManifest): number {
  return arrays.find(({ name }) => name === 'blocks.labels')?.files.length ?? 0;
}

function keysOf({ keyBytes, keyOffsets }: KeyIndexArrays, blocks: readonly number[]): string[] {
  const decoder = new TextDecoder('utf-8', { ignoreBOM: true });
  return blocks.map((block) => decoder.decode(keyBytes.subarray(...spanAt(keyOffsets, block))));
}

/** The adgroups with self-check rows, under block 0 and under their own blocks. */
function checkedAdgroups({ source: { run, store }, index }: ChangePlan): ChosenAdgroup[] {
  const taskIndices = adgroupsOf(store).map(({ taskIndex }) => taskIndex);
  const choice = { seed: run.config.seed, forSelfCheckOnly: true };
  return selfCheckRowsOf(
    chosenAdgroups(store, taskIndices, choice).map((adgroup) => ({
      ...adgroup,
      block: blockOfKey(index, at(store.tasks, adgroup.taskIndex).key),
    })),
  );
}

interface PackingTerms {
  readonly checked: readonly ChosenAdgroup[];
  readonly put: PutFile;
}

interface PackedChanges {
  readonly arrays: readonly BundleArray[];
  /** The adapted tasks that have self-check rows, by block. */
  readonly tasks: ReadonlyMap<number, AdaptedTask>;
}

async function packChanged(
  {
    source,
    before: { published, loaded },
    shards,
    tasks,
    copied,
    firstNew,
    isRewritten,
  }: ChangePlan,
  adapting: AdaptedShards,
  { checked, put }: PackingTerms,
): Promise<PackedChanges> {
  const { spec, config } = source.run;
  const { manifest } = published;
  const { blocksPerFile, rows } = manifest.blocks;
  const packing = new PackedBlocks({
    ...{ layout: loaded.model.blocks.layout, initial: loaded.model.dense, blocksPerFile, put },
    blockCount: copied.length + tasks.length,
    shiftedFeatures: shiftOf(config)?.features ?? [],
    encodedFeatures: spec.options.supportInputs?.targetEncodings ?? [],
    before: isRewritten ? [] : manifest.arrays,
  });
  for (const block of copied) await packing.copy(loaded, block);
  const packed = await packShards(
    { source, shards, calibrations: manifest.calibrations, rows, firstBlock: firstNew },
    { adapting, packing, done: () => undefined },
    new Set(checked.map(({ block }) => block)),
  );
  return { arrays: await packing.finish(), tasks: packed };
}

function manifestOf(
  { source: { run }, before, index, firstNew, tasks }: ChangePlan,
  arrays: readonly BundleArray[],
): BundleManifest {
  const { manifest } = before.published;
  const { deadCount: _deadCount, ...blocks } = manifest.blocks;
  const count = firstNew + tasks.length;
  const deadCount = count - 1 - liveBlocks(index).length;
  return {
    ...manifest,
    provenance: { ...manifest.provenance, storeDigest: run.store.digest },
    encodedFeatures: run.store.manifest.features,
    blocks: { ...blocks, count, ...(deadCount === 0 ? {} : { deadCount }) },
    index: { seed: index.seed },
    arrays: [...arrays].sort((first, second) => (first.name < second.name ? -1 : 1)),
  };
}

/** The arrays of the trunk, the tables, the dictionaries and the index. */
async function otherArrays(
  { source: { run, store, parameters }, before, index, isRewritten }: ChangePlan,
  put: PutFile,
): Promise<BundleArray[]> {
  const { manifest } = before.published;
  const earlier = new Map(manifest.arrays.map((array) => [array.name, array]));
  const grown = (array: NamedArray): Promise<BundleArray> =>
    isRewritten ? writeArray(array, put) : writeGrown(earlier.get(array.name), array, put);
  const isGrown = isRewritten ? () => true : hasGrown(manifest, store);
  const width = run.spec.tableRowWidth;
  // Appended logs leave target encodings as they are.
  const arrays = manifest.arrays.filter(({ name }) => {
    const feature = /^dictionaries\/(.+)\.(bytes|offsets|index)$/.exec(name)?.[1];
    return feature === undefined ? /^(dense|unknown|encodings)\//.test(name) : !isGrown(feature);
  });
  for (const { name, rowCount } of run.spec.tables) {
    const table = parameters.tables.get(name);
    if (table === undefined) throw new Error(`there is no table ${name}`);
    const { values } = table;
    arrays.push(await grown({ name: `tables/${name}`, shape: [rowCount, width], values }));
  }
  for await (const array of dictionaryArrays(store, isGrown))
    arrays.push(await (isHashed(array) ? writeArray(array, put) : grown(array)));
  for (const array of indexArrays(index))
    arrays.push(await (isHashed(array) ? writeArray(array, put) : grown(array)));
  return arrays;
}

/** Whether a feature has another number of values than in the bundle before. Dictionaries only grow. */
function hasGrown(
  { encodedFeatures }: BundleManifest,
  { manifest: { features } }: TaskStore,
): (feature: string) => boolean {
  const countsOf = (of: BundleManifest['encodedFeatures']): ReadonlyMap<string, number> =>
    new Map(of.flatMap((each) => (each.kind === 'number' ? [] : [[each.name, each.rowCount]])));
  const [before, now] = [countsOf(encodedFeatures), countsOf(features)];
  return (feature) => before.get(feature) !== now.get(feature);
}

/** The hash index of keys or of a dictionary, which is another one when entries follow. */
function isHashed({ name }: NamedArray): boolean {
  return /^index\.|^dictionaries\/.+\.index$/.test(name);
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
      cure: 'export the run in full: leave out --only-changed',
    });
  if (values.length === first) return before;
  const tailShape = [at(shape, 0) - at(before.shape, 0), ...shape.slice(1)];
  const tail = { name, shape: tailShape, values: values.subarray(first) };
  return writeRowsBehind(before, tail, put);
}

/** The self-check rows with their outputs under the blocks of both exports. */
async function selfCheckOfChanged(
  { source, before: { loaded } }: ChangePlan,
  changed: ReadonlyMap<number, AdaptedTask>,
  { compute }: ExportSurroundings,
  { checked, put }: PackingTerms,
): Promise<BundleArray[]> {
  const { run, store, parameters } = source;
  const { spec, config } = run;
  const { tables, dense } = parameters;
  const { model, index } = loaded;
  const scorer = await compute.scorerOf({ spec, shift: shiftOf(config), tables, dense });
  const measured = await withRows(store, checked);
  const taskOf = ({ block, taskIndex }: ChosenAdgroup): AdaptedTask => {
    const task = changed.get(block);
    if (task !== undefined) return asStored(task, model.blocks.layout, model.dense);
    const isUnknown = block === UNKNOWN_BLOCK;
    const before = isUnknown ? block : blockOfKey(index, at(store.tasks, taskIndex).key);
    return adaptedTaskOf(model, before);
  };
  const outputs = scorer.score(
    measured.map((adgroup) => ({ adapted: taskOf(adgroup), rows: encodedRowsOf(adgroup) })),
  );
  const { features } = store.manifest;
  const named = selfCheckArrays(selfCheckOf(measured, outputs, features), features);
  return Promise.all(named.map((array) => writeArray(array, put)));
}
