/** One auction of one place: who wins on value, and what a click costs the winner. */

import { float64At } from '../../shared/base/arrays.js';

export interface AuctionTerms {
  readonly price: 'first' | 'second';
  /** The least value of an impression. */
  readonly reserve: number;
}

/** The candidates of an auction; the first `count` entries of each array are valid. */
export interface Bidding {
  readonly count: number;
  /** What a click is worth to each candidate now; 0 for one that has no budget left. */
  readonly bids: Float64Array;
  /** Probability of a click, as the arm estimates it. */
  readonly probabilities: Float64Array;
}

/** The value of an impression: what the place is expected to earn at most. */
export function valueOf({ bids, probabilities }: Bidding, place: number): number {
  return float64At(bids, place) * float64At(probabilities, place);
}

export function mayBid(bidding: Bidding, place: number, { reserve }: AuctionTerms): boolean {
  const value = valueOf(bidding, place);
  return value > 0 && value >= reserve;
}

/**
 * The place of the largest value that reaches the reserve. Equal values are drawn from: `tie`, uniform
 * in [0, 1), chooses among them.
 *
 * @returns -1 if no candidate may bid.
 */
export function bestPlace(bidding: Bidding, terms: AuctionTerms, tie: number): number {
  let [best, largest, tieCount] = [-1, 0, 0];
  for (let place = 0; place < bidding.count; place += 1) {
    const value = valueOf(bidding, place);
    if (!mayBid(bidding, place, terms) || value < largest) continue;
    tieCount = value === largest ? tieCount + 1 : 1;
    [best, largest] = [place, value];
  }
  if (tieCount < 2) return best;
  let left = Math.floor(tie * tieCount);
  for (let place = 0; place < bidding.count; place += 1)
    if (valueOf(bidding, place) === largest && left-- === 0) return place;
  return best;
}

/**
 * What a click costs the winner, whoever it is: its bid in a first-price auction; in a second-price
 * auction the least bid that would have kept it above the candidates below it,
 *
 *   max(reserve, the largest value that does not exceed the winner's) / probability of the winner
 *
 * (the rule of the generalised second price, Edelman, Ostrovsky and Schwarz 2007). A winner by exploration
 * has candidates above it, which do not count. The price never exceeds the bid.
 */
export function clickPrice(bidding: Bidding, winner: number, terms: AuctionTerms): number {
  const bid = float64At(bidding.bids, winner);
  if (terms.price === 'first') return bid;
  const own = valueOf(bidding, winner);
  let below = terms.reserve;
  for (let place = 0; place < bidding.count; place += 1) {
    const value = valueOf(bidding, place);
    if (place !== winner && value <= own) below = Math.max(below, value);
  }
  return Math.min(bid, below / float64At(bidding.probabilities, winner));
}
