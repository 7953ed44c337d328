/**
 * Feedback on what was shown: impressions and outcomes by the ids of their events. They are logged for the rows that they
 * belong to, then counted durably, each event once; only then they are acknowledged, and added to the sums of calibration. A
 * client without an acknowledgement sends again.
 */

import { shortDigest } from '../../../shared/names/counted.js';
import type { Clock } from '../../../shared/base/clock.js';
import type { ExplorationConfig } from '../../../shared/config/exploration-config.js';
import { feedbackLine } from '../../../shared/config/row-record.js';
import type { EventIds, ShownChoice, ShownSlot } from './event-ids.js';
import {
  eventsLine,
  type EvidenceLog,
  type FeedbackEvent,
  type Receipt,
} from './evidence-ledger.js';
import type { RowLog } from './row-log.js';

/** Events of one request. */
export const FEEDBACK_EVENTS_MAX = 1_000;

interface FeedbackParts {
  readonly settings: ExplorationConfig['feedback'];
  readonly evidence: Pick<EvidenceLog, 'append'>;
  readonly log: Pick<RowLog, 'append'>;
  readonly ids: EventIds;
  readonly clock: Clock;
}

interface SentFeedback {
  /** The id that the answer of the ranking gave it. */
  readonly event: string;
  /** Null for an impression. */
  readonly reward: number | null;
  /** What an outcome was worth; null where nothing is said of it. */
  readonly value: number | null;
  /** When it happened; null for now. */
  readonly epochMs: number | null;
}

/**
 * - `unknown`: no server of this state has made the id.
 * - `late` also: the decision is so old that ids of its time are forgotten.
 */
type FeedbackReceipt = Receipt | 'unknown';

/** Sums over the impressions of one bundle and segment that feedback reports, each counted by the process that acknowledged it. */
export interface CalibrationSums {
  /** The first digits of its digest. */
  readonly bundle: string;
  /** `all` where tasks have no segments. */
  readonly segment: string;
  impressions: number;
  /** Sum of the probabilities p of these impressions. */
  predicted: number;
  /** Sum of p (1 - p): the variance of the outcomes if they are independent and the probabilities right. */
  variance: number;
  /** Sum of the rewards that were reported. */
  observed: number;
}

/** Bundles that are counted, the last that had feedback. */
const BUNDLES_MAX = 16;
const NO_SEGMENTS = 'all';
const MS_PER_SECOND = 1_000;
/** The error that the clock of a client may have. What is further off is no time in milliseconds. */
const CLOCK_ERROR_MS_MAX = 24 * 3_600 * MS_PER_SECOND;

/** The segment as metrics name it. */
export function segmentLabel(segment: string | null): string {
  return segment ?? NO_SEGMENTS;
}

export class FeedbackTaker {
  readonly #parts: FeedbackParts;
  readonly #counts = new Map<FeedbackReceipt, number>();
  /** Sums of each segment, by bundle. */
  readonly #sums = new Map<string, Map<string, CalibrationSums>>();

  constructor(parts: FeedbackParts) {
    this.#parts = parts;
  }

  report(): object {
    return Object.fromEntries(this.#counts);
  }

  calibration(): readonly CalibrationSums[] {
    return [...this.#sums.values()].flatMap((bySegment) => [...bySegment.values()]);
  }

  /** The first event that happened neither after its decision nor before now, as one whose time is in seconds; null if none is. */
  wrongTime(
    sent: readonly SentFeedback[],
  ): { readonly place: number; readonly expected: string } | null {
    const nowMs = this.#parts.clock.epochMs();
    for (const [place, { event, epochMs }] of sent.entries()) {
      if (epochMs === null) continue;
      const decidedMs = this.#parts.ids.slotOf(event)?.decidedMs ?? epochMs;
      const isRight =
        epochMs >= decidedMs - CLOCK_ERROR_MS_MAX && epochMs <= nowMs + CLOCK_ERROR_MS_MAX;
      if (isRight) continue;
      const expected = `milliseconds since the epoch, from ${decidedMs}, when the place was decided, to now`;
      return { place, expected };
    }
    return null;
  }

  /** @throws QianmoError if the events are not known to be durable. */
  async take(sent: readonly SentFeedback[]): Promise<readonly FeedbackReceipt[]> {
    const { clock, settings, ids, evidence, log } = this.#parts;
    const nowMs = clock.epochMs();
    const oldestMs = nowMs - settings.eventLifetimeSeconds * MS_PER_SECOND;
    const named = sent.map(({ event, epochMs, ...outcome }) => {
      const slot = ids.slotOf(event);
      const isTaken = slot !== null && slot.decidedMs >= oldestMs;
      return { slot, taken: isTaken ? { slot, ...outcome, epochMs: epochMs ?? nowMs } : null };
    });
    const taken = named.flatMap(({ taken }) => taken ?? []);
    let receipts: readonly Receipt[] = [];
    if (taken.length > 0) {
      // An event that is sent again is logged again; readers take the first.
      await log.append(
        feedbackLine(
          taken.map(({ slot: { decision, slot }, ...event }) => ({ decision, slot, ...event })),
        ),
      );
      receipts = await evidence.append(eventsLine(taken.map(eventOf)));
    }
    for (const [place, each] of taken.entries())
      if (receipts[place] === 'counted') this.#addToCalibration(each);
    const given = receipts.values();
    const answered = named.map(({ slot, taken }): FeedbackReceipt => {
      if (slot === null) return 'unknown';
      return taken === null ? 'late' : (given.next().value ?? 'full');
    });
    for (const receipt of answered) this.#counts.set(receipt, (this.#counts.get(receipt) ?? 0) + 1);
    return answered;
  }

  #addToCalibration({ reward, slot: { choice } }: TakenFeedback): void {
    // A predicted value is no probability.
    if (Number.isNaN(choice.probability)) return;
    const sums = this.#sumsOf(choice);
    if (reward !== null) sums.observed += reward;
    else {
      const { probability } = choice;
      sums.impressions += 1;
      sums.predicted += probability;
      sums.variance += probability * (1 - probability);
    }
  }

  #sumsOf(choice: ShownChoice): CalibrationSums {
    const bundle = shortDigest(choice.bundle);
    const known = this.#sums.get(bundle) ?? new Map<string, CalibrationSums>();
    this.#sums.delete(bundle);
    const [oldest] = this.#sums.keys();
    if (oldest !== undefined && this.#sums.size >= BUNDLES_MAX) this.#sums.delete(oldest);
    this.#sums.set(bundle, known);
    const segment = segmentLabel(choice.segment);
    const none = { impressions: 0, predicted: 0, variance: 0, observed: 0 };
    const sums = known.get(segment) ?? { bundle, segment, ...none };
    known.set(segment, sums);
    return sums;
  }
}

interface TakenFeedback {
  readonly slot: ShownSlot;
  readonly reward: number | null;
  readonly value: number | null;
  readonly epochMs: number;
}

function eventOf({ slot: shown, reward, epochMs }: TakenFeedback): FeedbackEvent {
  const { decision, slot, adgroup, choice } = shown;
  const id = `${decision}.${slot}`;
  if (reward !== null) return { kind: 'reward', id, reward, epochMs };
  const { isExploration, propensity } = choice;
  return { kind: 'impression', id, adgroup, epochMs, isExploration, propensity };
}
