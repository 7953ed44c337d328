/**
 * Removes bundles that no label names, and files that no bundle has. A bundle that a label points at or
 * has lately pointed at is kept, and so is anything young: an export puts each file again, also one that is there.
 */

import { listLabels, bundleDigests, readBundleManifest } from '../../shared/bundle/bundle-store.js';
import { MANIFEST_KEY_PREFIX, manifestKeyOf } from '../../shared/bundle/bundle-manifest.js';
import type { Clock } from '../../shared/base/clock.js';
import { BLOB_KEY_PREFIX, blobKeyOf } from '../../shared/storage/blob-store.js';
import type { ObjectStore } from '../../shared/storage/object-store.js';
import { PROGRESS_KEY_PREFIX } from './adapted-shards.js';

interface PruneChoice {
  /** Earlier bundles that are kept of each label's history. */
  readonly keptEarlierCount: number;
  /** Files that were put more recently than this are kept. */
  readonly graceMs: number;
  /** Finds what would be removed, and removes nothing. */
  readonly dryRun: boolean;
}

export interface PrunedBundles {
  readonly isDryRun: boolean;
  readonly removedBundles: readonly string[];
  readonly removedFileCount: number;
  /** The bytes of the removed files, as far as a removed manifest says; others are left over by killed exports. */
  readonly removedByteCount: number;
  readonly keptBundleCount: number;
  readonly keptFileCount: number;
}

/** @param clock tells the age of files; that of the store may differ by much less than the grace. */
export async function pruneBundles(
  store: ObjectStore,
  { keptEarlierCount, graceMs, dryRun }: PruneChoice,
  clock: Pick<Clock, 'epochMs'>,
): Promise<PrunedBundles> {
  const nowMs = clock.epochMs();
  const oldOf = async (prefix: string): Promise<Set<string>> =>
    new Set(
      (await store.listWithTimes(prefix))
        .filter(({ modifiedMs }) => nowMs - modifiedMs > graceMs)
        .map(({ key }) => key),
    );
  const manifests = await manifestsOf(store);
  const oldManifests = await oldOf(MANIFEST_KEY_PREFIX);
  const named = (await listLabels(store)).flatMap(({ bundle, earlier, left }) => [
    bundle,
    ...[earlier, left].flatMap((digests) => digests.slice(0, keptEarlierCount)),
  ]);
  const young = [...manifests.keys()].filter((digest) => !oldManifests.has(manifestKeyOf(digest)));
  const kept = new Set([...named, ...young]);
  const removedBundles = [...manifests.keys()].filter((digest) => !kept.has(digest));
  const keptFiles = filesOf(kept, manifests);
  const byteCounts = filesOf(removedBundles, manifests);
  const files = [...(await oldOf(BLOB_KEY_PREFIX))].filter((key) => !keptFiles.has(key));
  const leftovers = [...(await oldOf(PROGRESS_KEY_PREFIX))];
  if (!dryRun) {
    // Manifests first, so that whatever is there is whole.
    for (const digest of removedBundles) await store.delete(manifestKeyOf(digest));
    for (const key of [...files, ...leftovers]) await store.delete(key);
  }
  return {
    ...{ isDryRun: dryRun, removedBundles, removedFileCount: files.length + leftovers.length },
    removedByteCount: files.reduce((sum, key) => sum + (byteCounts.get(key) ?? 0), 0),
    keptBundleCount: manifests.size - removedBundles.length,
    keptFileCount: keptFiles.size,
  };
}

/** The bytes of the files of each bundle, by key. */
type FilesByBundle = ReadonlyMap<string, ReadonlyMap<string, number>>;

async function manifestsOf(store: ObjectStore): Promise<FilesByBundle> {
  const found = new Map<string, ReadonlyMap<string, number>>();
  for (const digest of await bundleDigests(store)) {
    const { manifest } = await readBundleManifest(store, digest);
    const files = manifest.arrays.flatMap((array) => array.files);
    found.set(digest, new Map(files.map((file) => [blobKeyOf(file), file.byteCount])));
  }
  return found;
}

function filesOf(digests: Iterable<string>, bundles: FilesByBundle): Map<string, number> {
  return new Map([...digests].flatMap((digest) => [...(bundles.get(digest) ?? [])]));
}
