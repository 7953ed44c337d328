/** A change of a synthetic bundle, written without training: some of its adgroups have other blocks. */

import { at } from '../../../shared/base/arrays.js';
import { writeArray } from '../../../shared/bundle/array-files.js';
import { publishBundle } from '../../../shared/bundle/bundle-store.js';
import { buildKeyIndex } from '../../../shared/bundle/key-index.js';
import { readPublishedBundle, type LoadedBundle } from '../../../shared/bundle/read-bundle.js';
import { ObjectBlobStore } from '../../../shared/storage/blob-store.js';
import type { ObjectStore } from '../../../shared/storage/object-store.js';
import { writeGrown, indexArrays } from '../../../coordinator/export/export-bundle.js';
import { PackedBlocks } from '../../../coordinator/export/packed-blocks.js';

interface ChangeTerms {
  /** The digest of a bundle. */
  readonly base: string;
  readonly changedCount: number;
  /** The factor on the values of a changed block. */
  readonly scale: number;
  readonly keyOf: (adgroup: number) => string;
}

/** Blocks between two that change. */
const STEP = 7;

/** Publishes the bundle and returns its digest. The rows of the self-check are those of the base, whose blocks stay as they are. */
export async function writeSyntheticChange(
  store: ObjectStore,
  { base, changedCount, scale, keyOf }: ChangeTerms,
): Promise<string> {
  const loaded = await readPublishedBundle(store, base);
  const { manifest } = loaded;
  const changed = unchecked(changedCount, new Set(loaded.selfCheck.blocks));
  const blobs = new ObjectBlobStore(store);
  const put = (bytes: Uint8Array) => blobs.put(bytes);
  const packing = new PackedBlocks({
    ...{ layout: loaded.model.blocks.layout, put },
    ...{ blockCount: changedCount, blocksPerFile: manifest.blocks.blocksPerFile },
    ...{ encodedFeatures: [], before: manifest.arrays },
  });
  const scaled = withScaledBlocks(loaded, scale);
  for (const block of changed) await packing.copy(scaled, block);
  // Block b is that of adgroup b - 1.
  const index = buildKeyIndex(
    changed.map((block) => keyOf(block - 1)),
    loaded.index,
  );
  const rewritten = await packing.finish();
  for (const array of indexArrays(index)) {
    const earlier = manifest.arrays.find(({ name }) => name === array.name);
    const isGrown = array.name.startsWith('keys.');
    rewritten.push(await (isGrown ? writeGrown(earlier, array, put) : writeArray(array, put)));
  }
  const names = new Set(rewritten.map(({ name }) => name));
  const kept = manifest.arrays.filter(({ name }) => !names.has(name));
  const { count } = manifest.blocks;
  const change = await publishBundle(store, {
    ...manifest,
    blocks: { ...manifest.blocks, count: count + changedCount, deadCount: changedCount },
    index: { seed: 0 },
    arrays: [...kept, ...rewritten].sort((a, b) => (a.name < b.name ? -1 : 1)),
  });
  return change.digest;
}

function unchecked(count: number, checked: ReadonlySet<number>): number[] {
  const blocks: number[] = [];
  for (let block = 1; blocks.length < count; block += STEP)
    if (!checked.has(block)) blocks.push(block);
  return blocks;
}

/** The bundle with scaled values in its first shard. */
function withScaledBlocks(loaded: LoadedBundle, scale: number): LoadedBundle {
  const { blocks } = loaded.model;
  const [first = new Uint8Array(), ...others] = blocks.shards;
  const copied = Uint8Array.from(first);
  const values = new Float32Array(copied.buffer);
  for (let index = 0; index < values.length; index += 1) values[index] = scale * at(values, index);
  const shards = [copied, ...others];
  return { ...loaded, model: { ...loaded.model, blocks: { ...blocks, shards } } };
}
