/**
 * Bundles under one address: published with the manifest last, found by digest or label, listed.
 *
 * Labels are names such as `latest`, `stable` and `canary` that point at a bundle and are moved by conditional writes,
 * so that of two movers neither undoes the other unseen. A label remembers where it pointed before; a rollback moves it
 * back there.
 */

import { z } from 'zod';
import { type QianmoError, errorOf } from '../base/errors.js';
import type { ObjectStore, PutCondition } from '../storage/object-store.js';
import {
  BundleDigestSchema,
  encodeBundleManifest,
  MANIFEST_BYTE_COUNT_MAX,
  MANIFEST_KEY_PREFIX,
  manifestKeyOf,
  parseBundleManifest,
  type BundleManifest,
} from './bundle-manifest.js';

const LABEL_FORMAT_VERSION = 1;
const LABEL_KEY_PREFIX = 'labels/';
const LABEL_BYTE_COUNT_MAX = 64 * 1024;
/** Earlier bundles that a label remembers. */
const EARLIER_COUNT_MAX = 100;
const MOVE_ATTEMPTS_MAX = 16;

/** The label that an export moves. */
export const LATEST_LABEL = 'latest';

const LABEL_NAME = /^[a-z][a-z0-9-]{0,31}$/;

const LabelSchema = z.strictObject({
  formatVersion: z.literal(LABEL_FORMAT_VERSION),
  bundle: BundleDigestSchema,
  /** Where the label pointed before, the last first. */
  earlier: z.array(BundleDigestSchema).max(EARLIER_COUNT_MAX),
  /** The bundles that rollbacks have left, the last first. */
  left: z.array(BundleDigestSchema).max(EARLIER_COUNT_MAX).default([]),
  /** The fraction of requests that it answers as a canary; absent where the server says. */
  share: z.number().min(0).max(1).optional(),
});

type LabelRecord = z.infer<typeof LabelSchema>;
type LabelTarget = Omit<LabelRecord, 'formatVersion'>;

export interface BundleLabel extends Readonly<LabelTarget> {
  readonly name: string;
}

/** @throws QianmoError of kind `usage` if it is no name of a label. */
function requireLabelName(name: string): void {
  if (LABEL_NAME.test(name)) return;
  throw errorOf('usage', 'this is not a name for a label of bundles', {
    where: name,
    expected: 'a lower-case letter, then up to 31 lower-case letters, digits and hyphens',
    cure: 'name it latest, stable or canary, for example',
  });
}

/** Null if there is no such label. */
export async function readLabel(store: ObjectStore, name: string): Promise<BundleLabel | null> {
  requireLabelName(name);
  const found = await store.get(keyOf(name), LABEL_BYTE_COUNT_MAX);
  return found === null ? null : { name, ...parseLabel(found.bytes, store, name) };
}

/** In order of their names. */
export async function listLabels(store: ObjectStore): Promise<BundleLabel[]> {
  const keys = await store.list(LABEL_KEY_PREFIX);
  const names = keys.flatMap((key) => /^labels\/(.+)\.json$/.exec(key)?.[1] ?? []);
  const labels: BundleLabel[] = [];
  for (const name of names.filter((each) => LABEL_NAME.test(each)).sort()) {
    const label = await readLabel(store, name);
    if (label !== null) labels.push(label);
  }
  return labels;
}

/**
 * Points the label at a bundle, whatever it pointed at before.
 *
 * @param share of requests for a canary; without it, the label keeps that of the same bundle.
 */
export function moveLabel(
  store: ObjectStore,
  name: string,
  bundle: string,
  share?: number,
): Promise<BundleLabel> {
  return changeLabel(store, name, (before) => {
    const isThere = before?.bundle === bundle;
    if (isThere && (share === undefined || share === before.share)) return before;
    const moved = isThere ? before : withTarget(bundle, before);
    return share === undefined ? moved : { ...moved, share };
  });
}

function withTarget(bundle: string, before: LabelTarget | null): LabelTarget {
  const earlier = before === null ? [] : [before.bundle, ...before.earlier];
  const left = (before?.left ?? []).filter((digest) => digest !== bundle);
  return { bundle, earlier: earlier.slice(0, EARLIER_COUNT_MAX), left };
}

/**
 * Points the label at a bundle that was made of the one that it pointed at, if it still does.
 *
 * @param from where it pointed; null if there was no such label.
 * @throws QianmoError of kind `failed` if somebody has moved it since, as by a rollback.
 */
export function moveLabelFrom(
  store: ObjectStore,
  name: string,
  { from, to }: { readonly from: string | null; readonly to: string },
): Promise<BundleLabel> {
  return changeLabel(store, name, (before) => {
    if (before?.bundle === to) return before;
    if ((before?.bundle ?? null) === from) return withTarget(to, before);
    const cure = `run the same command again to go on from there, or move the label to the new bundle, ${to.slice(0, 12)}, with \`qianmo bundle label\``;
    throw movedMeanwhile(store, { name, from, before, cure });
  });
}

function movedMeanwhile(
  store: ObjectStore,
  moved: {
    readonly name: string;
    readonly from: string | null;
    readonly before: LabelTarget | null;
    readonly cure: string;
  },
): QianmoError {
  return errorOf('failed', 'the label was moved meanwhile, and stays where it is', {
    where: `${store.address}/${keyOf(moved.name)}`,
    expected: moved.from ?? 'no such label',
    found: moved.before?.bundle ?? 'no such label',
    cure: moved.cure,
  });
}

/**
 * Points the label at the bundle before.
 *
 * @param from where it pointed, if it must still do so
 * @throws QianmoError of kind `usage` if there is no such label, or nothing before, `failed` if somebody has moved it.
 */
export function rollBackLabel(
  store: ObjectStore,
  name: string,
  from?: string,
): Promise<BundleLabel> {
  return changeLabel(store, name, (before) => {
    if (from !== undefined && before?.bundle !== from)
      throw movedMeanwhile(store, { name, from, before, cure: 'run the same command again' });
    const [bundle, ...earlier] = before?.earlier ?? [];
    if (before !== null && bundle !== undefined) {
      const left = [before.bundle, ...before.left].slice(0, EARLIER_COUNT_MAX);
      return { bundle, earlier, left };
    }
    const where = `${store.address}/${keyOf(name)}`;
    if (before === null)
      throw errorOf('usage', 'there is no such label', {
        where,
        cure: 'list the labels with `qianmo bundle list`, or make one with `qianmo bundle label`',
      });
    throw errorOf('usage', 'the label remembers no bundle before its own', {
      where,
      found: `it points at ${before.bundle}${before.left.length === 0 ? '' : `, and rollbacks have left ${before.left.join(', ')}`}`,
      cure: 'list the bundles with `qianmo bundle list`, and move the label to one with `qianmo bundle label`',
    });
  });
}

/** Reads, changes and writes the label until nobody else has written in between. */
async function changeLabel(
  store: ObjectStore,
  name: string,
  change: (before: LabelTarget | null) => LabelTarget,
): Promise<BundleLabel> {
  requireLabelName(name);
  for (let attempt = 0; attempt < MOVE_ATTEMPTS_MAX; attempt += 1) {
    const found = await store.get(keyOf(name), LABEL_BYTE_COUNT_MAX);
    const before = found === null ? null : parseLabel(found.bytes, store, name);
    const after = change(before);
    if (after === before) return { name, ...after };
    const condition: PutCondition =
      found === null ? { kind: 'absent' } : { kind: 'unchanged', etag: found.etag };
    const record: LabelRecord = { formatVersion: LABEL_FORMAT_VERSION, ...after };
    const bytes = Buffer.from(`${JSON.stringify(record, null, 2)}\n`);
    if ((await store.put(keyOf(name), bytes, condition)) !== null) return { name, ...after };
  }
  throw errorOf('transient', 'the label is being moved by others all the time', {
    where: `${store.address}/${keyOf(name)}`,
    cure: 'find out who moves it, and try again',
  });
}

function keyOf(name: string): string {
  return `${LABEL_KEY_PREFIX}${name}.json`;
}

function parseLabel(bytes: Uint8Array, store: ObjectStore, name: string): LabelTarget {
  let found: string;
  try {
    const parsed = LabelSchema.safeParse(JSON.parse(Buffer.from(bytes).toString('utf8')));
    if (parsed.success) {
      const { formatVersion: _formatVersion, ...target } = parsed.data;
      return target;
    }
    found = z.prettifyError(parsed.error);
  } catch {
    found = 'text that is not JSON';
  }
  throw errorOf('data', 'a label of bundles cannot be read', {
    where: `${store.address}/${keyOf(name)}`,
    found,
    cure: 'delete the object and set the label again with `qianmo bundle label`',
  });
}

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
  return (await bundleNamed(store, name)).bundle;
}

/** That digest, and the share of the label. @throws as `bundleDigestOf`. */
export async function bundleNamed(
  store: ObjectStore,
  name: string,
): Promise<Pick<BundleLabel, 'bundle' | 'share'>> {
  if (BundleDigestSchema.safeParse(name).success) return { bundle: name };
  const label = LABEL_NAME.test(name) ? await readLabel(store, name) : null;
  if (label !== null) return label;
  const digests = await bundleDigests(store);
  const found = /^[0-9a-f]{6,63}$/.test(name)
    ? digests.filter((digest) => digest.startsWith(name))
    : [];
  const [only] = found;
  if (only !== undefined && found.length === 1) return { bundle: only };
  throw noSuchBundle(store, name);
}

function noSuchBundle(store: ObjectStore, name: string): QianmoError {
  return errorOf('usage', 'there is no such bundle', {
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
