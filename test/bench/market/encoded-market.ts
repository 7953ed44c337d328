/** Users and adgroups of a market, as a model reads them. */

import { at, numberAt, uint32At, uint8At } from '../../../shared/base/arrays.js';
import type { LoadedBundle } from '../../../shared/bundle/read-bundle.js';
import type { EncodedRows } from '../../../shared/features/row-encoder.js';
import type { ModelSpec } from '../../../shared/models/model-spec.js';
import { HOURS_PER_DAY, PROFILE_FIELDS } from '../../../coordinator/synthesize/synthetic-world.js';
import {
  requestLayoutOf,
  type FeaturePlace,
  type RankingRequest,
  type RequestLayout,
} from '../../../worker/serving/ranking-request.js';
import type { AuctionStream } from './auction-stream.js';
import type { MarketWorld } from './market-world.js';

type NumberRow = Readonly<Record<string, number>>;

const CONTEXT_COLUMNS = ['user', ...PROFILE_FIELDS.map(({ name }) => name), 'slot', 'hour'];

/** Columns of the user, the place and the hour. */
function contextRow({ world }: MarketWorld, auctions: AuctionStream, auction: number): NumberRow {
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

function adgroupRow({ world: { adgroups } }: MarketWorld, adgroup: number): NumberRow {
  return {
    adgroup,
    advertiser: uint32At(adgroups.advertisers, adgroup),
    campaign: uint32At(adgroups.campaigns, adgroup),
    category: uint32At(adgroups.categories, adgroup),
    brand: uint32At(adgroups.brands, adgroup),
    price: uint32At(adgroups.priceCents, adgroup) / 100,
  };
}

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
  const contextFeatures = manifest.features
    .map(({ name }) => name)
    .filter((name) => CONTEXT_COLUMNS.includes(name));
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
  return { contextFeatures, contexts, adgroups };
}

interface ReusedRequest extends RankingRequest {
  candidateCount: number;
}

/** Requests from rows that were encoded ahead, written into one request that is used again. */
export class EncodedAhead {
  readonly #rows: EncodedMarket;
  readonly #layout: RequestLayout;
  readonly #request: ReusedRequest;

  constructor(spec: ModelSpec, rows: EncodedMarket, candidatesMax: number) {
    this.#rows = rows;
    this.#layout = requestLayoutOf(spec, rows.contextFeatures);
    const { idCounts, numberCounts } = this.#layout;
    this.#request = {
      candidateCount: 0,
      blocks: new Int32Array(candidatesMax),
      contextIds: new Int32Array(idCounts.context),
      candidateIds: new Int32Array(candidatesMax * idCounts.candidate),
      contextNumbers: new Float32Array(numberCounts.context),
      candidateNumbers: new Float32Array(candidatesMax * numberCounts.candidate),
    };
  }

  /** @returns a request that is valid until the next call: adgroup a has block `a + 1`. */
  request(context: number, adgroups: Uint32Array): RankingRequest {
    const request = this.#request;
    request.candidateCount = adgroups.length;
    for (let place = 0; place < adgroups.length; place += 1)
      request.blocks[place] = uint32At(adgroups, place) + 1;
    const { ids, numbers, idCounts, numberCounts } = this.#layout;
    const { contexts, adgroups: ofAdgroups } = this.#rows;
    const fill = (
      features: readonly FeaturePlace[],
      counts: Readonly<Record<FeaturePlace['side'], number>>,
      source: (rows: EncodedRows) => readonly (Int32Array | Float32Array)[],
      target: Readonly<Record<FeaturePlace['side'], Int32Array | Float32Array>>,
    ): void => {
      for (const [feature, { side, firstPlace }] of features.entries()) {
        const values = at(source(side === 'context' ? contexts : ofAdgroups), feature);
        if (side === 'context') target.context[firstPlace] = values[context] ?? NaN;
        else
          for (let place = 0; place < adgroups.length; place += 1)
            target.candidate[place * counts.candidate + firstPlace] =
              values[uint32At(adgroups, place)] ?? NaN;
      }
    };
    fill(ids, idCounts, (rows) => rows.categoryIds, {
      context: request.contextIds,
      candidate: request.candidateIds,
    });
    fill(numbers, numberCounts, (rows) => rows.numbers, {
      context: request.contextNumbers,
      candidate: request.candidateNumbers,
    });
    return request;
  }
}
