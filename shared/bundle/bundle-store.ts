/** Bundles under one address: published with the manifest last, found by digest or label, listed. */

import { QianmoError } from '../base/errors.js';
import type { ObjectStore } from '../storage/object-store.js';
import { LATEST_LABEL, listLabels, readLabel } from './bundle-labels.js';
import {
  BundleDigestSchema,
  encodeBundleManifest,
  MANIFEST_BYTE_COUNT_MAX,
  MANIFEST_KEY_PREFIX,
  manifestKeyOf,
  parseBundleManifest,
  type BundleManifest,
} from './bundle-manifest.js';

/** A bundle by its digest. */
export interface PublishedBundle {
  readonly digest: string;
  readonly manifest: BundleManifest;
}

/** Writes the manifest, after which the bundle is there. Its files must be there before. */
export async function publishBundle(
  store: ObjectStore,
  manifest: BundleManifest,
): Promise<PublishedBundle> {
  const { digest, bytes } = encodeBundleManifest(manifest);
  await store.put(manifestKeyOf(digest), bytes, { kind: 'always' });
  return { digest, manifest };
}

/** @throws QianmoError of kind `usage` if there is no such bundle, `data` if it is damaged. */
export async function readBundleManifest(
  store: ObjectStore,
  digest: string,
): Promise<PublishedBundle> {
  const key = manifestKeyOf(digest);
  const object = await store.get(key, MANIFEST_BYTE_COUNT_MAX);
  const where = `${store.address}/${key}`;
  if (object === null) throw noSuchBundle(store, digest);
  return { digest, manifest: parseBundleManifest(object.bytes, digest, where) };
}

/**
 * The digest that a name means: a label, or the digest itself or its beginning.
 *
 * @throws QianmoError of kind `usage` if it means no bundle or several.
 */
export async function bundleDigestOf(store: ObjectStore, name = LATEST_LABEL): Promise<string> {
  if (BundleDigestSchema.safeParse(name).success) return name;
  const label = /^[a-z][a-z0-9-]{0,31}$/.test(name) ? await readLabel(store, name) : null;
  if (label !== null) return label.bundle;
  const digests = await bundleDigests(store);
  const found = /^[0-9a-f]{6,63}$/.test(name)
    ? digests.filter((digest) => digest.startsWith(name))
    : [];
  const [only] = found;
  if (only !== undefined && found.length === 1) return only;
  throw noSuchBundle(store, name);
}

function noSuchBundle(store: ObjectStore, name: string): QianmoError {
  return new QianmoError({
    kind: 'usage',
    what: 'there is no such bundle',
    where: store.address,
    expected: 'a label, the digest of a bundle, or its first six digits or more',
    found: name,
    cure: 'list the bundles with `qianmo bundle list`, or make one with `qianmo export`',
  });
}

/** The digests of all bundles, ascending. */
export async function bundleDigests(store: ObjectStore): Promise<string[]> {
  const keys = await store.list(MANIFEST_KEY_PREFIX);
  return keys.flatMap((key) => /^manifests\/([0-9a-f]{64})\.json$/.exec(key)?.[1] ?? []).sort();
}

export interface ListedBundle extends PublishedBundle {
  /** When it was published by the clock of the store, in milliseconds since the epoch. */
  readonly publishedMs: number;
  readonly byteCount: number;
  /** The labels that point at it. */
  readonly labels: readonly string[];
}

/** The last published first. */
export async function listBundles(store: ObjectStore): Promise<ListedBundle[]> {
  const labels = await listLabels(store);
  const times = new Map(
    (await store.listWithTimes(MANIFEST_KEY_PREFIX)).map(({ key, modifiedMs }) => [
      key,
      modifiedMs,
    ]),
  );
  const listed: ListedBundle[] = [];
  for (const digest of await bundleDigests(store)) {
    const { manifest } = await readBundleManifest(store, digest);
    const publishedMs = times.get(manifestKeyOf(digest)) ?? 0;
    listed.push({
      ...{ digest, manifest, publishedMs, byteCount: byteCountOf(manifest) },
      labels: labels.filter(({ bundle }) => bundle === digest).map(({ name }) => name),
    });
  }
  return listed.sort((a, b) => b.publishedMs - a.publishedMs || (a.digest < b.digest ? -1 : 1));
}

/** Bytes of all arrays. */
export function byteCountOf({ arrays }: Pick<BundleManifest, 'arrays'>): number {
  return arrays.flatMap(({ files }) => files).reduce((sum, { byteCount }) => sum + byteCount, 0);
}
