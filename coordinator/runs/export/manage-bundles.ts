/** Lists bundles, shows one, and moves their labels. */

import type { z } from 'zod';
import {
  moveLabel,
  rollBackLabel,
  type BundleLabel,
} from '../../../shared/bundle/bundle-labels.js';
import { filesOf } from '../../../shared/bundle/array-files.js';
import {
  bundleDigestOf,
  listBundles,
  readBundleManifest,
  type ListedBundle,
  type PublishedBundle,
} from '../../../shared/bundle/bundle-store.js';
import { readBundle } from '../../../shared/bundle/read-bundle.js';
import type { RunContext } from '../call/run-context.js';
import { objectStoreAt } from '../places.js';
import type {
  BundleLabelRequestSchema,
  BundleRollbackRequestSchema,
  BundlesRequestSchema,
} from '../requests.js';

export function listBundlesAt(
  { bundles }: z.output<typeof BundlesRequestSchema>,
  { environment }: RunContext,
): Promise<ListedBundle[]> {
  return listBundles(objectStoreAt(bundles, environment));
}

/**
 * Reads a bundle whole, which checks every file of it.
 *
 * @param bundles the address, with `@` and a label or digest behind it unless `latest` is meant.
 */
export async function checkedBundle(
  { bundles }: z.output<typeof BundlesRequestSchema>,
  { environment }: RunContext,
): Promise<PublishedBundle> {
  const { address, name } = parsedBundleAddress(bundles);
  const store = objectStoreAt(address, environment);
  const published = await readBundleManifest(store, await bundleDigestOf(store, name));
  await readBundle(published.manifest, filesOf(store), `${store.address}@${published.digest}`);
  return published;
}

/** `ADDRESS@NAME`; an address may hold an `@` before its last slash. */
export function parsedBundleAddress(text: string): {
  readonly address: string;
  readonly name?: string;
} {
  const [, address, name] = /^(.+)@([^/@]+)$/.exec(text) ?? [];
  return address === undefined || name === undefined ? { address: text } : { address, name };
}

export async function labelBundle(
  { bundles, label, bundle }: z.output<typeof BundleLabelRequestSchema>,
  { environment }: RunContext,
): Promise<BundleLabel> {
  const store = objectStoreAt(bundles, environment);
  const { digest } = await readBundleManifest(store, await bundleDigestOf(store, bundle));
  return moveLabel(store, label, digest);
}

export function rollBackBundle(
  { bundles, label }: z.output<typeof BundleRollbackRequestSchema>,
  { environment }: RunContext,
): Promise<BundleLabel> {
  return rollBackLabel(objectStoreAt(bundles, environment), label);
}
