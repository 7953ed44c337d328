/** Reads a bundle by its digest, whether it is a full one or a delta, into one bundle in memory. */

import type { ObjectStore } from '../../storage/object-store.js';
import { filesOf, type ReadFile } from '../array-files.js';
import type { BundleArray, FullManifest } from '../bundle-manifest.js';
import type { MakeArray } from '../made-arrays.js';
import { readBundle, type LoadedBundle } from '../read-bundle.js';
import { readBundleChain, topOf, type BundleChain } from './bundle-chain.js';
import { readDelta, type LoadedDelta } from './delta-arrays.js';
import { bundleWith, mergedParts, wholeNumbers, type MergedParts } from './merged-bundle.js';

/**
 * @throws QianmoError of kind `usage` if there is no such bundle; `data` if it or one below it is missing,
 *   damaged or does not fit.
 */
export async function readAnyBundle(
  store: ObjectStore,
  digest: string,
  read: ReadFile = filesOf(store),
): Promise<LoadedBundle> {
  const where = `${store.address}@${digest}`;
  return readMergedBundle(await readBundleChain(store, digest), read, where);
}

/** The bundle that a chain stands for; `order` holds its blocks in the order of a full export. */
export async function readMergedBundle(
  chain: BundleChain,
  read: ReadFile,
  where: string,
): Promise<LoadedBundle & { readonly order: Int32Array }> {
  const { bundle, parts } = await readMergedParts(chain, read, where);
  return { ...bundle, order: parts?.order ?? wholeNumbers(bundle.model.blocks.blockCount) };
}

/** The same with what was made for it, of arrays from `make`; null where the chain has no deltas. */
export async function readMergedParts(
  chain: BundleChain,
  read: ReadFile,
  where: string,
  make?: MakeArray,
): Promise<{ readonly bundle: LoadedBundle; readonly parts: MergedParts | null }> {
  const base = await readBundle(manifestBelowDeltas(chain), read, where);
  const deltas: LoadedDelta[] = [];
  for (const { manifest } of chain.deltas)
    deltas.push(await readDelta(manifest, base.model, read, where));
  const parts = deltas.length === 0 ? null : mergedParts(base, deltas, where, make);
  return { bundle: topBundle(chain, base, parts), parts };
}

/** The bundle with parts that another thread has made of the same chain. */
export async function readWithParts(
  chain: BundleChain,
  parts: MergedParts | null,
  read: ReadFile,
  where: string,
): Promise<LoadedBundle> {
  return topBundle(chain, await readBundle(manifestBelowDeltas(chain), read, where), parts);
}

function topBundle(
  chain: BundleChain,
  base: LoadedBundle,
  parts: MergedParts | null,
): LoadedBundle {
  const { manifest } = topOf(chain);
  return { ...(parts === null ? base : bundleWith(base, parts)), manifest };
}

const OF_BLOCKS = /^(blocks|(blocks|effects|sums|keys|index|selfCheck)\..+)$/;

/** Whether an array of a delta has its own adgroups and self-check rows only, not what the merged bundle has. */
export function isOfBlocks({ name }: Pick<BundleArray, 'name'>): boolean {
  return OF_BLOCKS.test(name);
}

/** The arrays that the bundle reads, of all bundles in the chain. */
export function arraysOf(chain: BundleChain): readonly BundleArray[] {
  const top = topOf(chain);
  return [chain.full, ...chain.deltas].flatMap(({ digest, manifest: { arrays } }) =>
    digest === top.digest ? arrays : arrays.filter(isOfBlocks),
  );
}

/** The full bundle with all that the last delta has whole: tables and dictionaries. */
function manifestBelowDeltas(chain: BundleChain): FullManifest {
  const { full } = chain;
  const top = topOf(chain).manifest;
  return {
    ...full.manifest,
    encodedFeatures: top.encodedFeatures,
    features: top.features,
    columns: top.columns,
    arrays: [
      ...full.manifest.arrays.filter(isOfBlocks),
      ...top.arrays.filter((array) => !isOfBlocks(array)),
    ],
  };
}
