/**
 * The market under one arm: auctions in order of time, in rounds of an hour. At the start of a round,
 * feedback arrives, bids are paced, and sometimes blocks adapt.
 */

import {
  HOURS_PER_DAY,
  LOG_START_SECONDS,
  trafficTimeOfDay,
} from '../../../coordinator/synthesize/synthetic-world.js';
import { at, float64At, uint32At, uint8At } from '../../../shared/base/arrays.js';
import type { RankedCandidate } from '../../../shared/config/decision-record.js';
import { decide } from '../../../worker/serving/exploration/chooser.js';
import { type ArmOutcome, MarketMeasures } from './arm-outcome.js';
import type { AuctionStream } from './auction-stream.js';
import { bestPlace, Budgets, clickPrice, type MarketScene, mayBid, valueOf } from './auction.js';
import type { ShownAdgroup } from './live-adaptation.js';
import { arrivalSecondsOf } from './market-world.js';
import type { Evidence, Explorer, ServedArm } from './served-arms.js';

interface FeedbackTerms {
  readonly clickDelaySeconds: number;
  readonly windowSeconds: number;
  /** Null where nobody asks for it. */
  readonly evidence: Evidence | null;
}

interface Counts {
  readonly impressions: number;
  readonly rewards: number;
}

interface OpenCounts extends Counts {
  readonly openImpressions: number;
}

const NOTHING: Counts = { impressions: 0, rewards: 0 };

/** A click arrives some time after its impression. Evidence that a model has learned from no longer counts. */
class MarketFeedback {
  readonly #auctions: AuctionStream;
  readonly #terms: FeedbackTerms;
  readonly #adgroups: Uint32Array;
  readonly #isClick: Uint8Array;
  /** Auctions that were sold, in order of time. */
  readonly #sold: number[] = [];
  /** Places in the list of sold: what arrived, what was heard to be clicked, and what has settled. */
  #arrivedCount = 0;
  #heardCount = 0;
  #settledCount = 0;
  /** When each sold impression arrived, in seconds since the start of the log. */
  readonly #arrivedSeconds: number[] = [];
  #nowSeconds = 0;
  readonly #rows = new Map<number, ShownAdgroup['rows'][number][]>();
  /** Adgroups with rows that were not learned yet. */
  readonly #changed = new Set<number>();
  readonly #learned = new Map<number, Counts>();

  constructor(auctions: AuctionStream, terms: FeedbackTerms) {
    this.#auctions = auctions;
    this.#terms = terms;
    this.#adgroups = new Uint32Array(auctions.count);
    this.#isClick = new Uint8Array(auctions.count);
  }

  shown(auction: number, adgroup: number, isClick: boolean): void {
    this.#sold.push(auction);
    this.#adgroups[auction] = adgroup;
    this.#isClick[auction] = isClick ? 1 : 0;
  }

  /** Takes what has happened before a time: impressions first, then the clicks that are reported by now. */
  arrive(nowSeconds: number): void {
    this.#nowSeconds = nowSeconds;
    const events: Parameters<Evidence['take']>[0][number][] = [];
    for (; this.#arrivedCount < this.#sold.length; this.#arrivedCount += 1) {
      const auction = at(this.#sold, this.#arrivedCount);
      this.#arrivedSeconds.push(nowSeconds);
      const adgroup = String(uint32At(this.#adgroups, auction));
      events.push({
        ...{ kind: 'impression', id: String(auction), adgroup, epochMs: this.#epochMs(auction) },
        // Nobody asks how it came to be shown.
        ...{ isExploration: false, propensity: 1 },
      });
    }
    const { clickDelaySeconds, evidence } = this.#terms;
    for (; this.#heardCount < this.#arrivedCount; this.#heardCount += 1) {
      const auction = at(this.#sold, this.#heardCount);
      if (float64At(this.#auctions.seconds, auction) + clickDelaySeconds > nowSeconds) break;
      if (uint8At(this.#isClick, auction) === 0) continue;
      const epochMs = this.#epochMs(auction) + clickDelaySeconds * 1000;
      events.push({ kind: 'reward', id: String(auction), reward: 1, epochMs });
    }
    evidence?.take(events, (LOG_START_SECONDS + nowSeconds) * 1000);
  }

  /** Evidence since the model learned last. */
  evidenceOf(adgroup: number): OpenCounts {
    const found = this.#terms.evidence?.evidenceOf(String(adgroup));
    const { impressions, rewards, open } = found ?? { ...NOTHING, open: 0 };
    const learned = this.#learned.get(adgroup) ?? NOTHING;
    return {
      impressions: impressions - learned.impressions,
      rewards: rewards - learned.rewards,
      openImpressions: open,
    };
  }

  /** Impressions of the market that the model has learned from. */
  learnedImpressionsOf(adgroup: number): number {
    return this.#learned.get(adgroup)?.impressions ?? 0;
  }

  /** The adgroups with rows that have settled since the last call, each with all of its settled rows. */
  rowsToLearn(): ShownAdgroup[] {
    for (; this.#settledCount < this.#arrivedCount; this.#settledCount += 1) {
      const arrived = at(this.#arrivedSeconds, this.#settledCount);
      if (arrived + this.#terms.windowSeconds >= this.#nowSeconds) break;
      const auction = at(this.#sold, this.#settledCount);
      const adgroup = uint32At(this.#adgroups, auction);
      const row = { auction, isClick: uint8At(this.#isClick, auction) === 1 };
      const rows = this.#rows.get(adgroup);
      if (rows === undefined) this.#rows.set(adgroup, [row]);
      else rows.push(row);
      this.#changed.add(adgroup);
    }
    const adgroups = [...this.#changed].sort((a, b) => a - b);
    this.#changed.clear();
    return adgroups.map((adgroup) => ({ adgroup, rows: this.#rows.get(adgroup) ?? [] }));
  }

  /** The settled rows of these adgroups are in the model, and count no more as evidence. */
  learned(adgroups: readonly number[]): void {
    for (const adgroup of adgroups) {
      const rows = this.#rows.get(adgroup) ?? [];
      const rewards = rows.reduce((sum, { isClick }) => sum + (isClick ? 1 : 0), 0);
      this.#learned.set(adgroup, { impressions: rows.length, rewards });
    }
  }

  #epochMs(auction: number): number {
    return (LOG_START_SECONDS + float64At(this.#auctions.seconds, auction)) * 1000;
  }
}

export async function simulateArm(
  scene: MarketScene,
  served: ServedArm,
  signal: AbortSignal,
): Promise<ArmOutcome> {
  const { auctions } = scene;
  const running = new RunningMarket(scene, served);
  let hour = -1;
  for (let auction = 0; auction < auctions.count; auction += 1) {
    const found = uint32At(auctions.hours, auction);
    if (found !== hour) {
      signal.throwIfAborted();
      await running.beginRound(found, hour);
      hour = found;
    }
    running.hold(auction);
  }
  return running.measures.outcome();
}

/** The place of the winner of an auction, and whether it won by exploration. */
interface Winner {
  readonly place: number;
  readonly isExploration: boolean;
}

class RunningMarket {
  readonly #scene: MarketScene;
  readonly #served: ServedArm;
  readonly #budgets: Budgets;
  readonly measures: MarketMeasures;
  readonly #feedback: MarketFeedback;
  readonly #bidding: { count: number; bids: Float64Array; probabilities: Float64Array };
  readonly #arrivals: Float64Array;
  #shownCount = 0;

  constructor(scene: MarketScene, served: ServedArm) {
    const { settings, market, auctions, budgets } = scene;
    this.#scene = scene;
    this.#served = served;
    this.#budgets = new Budgets(budgets, settings.pacing);
    this.measures = new MarketMeasures(scene);
    this.#feedback = new MarketFeedback(auctions, {
      clickDelaySeconds: settings.clickDelaySeconds,
      windowSeconds: settings.exploration.feedback.windowSeconds,
      evidence: served.explorer?.evidence ?? null,
    });
    const width = auctions.candidatesMax;
    this.#bidding = {
      count: 0,
      bids: new Float64Array(width),
      probabilities: new Float64Array(width),
    };
    this.#arrivals = Float64Array.from({ length: market.adgroupCount }, (_, adgroup) =>
      arrivalSecondsOf(market, adgroup),
    );
  }

  /** @param earlier the hour of the round before; -1 if there was none */
  async beginRound(hour: number, earlier: number): Promise<void> {
    const { settings } = this.#scene;
    this.#feedback.arrive(hour * 3600);
    const day = Math.floor(hour / HOURS_PER_DAY);
    if (earlier >= 0) {
      if (Math.floor(earlier / HOURS_PER_DAY) !== day) this.#budgets.beginDay();
      else this.#budgets.pace(trafficShareOf(hour));
    }
    const { everyHours } = settings.refresh;
    const { refresh } = this.#served;
    if (refresh === null || everyHours === 0 || earlier < 0) return;
    const begun = (of: number): number =>
      Math.floor((of - settings.firstDay * HOURS_PER_DAY) / everyHours);
    if (begun(hour) === begun(earlier)) return;
    this.#feedback.learned(await refresh(this.#feedback.rowsToLearn()));
  }

  hold(auction: number): void {
    const { auctions, market, settings } = this.#scene;
    const first = auction * auctions.candidatesMax;
    const bidding = this.#bidding;
    bidding.count = uint32At(auctions.candidateCounts, auction);
    let [best, bestValue] = [-1, 0];
    for (let place = 0; place < bidding.count; place += 1) {
      const adgroup = uint32At(auctions.candidates, first + place);
      const advertiser = uint32At(market.advertiserOf, adgroup);
      const bid = this.#budgets.bidOf(advertiser, float64At(market.bids, adgroup));
      bidding.bids[place] = bid;
      const value = bid * float64At(auctions.truth, first + place);
      if (value > bestValue) [best, bestValue] = [place, value];
    }
    this.#served.estimate(auction, bidding.probabilities);
    if (best < 0) return;
    const winner = this.#winner(auction);
    if (winner === null) this.measures.unsold(bestValue);
    else
      this.#sell(auction, winner, {
        bestValue,
        price: clickPrice(bidding, winner.place, settings),
      });
  }

  #sell(
    auction: number,
    { place, isExploration }: Winner,
    { bestValue, price }: { readonly bestValue: number; readonly price: number },
  ): void {
    const { auctions, market } = this.#scene;
    const first = auction * auctions.candidatesMax;
    const adgroup = uint32At(auctions.candidates, first + place);
    const advertiser = uint32At(market.advertiserOf, adgroup);
    const truth = float64At(auctions.truth, first + place);
    const isClick = float64At(auctions.clickDraws, auction) < truth;
    if (isClick) this.#budgets.charge(advertiser, price);
    this.#shownCount += 1;
    this.#feedback.shown(auction, adgroup, isClick);
    this.measures.sold({
      ...{ adgroup, isClick, truth, isExploration, bestValue },
      seconds: float64At(auctions.seconds, auction),
      price: isClick ? price : 0,
      probability: float64At(this.#bidding.probabilities, place),
      value: float64At(this.#bidding.bids, place) * truth,
    });
  }

  #winner(auction: number): Winner | null {
    const { auctions, settings } = this.#scene;
    const tie = float64At(auctions.tieDraws, auction);
    const best = bestPlace(this.#bidding, settings, tie);
    if (best < 0) return null;
    const chosen = this.#explored(auction, best);
    return { place: chosen, isExploration: chosen !== best };
  }

  /**
   * The place that the chooser fills, which sees the best candidate and those that are young enough to be explored.
   * Others cannot be shown, so that they do not matter to the decision.
   */
  #explored(auction: number, best: number): number {
    const { explorer, bundle } = this.#served;
    if (explorer === null) return best;
    const { auctions, settings, market } = this.#scene;
    const { ageSeconds: ageMax = Infinity } = explorer.settings.cutOff;
    const seconds = float64At(auctions.seconds, auction);
    const places: number[] = [];
    for (let place = 0; place < this.#bidding.count; place += 1) {
      if (!mayBid(this.#bidding, place, settings)) continue;
      const age = this.#ageOf(auction, place);
      if (place === best || age < ageMax) places.push(place);
    }
    if (places.length === 1) return best;
    const candidates = places.map((place) => this.#candidate(auction, place, explorer));
    const [slot] = decide({
      ...{ id: `auction-${auction}`, seed: market.seed, bundle, slots: 1 },
      ...{ rounds: this.#shownCount, candidates, settings: explorer.settings },
      epochMs: (LOG_START_SECONDS + seconds) * 1000,
    }).decided;
    const chosen = candidates.findIndex(({ adgroup }) => adgroup === slot?.adgroup);
    // Of equal values, the chooser would draw another best one.
    if (valueOf(this.#bidding, at(places, chosen)) === valueOf(this.#bidding, best)) return best;
    return at(places, chosen);
  }

  #candidate(auction: number, place: number, explorer: Explorer): RankedCandidate {
    const { auctions, market, classes } = this.#scene;
    const adgroup = uint32At(auctions.candidates, auction * auctions.candidatesMax + place);
    return {
      adgroup: String(adgroup),
      value: float64At(this.#bidding.bids, place),
      probability: float64At(this.#bidding.probabilities, place),
      ...this.#feedback.evidenceOf(adgroup),
      learnedImpressions:
        explorer.loggedImpressionsOf(adgroup) + this.#feedback.learnedImpressionsOf(adgroup),
      modelImpressions: null,
      ageSeconds: this.#ageOf(auction, place),
      advertiserClass: at(classes, uint32At(market.advertiserOf, adgroup)),
    };
  }

  #ageOf(auction: number, place: number): number {
    const { auctions } = this.#scene;
    const adgroup = uint32At(auctions.candidates, auction * auctions.candidatesMax + place);
    return Math.max(0, float64At(auctions.seconds, auction) - float64At(this.#arrivals, adgroup));
  }
}

/** The share of a day's traffic that has passed when an hour begins. */
function trafficShareOf(hour: number): number {
  const day = Math.floor(hour / HOURS_PER_DAY);
  const [start, end] = [trafficTimeOfDay(day), trafficTimeOfDay(day + 1)];
  return (trafficTimeOfDay(hour / HOURS_PER_DAY) - start) / (end - start);
}
