/**
 * Makes one full bundle of a full bundle and the deltas over it. Its blocks are in the order of a full
 * export of the same store, so that it has the digest of that export where the adapted values, what is served and
 * the calibrations are the same.
 */

import { at, int32At, spanAt } from '../../../shared/base/arrays.js';
import {
  filesOf,
  writeArray,
  type NamedArray,
  type PutFile,
} from '../../../shared/bundle/array-files.js';
import { blockBytes } from '../../../shared/bundle/block-codec.js';
import {
  BUNDLE_FORMAT_VERSION,
  type BundleArray,
  type FullManifest,
} from '../../../shared/bundle/bundle-manifest.js';
import { publishBundle, type PublishedBundle } from '../../../shared/bundle/bundle-store.js';
import { readBundleChain, topOf } from '../../../shared/bundle/delta/bundle-chain.js';
import { isOfBlocks, readMergedBundle } from '../../../shared/bundle/delta/read-any-bundle.js';
import { buildKeyIndex, type KeyIndexArrays } from '../../../shared/bundle/key-index.js';
import type { ValueLists } from '../../../shared/bundle/ranking-model.js';
import type { LoadedBundle } from '../../../shared/bundle/read-bundle.js';
import { ObjectBlobStore } from '../../../shared/storage/object-blob-store.js';
import type { ObjectStore } from '../../../shared/storage/object-store.js';
import type { BlobRef } from '../../../shared/storage/blob-store.js';
import { selfCheckArrays } from '../measured-rows.js';
import { indexArrays } from '../shared-arrays.js';

export interface CompactedBundle extends PublishedBundle {
  /** The deltas that are now part of it; 0 if the bundle was a full one, which is then kept. */
  readonly deltaCount: number;
}

type Merged = LoadedBundle & { readonly order: Int32Array };

export async function compactBundle(store: ObjectStore, digest: string): Promise<CompactedBundle> {
  const chain = await readBundleChain(store, digest);
  const top = topOf(chain);
  if (!('delta' in top.manifest)) return { ...top, deltaCount: 0 };
  const merged = await readMergedBundle(chain, filesOf(store), `${store.address}@${digest}`);
  const blobs = new ObjectBlobStore(store);
  const put: PutFile = (bytes) => blobs.putVerified(bytes);
  const index = buildKeyIndex(keysOf(merged));
  const whole = top.manifest.arrays.filter((array) => !isOfBlocks(array));
  const named = [
    ...columnsOf(merged),
    ...indexArrays(index),
    ...grownArrays(merged),
    ...selfCheckArraysOf(merged),
  ];
  const arrays = [await blocksArray(merged, put)];
  for (const array of named) arrays.push(await writeArray(array, put));
  const rewritten = new Set(arrays.map(({ name }) => name));
  for (const array of whole)
    if (!rewritten.has(array.name)) arrays.push(await rejoined(array, store, put));
  const { delta: _delta, ...kept } = top.manifest;
  const manifest: FullManifest = {
    ...kept,
    formatVersion: BUNDLE_FORMAT_VERSION,
    index: { seed: index.seed },
    arrays: arrays.sort((first, second) => (first.name < second.name ? -1 : 1)),
  };
  return { ...(await publishBundle(store, manifest)), deltaCount: chain.deltas.length };
}

function keysOf({ index, order }: Merged): string[] {
  const { keyBytes, keyOffsets }: KeyIndexArrays = index;
  const decoder = new TextDecoder('utf-8', { ignoreBOM: true });
  return Array.from(order.subarray(1), (block) =>
    decoder.decode(keyBytes.subarray(...spanAt(keyOffsets, block))),
  );
}

async function blocksArray({ model, order, manifest }: Merged, put: PutFile): Promise<BundleArray> {
  const { strideByteCount } = model.blocks.layout;
  const { blocksPerFile } = manifest.blocks;
  const files: BlobRef[] = [];
  for (let first = 0; first < order.length; first += blocksPerFile) {
    const ofFile = order.subarray(first, first + blocksPerFile);
    const bytes = new Uint8Array(ofFile.length * strideByteCount);
    for (const [place, block] of ofFile.entries())
      bytes.set(blockBytes(model.blocks, block), place * strideByteCount);
    files.push(await put(bytes));
  }
  return { name: 'blocks', type: 'U8', shape: [order.length, strideByteCount], files };
}

function columnsOf({ model, labels, calibrations, order }: Merged): NamedArray[] {
  const { evidence, isOfValues, isAlone, effects } = model.blocks;
  const column = <Values extends NamedArray['values']>(
    name: string,
    values: Values,
    Type: new (length: number) => Values,
  ): NamedArray => {
    const ordered = new Type(order.length);
    for (const [place, block] of order.entries()) ordered[place] = at<number>(values, block);
    return { name: `blocks.${name}`, shape: [order.length], values: ordered };
  };
  const { byValue } = evidence;
  return [
    column('supportRowCounts', evidence.supportRowCounts, Uint32Array),
    column('clicks', evidence.clicks, Float64Array),
    column('impressions', evidence.impressions, Float64Array),
    column('isOfValues', isOfValues, Uint8Array),
    column('isAlone', isAlone, Uint8Array),
    column('labels', labels, Int32Array),
    column('calibrations', calibrations, Int32Array),
    ...(effects === null
      ? []
      : listArrays('effects', effects, order, { effects: effects.effects })),
    ...(byValue === null
      ? []
      : listArrays('sums', byValue, order, {
          ...{ clicks: byValue.clicks, impressions: byValue.impressions },
        })),
  ];
}

function listArrays(
  group: string,
  { features, offsets, ids }: ValueLists,
  order: Int32Array,
  columns: Readonly<Record<string, Float32Array | Float64Array>>,
): NamedArray[] {
  const ordered = new Int32Array(order.length * features.length + 1);
  const entries: number[] = [];
  for (const [place, block] of order.entries())
    for (const feature of features.keys()) {
      const [start, end] = spanAt(offsets, block * features.length + feature);
      for (let entry = start; entry < end; entry += 1) entries.push(entry);
      ordered[place * features.length + feature + 1] = entries.length;
    }
  const vector = (name: string, values: NamedArray['values']): NamedArray => ({
    ...{ name: `${group}.${name}`, shape: [values.length], values },
  });
  return [
    vector('offsets', ordered),
    vector(
      'ids',
      Int32Array.from(entries, (entry) => int32At(ids, entry)),
    ),
    ...Object.entries(columns).map(([name, values]) =>
      vector(
        name,
        values instanceof Float32Array
          ? Float32Array.from(entries, (entry) => at(values, entry))
          : Float64Array.from(entries, (entry) => at(values, entry)),
      ),
    ),
  ];
}

/** The self-check rows, under their blocks in the order of a full export. */
function selfCheckArraysOf({ selfCheck, model, order, manifest }: Merged): NamedArray[] {
  const places = new Int32Array(model.blocks.blockCount);
  for (const [place, block] of order.entries()) places[block] = place;
  const blocks = selfCheck.blocks.map((block) => int32At(places, block));
  return selfCheckArrays({ ...selfCheck, blocks }, manifest.encodedFeatures);
}

/** The tables, whose rows may lie in files that a full export cuts elsewhere. */
function grownArrays({ model }: Merged): NamedArray[] {
  return [...model.tables].map(([name, { rowCount, width, values }]) => ({
    ...{ name: `tables/${name}`, shape: [rowCount, width], values },
  }));
}

/** An array whose files are the one that a full export writes. Only dictionaries have several. */
async function rejoined(
  array: BundleArray,
  store: ObjectStore,
  put: PutFile,
): Promise<BundleArray> {
  if (array.files.length < 2) return array;
  const read = filesOf(store);
  const parts: Uint8Array[] = [];
  for (const file of array.files) parts.push(await read(file));
  const bytes = new Uint8Array(Buffer.concat(parts));
  if (array.type === 'U8') return writeArray({ ...array, values: bytes }, put);
  if (array.type !== 'U32') throw new Error(`${array.name} is in ${array.files.length} files`);
  const values = new Uint32Array(bytes.buffer, 0, bytes.length / Uint32Array.BYTES_PER_ELEMENT);
  return writeArray({ ...array, values }, put);
}
