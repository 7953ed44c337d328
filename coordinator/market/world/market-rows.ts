/** The columns of users and adgroups in a market, as its log has them, and as contextual policies read them. */

import { numberAt, uint32At, uint8At } from '../../../shared/base/arrays.js';
import { QianmoError } from '../../../shared/base/errors.js';
import { HOURS_PER_DAY, PROFILE_FIELDS } from '../../synthesize/world-parameters.js';
import type { AuctionStream } from './auction-stream.js';
import type { MarketWorld } from './market-world.js';

type NumberRow = Readonly<Record<string, number>>;

export const CONTEXT_COLUMNS = ['user', ...PROFILE_FIELDS.map(({ name }) => name), 'slot', 'hour'];
export const ADGROUP_COLUMNS = ['adgroup', 'advertiser', 'campaign', 'category', 'brand', 'price'];

/** Columns of the user, the place and the hour. */
export function contextRow(
  { world }: MarketWorld,
  auctions: AuctionStream,
  auction: number,
): NumberRow {
  const user = uint32At(auctions.users, auction);
  let code = numberAt(world.users.profileCodes, user);
  const row: Record<string, number> = {
    user,
    slot: uint8At(auctions.slots, auction),
    hour: uint32At(auctions.hours, auction) % HOURS_PER_DAY,
  };
  for (const { name, weights } of PROFILE_FIELDS) {
    row[name] = code % weights.length;
    code = Math.floor(code / weights.length);
  }
  return row;
}

export function adgroupRow({ world: { adgroups } }: MarketWorld, adgroup: number): NumberRow {
  return {
    adgroup,
    advertiser: uint32At(adgroups.advertisers, adgroup),
    campaign: uint32At(adgroups.campaigns, adgroup),
    category: uint32At(adgroups.categories, adgroup),
    brand: uint32At(adgroups.brands, adgroup),
    price: uint32At(adgroups.priceCents, adgroup) / 100,
  };
}

/** The texts of chosen columns of an adgroup in an auction, with their names, as a ranking server spells them. */
export type NamedValuesOf = (auction: number, adgroup: number) => readonly string[];

/** @throws QianmoError of kind `usage` if the market has no such column. */
export function namedValuesOf(
  market: MarketWorld,
  auctions: AuctionStream,
  columns: readonly string[],
): NamedValuesOf {
  demandMarketColumns(columns);
  return (auction, adgroup) => {
    if (columns.length === 0) return [];
    const row = { ...adgroupRow(market, adgroup), ...contextRow(market, auctions, auction) };
    return columns.map((name) => `${name}=${String(row[name])}`);
  };
}

/** @throws QianmoError of kind `usage` if the market has no such column. */
export function demandMarketColumns(columns: readonly string[]): void {
  const known = [...CONTEXT_COLUMNS, ...ADGROUP_COLUMNS];
  const unknown = columns.find((name) => !known.includes(name));
  if (unknown === undefined) return;
  throw new QianmoError({
    kind: 'usage',
    what: `the market has no column "${unknown}" to learn from`,
    where: 'exploration.weights.columns',
    expected: `columns of the synthetic log: ${known.join(', ')}`,
    cure: 'leave the column out, or name one of these',
  });
}
