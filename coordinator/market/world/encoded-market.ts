/** Users and adgroups of a market as a model reads them: encoded once, by the encoder of a bundle. */

import { QianmoError } from '../../../shared/base/errors.js';
import type { BundleManifest } from '../../../shared/bundle/bundle-manifest.js';
import type { LoadedBundle } from '../../../shared/bundle/read-bundle.js';
import type { EncodedRows } from '../../../shared/features/encoded-rows.js';
import type { AuctionStream } from './auction-stream.js';
import { ADGROUP_COLUMNS, adgroupRow, CONTEXT_COLUMNS, contextRow } from './market-rows.js';
import type { MarketWorld } from './market-world.js';

export interface EncodedMarket {
  /** Features that an auction has once. */
  readonly contextFeatures: readonly string[];
  /** One row for each auction, in which only features of the context count. */
  readonly contexts: EncodedRows;
  /** One row for each adgroup, in which only the other features count. */
  readonly adgroups: EncodedRows;
}

export function encodedMarketOf(
  market: MarketWorld,
  auctions: AuctionStream,
  { manifest, encoder }: Pick<LoadedBundle, 'manifest' | 'encoder'>,
): EncodedMarket {
  demandColumns(manifest);
  const contexts = encoder.allocate(auctions.count);
  const anyAdgroup = adgroupRow(market, 0);
  for (let auction = 0; auction < auctions.count; auction += 1) {
    const row = { ...anyAdgroup, ...contextRow(market, auctions, auction) };
    encoder.encodeInto(contexts, auction, row, row);
  }
  const adgroups = encoder.allocate(market.adgroupCount);
  const anyContext = contextRow(market, auctions, 0);
  for (let adgroup = 0; adgroup < market.adgroupCount; adgroup += 1) {
    const row = { ...anyContext, ...adgroupRow(market, adgroup) };
    encoder.encodeInto(adgroups, adgroup, row, row);
  }
  return { contextFeatures: contextFeaturesOf(manifest, encoder), contexts, adgroups };
}

/** @throws QianmoError of kind `usage` if a number follows from the user and the adgroup together. */
function contextFeaturesOf(
  { features }: BundleManifest,
  { derived }: LoadedBundle['encoder'],
): string[] {
  const names = features
    .filter((feature) => CONTEXT_COLUMNS.includes(columnOf(feature) ?? ''))
    .map(({ name }) => name);
  const isOfContext = ({ of }: { readonly of: readonly string[] }): boolean =>
    of.some((name) => names.includes(name));
  const mixed = derived.find(
    (number) => isOfContext(number) && !number.of.every((name) => names.includes(name)),
  );
  if (mixed !== undefined)
    throw new QianmoError({
      kind: 'usage',
      what: `the market cannot compute the target encoding of ${mixed.of.join(' and ')}`,
      where: 'run.data.targetEncodings',
      expected: 'pairs of two columns of the user, or of two of the adgroup',
      cure: 'leave the pair out',
    });
  return [...names, ...derived.filter(isOfContext).map(({ name }) => name)];
}

type Feature = BundleManifest['features'][number];

/** Null for an expression, and for a bag. */
function columnOf(feature: Feature): string | null {
  if (feature.kind === 'bag' || feature.expression !== undefined) return null;
  return feature.column ?? feature.name;
}

/** @throws QianmoError of kind `usage` if a feature is not a column of the user or of the adgroup. */
function demandColumns({ features }: Pick<BundleManifest, 'features'>): void {
  const columns = [...CONTEXT_COLUMNS, ...ADGROUP_COLUMNS];
  const other = features.find((feature) => !columns.includes(columnOf(feature) ?? ''));
  if (other === undefined) return;
  throw new QianmoError({
    kind: 'usage',
    what: `the market cannot compute the feature "${other.name}"`,
    where: 'run.data.features',
    expected: `a category or a number of the synthetic log: ${columns.join(', ')}`,
    cure: 'leave the feature out, or name a column',
  });
}
