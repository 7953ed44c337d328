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
import { freshNonce } from '../base/nonce.js';
import { livenessOf, ProcessIdentitySchema, thisProcess } from '../storage/process-identity.js';

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

/*
 * Writers of files say so by an object `writers/NONCE.json`, removers by the object `removing.json`. Each writes its own
 * before it looks for the other's, so at least one of two that begin at the same moment sees the other: a file is never
 * removed that a bundle under way counts on.
 */

const WRITER_KEY_PREFIX = 'writers/';
const REMOVING_KEY = 'removing.json';
const IDENTITY_BYTE_COUNT_MAX = 64 * 1024;

/** @throws QianmoError of kind `transient` while files are being removed. */
export async function whileWriting<Result>(
  store: ObjectStore,
  write: () => Promise<Result>,
): Promise<Result> {
  const key = `${WRITER_KEY_PREFIX}${freshNonce()}.json`;
  await store.put(key, ownIdentity(), { kind: 'always' });
  try {
    if (await isHeld(store, REMOVING_KEY))
      throw new QianmoError({
        kind: 'transient',
        what: 'files of bundles are being removed here',
        where: `${store.address}/${REMOVING_KEY}`,
        cure: 'try again when `qianmo bundle prune` has ended; delete the object if it was killed on another machine',
      });
    return await write();
  } finally {
    await store.delete(key);
  }
}

/**
 * @param graceMs a writer on another machine counts as ended when its object is older.
 * @param remove gets the time by the clock of the store, in milliseconds since the epoch.
 * @throws QianmoError of kind `transient` while somebody writes or removes.
 */
export async function whileRemoving<Result>(
  store: ObjectStore,
  graceMs: number,
  remove: (nowMs: number) => Promise<Result>,
): Promise<Result> {
  if (!(await isHeld(store, REMOVING_KEY))) await store.delete(REMOVING_KEY);
  if ((await store.put(REMOVING_KEY, ownIdentity(), { kind: 'absent' })) === null)
    throw refused(
      `${store.address}/${REMOVING_KEY}`,
      'files of bundles are being removed by another command',
    );
  try {
    const nowMs = (await store.listWithTimes(REMOVING_KEY))[0]?.modifiedMs ?? 0;
    for (const { key, modifiedMs } of await store.listWithTimes(WRITER_KEY_PREFIX)) {
      const liveness = await livenessBehind(store, key);
      const isYoung = nowMs - modifiedMs <= graceMs;
      if (liveness === 'runs' || (liveness === 'unknown' && isYoung))
        throw refused(`${store.address}/${key}`, 'a bundle is being written here');
      await store.delete(key);
    }
    return await remove(nowMs);
  } finally {
    await store.delete(REMOVING_KEY);
  }
}

function refused(where: string, what: string): QianmoError {
  return new QianmoError({
    kind: 'transient',
    ...{ what, where },
    cure: 'try again when it has ended; delete the object if it was killed on another machine',
  });
}

function ownIdentity(): Uint8Array {
  return Buffer.from(`${JSON.stringify(thisProcess())}\n`);
}

async function isHeld(store: ObjectStore, key: string): Promise<boolean> {
  return (await livenessBehind(store, key)) !== 'ended';
}

/** Whether the process runs that the object names; `ended` if there is no such object. */
async function livenessBehind(
  store: ObjectStore,
  key: string,
): Promise<ReturnType<typeof livenessOf>> {
  const found = await store.get(key, IDENTITY_BYTE_COUNT_MAX);
  if (found === null) return 'ended';
  try {
    const text = Buffer.from(found.bytes).toString('utf8');
    return livenessOf(ProcessIdentitySchema.parse(JSON.parse(text)));
  } catch {
    return 'unknown';
  }
}
