/**
 * The arrays of a delta beside its blocks: the keys of its adgroups, and those that are whole. Of tables
 * and dictionaries that have grown, the files of the bundle below are kept and a file of the new rows
 * follows them.
 */

import { at } from '../../../shared/base/arrays.js';
import { QianmoError } from '../../../shared/base/errors.js';
import { writeArray, type NamedArray, type PutFile } from '../../../shared/bundle/array-files.js';
import type { BundleArray, BundleManifest } from '../../../shared/bundle/bundle-manifest.js';
import type { TaskEntry, TaskStore } from '../../../shared/tasks/task-store.js';
import { elementCountOf } from '../../../shared/tensors/named-tensors.js';
import type { ExportSource } from '../export-bundle.js';
import { dictionaryArrays } from '../shared-arrays.js';

/** @param places the blocks of the adgroups in a full export. */
export async function ownArraysOf(
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

export async function sharedArraysOf(
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
