/** The bundles that a bundle consists of: a full one, and the deltas over it. */

import { canonicalJson } from '../../base/canonical-json.js';
import { QianmoError } from '../../base/errors.js';
import type { ObjectStore } from '../../storage/object-store.js';
import {
  DELTA_DEPTH_MAX,
  type BundleManifest,
  type DeltaManifest,
  type FullManifest,
} from '../bundle-manifest.js';
import { readBundleManifest, type PublishedBundle } from '../bundle-store.js';

interface PublishedDelta extends PublishedBundle {
  readonly manifest: DeltaManifest;
}

export interface BundleChain {
  readonly full: { readonly digest: string; readonly manifest: FullManifest };
  /** The first over the full bundle, the last on top; none if the bundle is a full one. */
  readonly deltas: readonly PublishedDelta[];
}

export function depthOf(manifest: BundleManifest): number {
  return 'delta' in manifest ? manifest.delta.depth : 0;
}

/** The manifest on top. */
export function topOf({ full, deltas }: BundleChain): PublishedBundle {
  return deltas.at(-1) ?? full;
}

/**
 * @throws QianmoError of kind `usage` if there is no such bundle; `data` if a bundle below it is missing,
 *   damaged or not the one that it changes.
 */
export async function readBundleChain(store: ObjectStore, digest: string): Promise<BundleChain> {
  const deltas: PublishedDelta[] = [];
  let { manifest } = await readBundleManifest(store, digest);
  let below = digest;
  while ('delta' in manifest) {
    const upper = { digest: below, manifest };
    deltas.unshift(upper);
    below = manifest.delta.base;
    manifest = await manifestBelow(store, upper);
    demandFit(upper, manifest, `${store.address}@${upper.digest}`);
  }
  return { full: { digest: below, manifest }, deltas };
}

async function manifestBelow(
  store: ObjectStore,
  { digest, manifest }: PublishedDelta,
): Promise<BundleManifest> {
  const { base } = manifest.delta;
  try {
    return (await readBundleManifest(store, base)).manifest;
  } catch (cause) {
    if (!(cause instanceof QianmoError) || cause.kind !== 'usage') throw cause;
    throw new QianmoError({
      kind: 'data',
      what: 'the bundle that a delta changes is not there',
      where: `${store.address}@${digest}`,
      expected: `bundle ${base}`,
      cure: 'restore its manifest from a copy, roll the label back, or export the run in full',
      cause,
    });
  }
}

/** The fields and arrays that a delta must have in common with the bundle that it changes. */
function commonOf(manifest: BundleManifest): Readonly<Record<string, unknown>> {
  const { count: _count, ...blocks } = manifest.blocks;
  const { model, method, trainable, labels, serving, calibrations, unknown, index } = manifest;
  const trunk = manifest.arrays.filter(({ name }) => /^(dense|unknown)\//.test(name));
  return {
    trunk: { checkpoint: manifest.provenance.checkpoint.digest, arrays: trunk },
    'model and method': { model, method, trainable: trainable ?? null },
    'labels and calibrations': { labels, serving, calibrations, unknown },
    'blocks and keys': { blocks, index, taskColumns: manifest.taskColumns },
  };
}

function demandFit({ manifest }: PublishedDelta, below: BundleManifest, where: string): void {
  const { depth } = manifest.delta;
  if (depth !== depthOf(below) + 1)
    throw unfit(where, `a delta of depth ${depthOf(below) + 1}`, `one of depth ${depth}`);
  const expected = commonOf(below);
  for (const [part, found] of Object.entries(commonOf(manifest)))
    if (canonicalJson(found) !== canonicalJson(expected[part]))
      throw unfit(where, `the ${part} of bundle ${manifest.delta.base}`, `another ${part}`);
}

function unfit(where: string, expected: string, found: string): QianmoError {
  return new QianmoError({
    kind: 'data',
    what: 'a delta does not fit the bundle that it changes',
    ...{ where, expected, found },
    cure: 'roll the label back, or export the run in full with `qianmo export`',
  });
}

/** @throws QianmoError of kind `usage` if no delta can be laid over the bundle. */
export function demandRoomForDelta({ digest, manifest }: PublishedBundle, where: string): void {
  if (depthOf(manifest) < DELTA_DEPTH_MAX) return;
  throw new QianmoError({
    kind: 'usage',
    what: 'there are too many deltas over one full bundle',
    where: `${where}@${digest}`,
    expected: `at most ${DELTA_DEPTH_MAX}`,
    found: `${depthOf(manifest)} already`,
    cure: 'make one of them first: qianmo bundle compact',
  });
}
