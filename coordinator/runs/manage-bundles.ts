/** Lists bundles, shows one, and moves their labels. */

import { parsedBundleAddress, objectStoreAt } from './places.js';
import {
  moveLabel,
  readLabel,
  rollBackLabel,
  type BundleLabel,
  bundleDigestOf,
  listBundles,
  readBundleManifest,
  type ListedBundle,
  type PublishedBundle,
} from '../../shared/bundle/bundle-store.js';
import { readPublishedBundle } from '../../shared/bundle/read-bundle.js';
import { pruneBundles, type PrunedBundles } from '../export/prune-bundles.js';
import type { RunContext } from './run-context.js';
import type { RequestOf } from './requests.js';

export function listBundlesAt(
  { bundles }: RequestOf<'bundles'>,
  { environment }: RunContext,
): Promise<ListedBundle[]> {
  return listBundles(objectStoreAt(bundles, environment));
}

/**
 * Reads a bundle whole, which checks every file of it.
 *
 * @param bundles the address, with `@` and a label or digest behind it unless `latest` is meant.
 */
export async function checkBundle(
  { bundles }: RequestOf<'bundle'>,
  { environment }: RunContext,
): Promise<PublishedBundle> {
  const { address, name } = parsedBundleAddress(bundles);
  const store = objectStoreAt(address, environment);
  const published = await readBundleManifest(store, await bundleDigestOf(store, name));
  await readPublishedBundle(store, published.digest);
  return published;
}

export async function labelBundle(
  { bundles, label, bundle, share }: RequestOf<'label'>,
  { environment }: RunContext,
): Promise<BundleLabel> {
  const store = objectStoreAt(bundles, environment);
  const { digest } = await readBundleManifest(store, await bundleDigestOf(store, bundle));
  return moveLabel(store, label, digest, share);
}

/** @throws QianmoError of kind `usage` if the bundle before was removed. */
export async function rollBackBundle(
  { bundles, label }: RequestOf<'rollback'>,
  { environment }: RunContext,
): Promise<BundleLabel> {
  const store = objectStoreAt(bundles, environment);
  const before = (await readLabel(store, label))?.earlier[0];
  if (before !== undefined) await readBundleManifest(store, before);
  return rollBackLabel(store, label);
}

const MS_PER_HOUR = 3_600_000;

export function pruneBundlesAt(
  { bundles, keep, graceHours, dryRun }: RequestOf<'prune'>,
  { clock, environment }: RunContext,
): Promise<PrunedBundles> {
  const choice = { keptEarlierCount: keep, graceMs: graceHours * MS_PER_HOUR, dryRun };
  return pruneBundles(objectStoreAt(bundles, environment), choice, clock);
}
