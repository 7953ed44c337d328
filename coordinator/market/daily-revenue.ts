/** What a day of the market is worth by truth, from which budgets are made. */

import { float64At, uint32At } from '../../shared/base/arrays.js';
import type { MarketConfig } from '../../shared/config/market-config.js';
import { bestPlace, clickPrice } from './auction.js';
import type { AuctionStream } from './world/auction-stream.js';
import type { MarketWorld } from './world/market-world.js';

/** The expected revenue of a day if every auction went to the truly best candidate and no budget ended. */
export function bestDailyRevenue(
  { bids }: Pick<MarketWorld, 'bids'>,
  auctions: AuctionStream,
  { auction: terms, days }: Pick<MarketConfig, 'auction' | 'days'>,
): number {
  const { candidatesMax, candidates, candidateCounts, truth, count } = auctions;
  const bidding = {
    count: 0,
    bids: new Float64Array(candidatesMax),
    probabilities: new Float64Array(candidatesMax),
  };
  let revenue = 0;
  for (let auction = 0; auction < count; auction += 1) {
    const first = auction * candidatesMax;
    bidding.count = uint32At(candidateCounts, auction);
    for (let place = 0; place < bidding.count; place += 1) {
      bidding.bids[place] = float64At(bids, uint32At(candidates, first + place));
      bidding.probabilities[place] = float64At(truth, first + place);
    }
    const winner = bestPlace(bidding, terms, float64At(auctions.tieDraws, auction));
    if (winner < 0) continue;
    revenue += clickPrice(bidding, winner, terms) * float64At(bidding.probabilities, winner);
  }
  return revenue / days;
}
