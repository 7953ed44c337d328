/**
 * The feedback of an arm: a click arrives some time after its impression, no click when the window ends.
 * Evidence that a model has learned from no longer counts.
 */

import { at, float64At, uint32At, uint8At } from '../../../shared/base/arrays.js';
import { LOG_START_SECONDS } from '../../../coordinator/synthesize/synthetic-world.js';
import type { AuctionStream } from './auction-stream.js';
import type { ShownAdgroup } from './live-adaptation.js';
import type { Evidence } from './served-arms.js';

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

export class MarketFeedback {
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
