/**
 * Exports what has changed since a bundle: adapts changed and new adgroups only, and publishes a delta
 * that names the bundle. The trunk, what is served and the calibrations are those of the bundle.
 */

import { at } from '../../shared/base/arrays.js';
import { QianmoError } from '../../shared/base/errors.js';
import { type PutFile, writeArray, type NamedArray } from '../../shared/bundle/array-files.js';
import {
  DELTA_FORMAT_VERSION,
  type BundleArray,
  type DeltaManifest,
  type BundleManifest,
} from '../../shared/bundle/bundle-manifest.js';
import { publishBundle, type PublishedBundle } from '../../shared/bundle/bundle-store.js';
import { demandRoomForDelta, depthOf } from '../../shared/bundle/delta/bundle-chain.js';
import { blockOfKey, UNKNOWN_BLOCK, withKeys } from '../../shared/bundle/key-index.js';
import { restsOnSupport } from '../../shared/methods/inner-loop/inner-loop.js';
import { predictionLoopOf } from '../../shared/methods/inner-loop/method.js';
import { methodPlanOf } from '../../shared/methods/methods.js';
import type { LoadedBundle } from '../../shared/bundle/read-bundle.js';
import type { AdaptedTask } from '../../shared/queue/adapted-tasks.js';
import { ObjectBlobStore } from '../../shared/storage/object-blob-store.js';
import { adgroupsOf, type TaskEntry, type TaskStore } from '../../shared/tasks/task-store.js';
import { AdaptedShards } from './adapted-shards.js';
import { calibrationIndexOf } from './calibrate.js';
import {
  completed,
  jobContext,
  meaningOf,
  ownCopy,
  progressOf,
  type ExportSource,
  type ExportSurroundings,
} from './export-bundle.js';
import {
  exportShardsOf,
  rowCountOf,
  tasksInBlockOrder,
  type ExportShard,
} from './export-groups.js';
import { PackedBlocks } from './packed-blocks.js';
import { selfCheckOfDelta } from './delta-self-check.js';
import { elementCountOf } from '../../shared/tensors/named-tensors.js';
import { dictionaryArrays } from './shared-arrays.js';

/** The bundle that a delta changes. */
interface BundleBelow {
  readonly published: PublishedBundle;
  /** With the deltas that it is made of. */
  readonly loaded: LoadedBundle;
}

export interface ExportedDelta extends PublishedBundle {
  readonly keptAdgroupCount: number;
  readonly changedAdgroupCount: number;
  readonly newAdgroupCount: number;
  /** The bytes of the files that the bundles below do not have. */
  readonly newByteCount: number;
  readonly selfCheckRowCount: number;
  /** Features whose tables have rows for new values. */
  readonly grownTables: readonly string[];
}

/**
 * @param isChanged whether an adgroup has other rows than when the bundle was made.
 * @returns null if no adgroup has changed.
 * @throws whatever the dispatcher throws; QianmoError of kind `usage` if the bundle has another trunk, or
 *   too many deltas.
 */
export async function exportDelta(
  source: ExportSource,
  below: BundleBelow,
  isChanged: (task: TaskEntry) => boolean,
  surroundings: ExportSurroundings,
): Promise<ExportedDelta | null> {
  const { objects, caller } = surroundings;
  const { manifest } = below.published;
  demandSameTrunk(source, below, objects.address);
  demandRoomForDelta(below.published, objects.address);
  const plan = planOf({ ...source, serving: manifest.serving }, below, isChanged);
  if (plan.tasks.length === 0) return null;
  withKeys(below.loaded.index, {
    keys: plan.tasks.map(({ key }) => key),
    firstNew: below.loaded.model.blocks.blockCount,
    where: objects.address,
  });
  const { shards, meaning } = plan;
  const { method } = source.run.config;
  const adapting = new AdaptedShards(
    {
      ...{ shards, meaning, objects, rows: manifest.blocks.rows },
      model: { parameters: source.parameters, method },
    },
    {
      ...jobContext(source, surroundings, meaning),
      onTasksDone: progressOf(caller, 'adapting adgroups', plan.tasks.length),
    },
  );
  const keptAdgroupCount = await adapting.complete();
  const blobs = new ObjectBlobStore(objects);
  const put: PutFile = (bytes) => blobs.putVerified(bytes);
  const packed = await packChanged(plan, adapting, put);
  const checked = await selfCheckOfDelta(
    { source, loaded: below.loaded, fullOrder: plan.fullOrder, changed: packed.tasks },
    surroundings.compute,
  );
  const arrays = [
    ...packed.arrays,
    ...(await ownArraysOf(plan.tasks, plan.places, put)),
    ...(await sharedArraysOf(source, manifest, { selfCheck: checked.arrays, put })),
  ];
  const published = await publishBundle(objects, manifestOf(plan, arrays));
  await adapting.remove();
  const { changedAdgroupCount, newAdgroupCount } = plan;
  const known = new Set(manifest.arrays.flatMap(({ files }) => files.map(({ sha256 }) => sha256)));
  const files = arrays.flatMap((array) => array.files).filter(({ sha256 }) => !known.has(sha256));
  return {
    ...{ ...published, keptAdgroupCount, changedAdgroupCount, newAdgroupCount },
    newByteCount: files.reduce((sum, { byteCount }) => sum + byteCount, 0),
    selfCheckRowCount: checked.rowCount,
    grownTables: source.run.spec.tables
      .map(({ name }) => name)
      .filter(
        (name) =>
          (source.parameters.tables.get(name)?.rowCount ?? 0) >
          (below.loaded.model.tables.get(name)?.rowCount ?? 0),
      ),
  };
}

function demandSameTrunk(
  { checkpoint }: ExportSource,
  { published: { digest, manifest } }: BundleBelow,
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

interface DeltaPlan {
  readonly source: ExportSource;
  readonly below: BundleBelow;
  readonly shards: readonly ExportShard[];
  /** Changed and new adgroups in the order of the delta, and their blocks in a full export. */
  readonly tasks: readonly TaskEntry[];
  readonly places: Uint32Array;
  /** All adgroups in the order of a full export. */
  readonly fullOrder: readonly number[];
  readonly changedAdgroupCount: number;
  readonly newAdgroupCount: number;
  readonly meaning: string;
}

function planOf(
  source: ExportSource,
  below: BundleBelow,
  isChanged: (task: TaskEntry) => boolean,
): DeltaPlan {
  const { store, serving } = source;
  const { rows, encoding } = below.published.manifest.blocks;
  const changed = adgroupsOf(store).filter(isChanged);
  const choice = { serving, rows };
  const shards = exportShardsOf({ tasks: changed }, choice);
  const tasks = tasksInBlockOrder(shards).map((taskIndex) => at(store.tasks, taskIndex));
  const fullOrder = tasksInBlockOrder(exportShardsOf(store, choice));
  const blocks = new Uint32Array(store.tasks.length);
  for (const [place, taskIndex] of fullOrder.entries()) blocks[taskIndex] = place + 1;
  const isNew = ({ key }: TaskEntry): boolean =>
    blockOfKey(below.loaded.index, key) === UNKNOWN_BLOCK;
  const newAdgroupCount = tasks.filter(isNew).length;
  return {
    ...{ source, below, shards, tasks, fullOrder, newAdgroupCount },
    places: Uint32Array.from(tasks, ({ taskIndex }) => at(blocks, taskIndex)),
    changedAdgroupCount: tasks.length - newAdgroupCount,
    meaning: `${meaningOf(source, { encoding, rows })}-${below.published.digest.slice(0, 16)}`,
  };
}

interface PackedChanges {
  readonly arrays: readonly BundleArray[];
  /** The adapted tasks by their blocks in a full export. */
  readonly tasks: ReadonlyMap<number, AdaptedTask>;
}

async function packChanged(
  { source, below, shards, tasks, places }: DeltaPlan,
  adapting: AdaptedShards,
  put: PutFile,
): Promise<PackedChanges> {
  const { spec, config } = source.run;
  const loop = predictionLoopOf(methodPlanOf(config.method));
  const { shift } = loop;
  const { model } = below.loaded;
  const { blocksPerFile, rows } = below.published.manifest.blocks;
  const packing = new PackedBlocks({
    ...{ layout: model.blocks.layout, initial: model.dense, blockCount: tasks.length },
    ...{ blocksPerFile, put, shiftedFeatures: shift?.features ?? [] },
    encodedFeatures: spec.options.supportInputs?.targetEncodings ?? [],
  });
  const adapted = new Map<number, AdaptedTask>();
  for (const [index, { labelIndex, adaptation }] of shards.entries())
    for (const task of await adapting.read(index)) {
      const supportRowCount = rowCountOf(at(source.store.tasks, task.taskIndex), rows);
      const stored = completed(task, shift);
      const ofSize = { labelIndex, supportRowCount };
      await packing.add(stored, {
        supportRowCount: restsOnSupport(loop, adaptation.innerSteps) ? supportRowCount : 0,
        labelIndex,
        calibrationIndex: calibrationIndexOf(below.published.manifest.calibrations, ofSize),
      });
      adapted.set(at(places, adapted.size), ownCopy(stored));
    }
  return { arrays: await packing.finish(), tasks: adapted };
}

function manifestOf(
  { source, below, changedAdgroupCount, newAdgroupCount }: DeltaPlan,
  arrays: readonly BundleArray[],
): DeltaManifest {
  const { digest, manifest } = below.published;
  const { store } = source.run;
  return {
    ...manifest,
    formatVersion: DELTA_FORMAT_VERSION,
    delta: { base: digest, depth: depthOf(manifest) + 1, changedAdgroupCount, newAdgroupCount },
    provenance: { ...manifest.provenance, storeDigest: store.digest },
    encodedFeatures: store.manifest.features,
    blocks: { ...manifest.blocks, count: 1 + adgroupsOf(store).length },
    arrays: [...arrays].sort((first, second) => (first.name < second.name ? -1 : 1)),
  };
}

/** @param places the blocks of the adgroups in a full export. */
async function ownArraysOf(
  tasks: readonly TaskEntry[],
  places: Uint32Array,
  put: PutFile,
): Promise<BundleArray[]> {
  const keys = tasks.map(({ key }) => Buffer.from(key));
  const offsets = new Uint32Array(keys.length + 1);
  for (const [place, { length }] of keys.entries())
    offsets[place + 1] = at(offsets, place) + length;
  const bytes = new Uint8Array(Buffer.concat(keys));
  const arrays: NamedArray[] = [
    { name: 'blocks.places', shape: [places.length], values: places },
    { name: 'keys.bytes', shape: [bytes.length], values: bytes },
    { name: 'keys.offsets', shape: [offsets.length], values: offsets },
  ];
  return Promise.all(arrays.map((array) => writeArray(array, put)));
}

async function sharedArraysOf(
  { run, store, parameters }: ExportSource,
  below: BundleManifest,
  { selfCheck, put }: { readonly selfCheck: readonly NamedArray[]; readonly put: PutFile },
): Promise<BundleArray[]> {
  const belowOf = new Map(below.arrays.map((array) => [array.name, array]));
  const grown = async (array: NamedArray): Promise<BundleArray> => {
    const before = belowOf.get(array.name);
    if (before === undefined) throw new Error(`the bundle below has no array ${array.name}`);
    return withTail(before, array, put);
  };
  const arrays = below.arrays.filter(({ name }) => /^(dense|unknown)\//.test(name));
  const width = run.spec.tableRowWidth;
  for (const { name, rowCount } of run.spec.tables) {
    const table = parameters.tables.get(name);
    if (table === undefined) throw new Error(`there is no table ${name}`);
    const { values } = table;
    arrays.push(await grown({ name: `tables/${name}`, shape: [rowCount, width], values }));
  }
  const isGrown = hasGrown(below, store);
  arrays.push(
    ...below.arrays.filter(({ name }) => {
      const feature = /^dictionaries\/(.+)\.(bytes|offsets|slots|index)$/.exec(name)?.[1];
      return feature !== undefined && !isGrown(feature);
    }),
  );
  for await (const array of dictionaryArrays(store, isGrown))
    arrays.push(await (isIndex(array) ? writeArray(array, put) : grown(array)));
  // Appended logs leave target encodings as they are.
  arrays.push(...below.arrays.filter(({ name }) => name.startsWith('encodings/')));
  for (const array of selfCheck) arrays.push(await writeArray(array, put));
  return arrays;
}

/** Whether a feature has another number of values than in the bundle below. Dictionaries only grow. */
function hasGrown(
  { encodedFeatures }: BundleManifest,
  { manifest: { features } }: TaskStore,
): (feature: string) => boolean {
  const countsOf = (of: BundleManifest['encodedFeatures']): ReadonlyMap<string, number> =>
    new Map(of.flatMap((each) => (each.kind === 'number' ? [] : [[each.name, each.rowCount]])));
  const [before, now] = [countsOf(encodedFeatures), countsOf(features)];
  return (feature) => before.get(feature) !== now.get(feature);
}

/** The hash index of a dictionary, which is another one when values follow. */
function isIndex({ name }: NamedArray): boolean {
  return name.endsWith('.index');
}

/** An array that begins with the rows of the one below. */
async function withTail(
  before: BundleArray,
  { name, shape, values }: NamedArray,
  put: PutFile,
): Promise<BundleArray> {
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
  const tail = await writeArray({ name, shape: tailShape, values: values.subarray(first) }, put);
  return { ...before, shape: [...shape], files: [...before.files, ...tail.files] };
}
