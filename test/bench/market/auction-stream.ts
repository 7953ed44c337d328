/**
 * The auctions of a market, drawn once for every arm: users, places, candidates, the truth, and the
 * numbers that decide clicks. Differences between arms come from the arms.
 */

import { float64At, numberAt, uint32At, uint8At } from '../../../shared/base/arrays.js';
import { randomStream, type RandomStream } from '../../../shared/base/random.js';
import {
  hourAt,
  HOURS_PER_DAY,
  secondsAt,
  trafficTimeOfDay,
  WORLD_PARAMETERS,
} from '../../../coordinator/synthesize/synthetic-world.js';
import type { MarketSettings } from './market-settings.js';
import { trueProbability, type MarketWorld } from './market-world.js';

export interface AuctionStream {
  readonly count: number;
  readonly candidatesMax: number;
  /** `[count]` each; hours and seconds since the start of the log. */
  readonly users: Uint32Array;
  readonly slots: Uint8Array;
  readonly hours: Uint32Array;
  readonly seconds: Float64Array;
  /** Uniform in [0, 1): the impression is clicked if it is below the true probability of the shown adgroup. */
  readonly clickDraws: Float64Array;
  /** Uniform in [0, 1): chooses among candidates of equal value. */
  readonly tieDraws: Float64Array;
  readonly candidateCounts: Uint32Array;
  /** `[count, candidatesMax]`: adgroups, and their true probabilities. */
  readonly candidates: Uint32Array;
  readonly truth: Float64Array;
}

/** Draws that repeat a candidate are drawn again, so many times for each place at most. */
const REDRAWS_PER_CANDIDATE = 20;

export function drawAuctions(
  market: MarketWorld,
  { auctionsPerDay, candidates, days, firstDay }: MarketSettings,
): AuctionStream {
  const count = auctionsPerDay * days;
  const candidatesMax = candidates;
  const stream: AuctionStream = {
    ...{ count, candidatesMax },
    users: new Uint32Array(count),
    slots: new Uint8Array(count),
    hours: new Uint32Array(count),
    seconds: new Float64Array(count),
    clickDraws: new Float64Array(count),
    tieDraws: new Float64Array(count),
    candidateCounts: new Uint32Array(count),
    candidates: new Uint32Array(count * candidatesMax),
    truth: new Float64Array(count * candidatesMax),
  };
  const random = randomStream(market.seed, 'market', 'auctions');
  const matching = new Matching(market);
  let hour = firstDay * HOURS_PER_DAY;
  for (let auction = 0; auction < count; auction += 1) {
    const trafficTime =
      market.from + ((auction + random.uniform()) / count) * (market.until - market.from);
    const found = hourAt(trafficTime, hour);
    if (found !== hour || auction === 0) matching.open(trafficTimeOfDay(found / HOURS_PER_DAY));
    hour = found;
    stream.hours[auction] = hour;
    stream.seconds[auction] = secondsAt(trafficTime, hour);
    // As in the log, impressions per user fall with the square root of the user's rank.
    stream.users[auction] = Math.floor(random.uniform() ** 2 * market.world.users.count);
    stream.slots[auction] = drawSlot(random);
    stream.clickDraws[auction] = random.uniform();
    stream.tieDraws[auction] = random.uniform();
    const first = auction * candidatesMax;
    const drawn = stream.candidates.subarray(first, first + candidatesMax);
    stream.candidateCounts[auction] = matching.draw(drawn, random);
    fillTruth(market, stream, auction);
  }
  return stream;
}

function drawSlot(random: RandomStream): number {
  const { slotWeights } = WORLD_PARAMETERS;
  let left = random.uniform();
  for (const [slot, weight] of slotWeights.entries()) {
    left -= weight;
    if (left < 0) return slot;
  }
  return slotWeights.length - 1;
}

function fillTruth(market: MarketWorld, stream: AuctionStream, auction: number): void {
  const first = auction * stream.candidatesMax;
  const [user, hour] = [uint32At(stream.users, auction), uint32At(stream.hours, auction)];
  const slot = uint8At(stream.slots, auction);
  for (let place = 0; place < uint32At(stream.candidateCounts, auction); place += 1) {
    const adgroup = uint32At(stream.candidates, first + place);
    stream.truth[first + place] = trueProbability(market, { adgroup, user, hour, slot });
  }
}

/** The adgroups that are there in an hour, drawn by weight without replacement. */
class Matching {
  readonly #market: MarketWorld;
  #alive: number[] = [];
  #cumulative: number[] = [];
  readonly #isDrawn: Uint8Array;

  constructor(market: MarketWorld) {
    this.#market = market;
    this.#isDrawn = new Uint8Array(market.adgroupCount);
  }

  /** Takes the adgroups that have started by then. */
  open(trafficTime: number): void {
    const { starts, weights, adgroupCount } = this.#market;
    this.#alive = [];
    this.#cumulative = [];
    let sum = 0;
    for (let adgroup = 0; adgroup < adgroupCount; adgroup += 1) {
      if (float64At(starts, adgroup) > trafficTime) continue;
      sum += float64At(weights, adgroup);
      this.#alive.push(adgroup);
      this.#cumulative.push(sum);
    }
  }

  /** @returns how many were drawn: fewer than wanted if fewer are there, or draws repeat too often. */
  draw(into: Uint32Array, random: RandomStream): number {
    const wanted = Math.min(into.length, this.#alive.length);
    let count = 0;
    for (let left = wanted * REDRAWS_PER_CANDIDATE; count < wanted && left > 0; left -= 1) {
      const adgroup = numberAt(this.#alive, this.#drawPlace(random));
      if (uint8At(this.#isDrawn, adgroup) === 1) continue;
      this.#isDrawn[adgroup] = 1;
      into[count] = adgroup;
      count += 1;
    }
    for (let place = 0; place < count; place += 1) this.#isDrawn[uint32At(into, place)] = 0;
    return count;
  }

  #drawPlace(random: RandomStream): number {
    const cumulative = this.#cumulative;
    const drawn = random.uniform() * numberAt(cumulative, cumulative.length - 1);
    let [low, high] = [0, cumulative.length - 1];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (numberAt(cumulative, middle) > drawn) high = middle;
      else low = middle + 1;
    }
    return low;
  }
}
