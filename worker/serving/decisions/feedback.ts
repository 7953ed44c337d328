/**
 * Feedback on what was shown: impressions and outcomes by the ids of their events. Outcomes are logged for the judging
 * of policies, then everything is counted durably, each event once; only then it is acknowledged, and added to the sums
 * of calibration. Whoever has no acknowledgement sends again.
 */

import type { Clock } from '../../../shared/base/clock.js';
import type { ExplorationConfig } from '../../../shared/config/exploration-config.js';
import type { Outcome } from '../../../shared/exploration/decision-record.js';
import type { FeedbackEvent, Receipt } from '../evidence/evidence-ledger.js';
import type { EvidenceStore } from '../evidence/evidence-store.js';
import { CalibrationCounts } from './calibration-counts.js';
import type { DecisionLog } from './decision-writer.js';
import type { EventIds, ShownSlot } from './event-ids.js';

interface FeedbackParts {
  readonly settings: ExplorationConfig['feedback'];
  readonly evidence: Pick<EvidenceStore, 'record'>;
  readonly log: Pick<DecisionLog, 'append'>;
  readonly ids: EventIds;
  readonly clock: Clock;
}

interface SentFeedback {
  /** As the answer of the ranking named it. */
  readonly event: string;
  /** Null for an impression. */
  readonly reward: number | null;
  /** When it happened; null for now. */
  readonly epochMs: number | null;
}

/**
 * - `unknown`: no server of this state has made the id.
 * - `late` also: the decision is so old that ids of its time are forgotten.
 */
type FeedbackReceipt = Receipt | 'unknown';

const MS_PER_SECOND = 1_000;
/** The error that the clock of a client may have. What is further off is no time in milliseconds. */
const CLOCK_ERROR_MS_MAX = 24 * 3_600 * MS_PER_SECOND;

/** An event whose time cannot be right. */
interface WrongTime {
  /** Among the events that were sent. */
  readonly place: number;
  readonly expected: string;
}

export class FeedbackTaker {
  readonly #parts: FeedbackParts;
  readonly #counts = new Map<FeedbackReceipt, number>();
  /** Predictions and outcomes of the events that this process acknowledged. */
  readonly calibration = new CalibrationCounts();

  constructor(parts: FeedbackParts) {
    this.#parts = parts;
  }

  report(): object {
    return Object.fromEntries(this.#counts);
  }

  /** The first event that happened neither after its decision nor before now, as one whose time is in seconds; null if none is. */
  wrongTime(sent: readonly SentFeedback[]): WrongTime | null {
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
    const named = sent.map((feedback) => ({ feedback, slot: ids.slotOf(feedback.event) }));
    const taken = named.flatMap(({ feedback, slot }) =>
      slot === null || slot.decidedMs < oldestMs ? [] : [{ feedback, slot }],
    );
    await log.append(taken.flatMap(({ feedback, slot }) => outcomeOf(feedback, slot, nowMs)));
    const receipts = await evidence.record(
      taken.map(({ feedback, slot }) => eventOf(feedback, slot, nowMs)),
    );
    for (const [place, { feedback, slot }] of taken.entries())
      if (receipts[place] === 'counted') this.#addToCalibration(feedback, slot);
    const given = receipts.values();
    const answered = named.map(({ slot }): FeedbackReceipt => {
      if (slot === null) return 'unknown';
      return slot.decidedMs < oldestMs ? 'late' : (given.next().value ?? 'full');
    });
    for (const receipt of answered) this.#counts.set(receipt, (this.#counts.get(receipt) ?? 0) + 1);
    return answered;
  }

  #addToCalibration({ reward }: SentFeedback, { choice }: ShownSlot): void {
    if (choice === null) return;
    if (reward === null) this.calibration.addImpression(choice);
    else this.calibration.addOutcome(choice, reward);
  }
}

/** None for an impression. One that is sent again is logged again, and counts once by its slot. */
function outcomeOf(
  { reward, epochMs }: SentFeedback,
  { decision, slot }: ShownSlot,
  nowMs: number,
): Outcome[] {
  return reward === null
    ? []
    : [{ kind: 'outcome', decision, slot, reward, epochMs: epochMs ?? nowMs }];
}

function eventOf(
  { reward, epochMs }: SentFeedback,
  { decision, slot, adgroup, choice, lesson }: ShownSlot,
  nowMs: number,
): FeedbackEvent {
  const event = { id: `${decision}.${slot}`, epochMs: epochMs ?? nowMs };
  if (reward !== null) return { kind: 'reward', reward, ...event };
  return {
    ...{ kind: 'impression', adgroup, ...event },
    ...(lesson === null ? {} : { lesson }),
    ...(choice === null
      ? {}
      : { chosen: { isExploration: choice.isExploration, propensity: choice.propensity } }),
  };
}
