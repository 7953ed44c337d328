/** A delta over a synthetic bundle, written without training: some of its adgroups have other blocks. */

import { at, uint32At } from '../../../shared/base/arrays.js';
import { filesOf, writeArray, type NamedArray } from '../../../shared/bundle/array-files.js';
import type { BundleArray, BundleManifest } from '../../../shared/bundle/bundle-manifest.js';
import { publishBundle, readBundleManifest } from '../../../shared/bundle/bundle-store.js';
import { ObjectBlobStore } from '../../../shared/storage/object-blob-store.js';
import type { ObjectStore } from '../../../shared/storage/object-store.js';

interface DeltaTerms {
  /** The digest of a full bundle. */
  readonly base: string;
  readonly changedCount: number;
  /** The factor on the values of a changed block. */
  readonly scale: number;
  readonly keyOf: (adgroup: number) => string;
}

/** Blocks between two that change. */
const STEP = 7;

/** Publishes the delta and returns its digest. The rows of the self-check are those of the base, whose blocks stay as they are. */
export async function writeSyntheticDelta(
  store: ObjectStore,
  { base, changedCount, scale, keyOf }: DeltaTerms,
): Promise<string> {
  const { manifest } = await readBundleManifest(store, base);
  const arrayOf = (name: string): BundleArray => {
    const found = manifest.arrays.find((array) => array.name === name);
    if (found === undefined) throw new Error(`the bundle has no array ${name}`);
    return found;
  };
  const read = filesOf(store);
  const checked = new Set(wordsOf(await read(at(arrayOf('selfCheck.blocks').files, 0))));
  const { strideByteCount } = manifest.blocks;
  const first = await read(at(arrayOf('blocks').files, 0));
  const places = unchecked(changedCount, checked);
  if ((uint32At(places, changedCount - 1) + 1) * strideByteCount > first.length)
    throw new Error('the first file of blocks has fewer blocks');
  const blobs = new ObjectBlobStore(store);
  const put = (bytes: Uint8Array) => blobs.put(bytes);
  const blocks = scaledBlocks(first, places, { scale, strideByteCount });
  const own: BundleArray[] = [
    {
      ...{ name: 'blocks', type: 'U8', shape: [changedCount, strideByteCount] },
      files: [await put(blocks)],
    },
  ];
  for (const array of ownArrays(places, keyOf)) own.push(await writeArray(array, put));
  const kept = manifest.arrays.filter(({ name }) =>
    /^(dense|unknown|tables|dictionaries|selfCheck)[/.]/.test(name),
  );
  const delta: BundleManifest = {
    ...manifest,
    formatVersion: 2,
    delta: { base, depth: 1, changedAdgroupCount: changedCount, newAdgroupCount: 0 },
    arrays: [...kept, ...own].sort((a, b) => (a.name < b.name ? -1 : 1)),
  };
  return (await publishBundle(store, delta)).digest;
}

function wordsOf(bytes: Uint8Array): Int32Array {
  return new Int32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 4);
}

function unchecked(count: number, checked: ReadonlySet<number>): Uint32Array {
  const places = new Uint32Array(count);
  let found = 0;
  for (let place = 1; found < count; place += STEP)
    if (!checked.has(place)) {
      places[found] = place;
      found += 1;
    }
  return places;
}

function scaledBlocks(
  file: Uint8Array,
  places: Uint32Array,
  { scale, strideByteCount }: { readonly scale: number; readonly strideByteCount: number },
): Uint8Array {
  const blocks = new Uint8Array(places.length * strideByteCount);
  for (const [index, place] of places.entries())
    blocks.set(
      file.subarray(place * strideByteCount, (place + 1) * strideByteCount),
      index * strideByteCount,
    );
  const values = new Float32Array(blocks.buffer);
  for (let index = 0; index < values.length; index += 1)
    values[index] = scale * (values[index] ?? NaN);
  return blocks;
}

function ownArrays(places: Uint32Array, keyOf: DeltaTerms['keyOf']): NamedArray[] {
  const n = places.length;
  // Block b is that of adgroup b - 1.
  const keys = Array.from(places, (place) => Buffer.from(keyOf(place - 1)));
  const offsets = new Uint32Array(n + 1);
  for (const [index, key] of keys.entries())
    offsets[index + 1] = uint32At(offsets, index) + key.length;
  const bytes = new Uint8Array(Buffer.concat(keys));
  const ofBlocks = {
    ...{ places, supportRowCounts: new Uint32Array(n), clicks: new Float64Array(n) },
    ...{
      impressions: new Float64Array(n),
      isOfValues: new Uint8Array(n),
      isAlone: new Uint8Array(n),
    },
    ...{ labels: new Int32Array(n), calibrations: new Int32Array(n) },
  };
  return [
    ...Object.entries(ofBlocks).map(([name, values]) => ({
      name: `blocks.${name}`,
      shape: [n],
      values,
    })),
    { name: 'keys.bytes', shape: [bytes.length], values: bytes },
    { name: 'keys.offsets', shape: [n + 1], values: offsets },
  ];
}
