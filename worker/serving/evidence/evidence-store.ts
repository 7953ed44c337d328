/** The evidence of adgroups as a ranking server keeps it: in a log on one machine, in Redis on several. */

import type { Evidence, FeedbackEvent, Receipt, Served } from './evidence-ledger.js';
import type { LearnedNumbers } from './learned-weights.js';

/** Events of one call to `record`. */
export const RECORDED_EVENTS_MAX = 1_000;
/** Events that wait for a write; more are refused. */
export const WAITING_EVENTS_MAX = 100_000;

export interface EvidenceStore {
  /**
   * Resolves when the events are durable, with what became of each.
   *
   * @param events at most `RECORDED_EVENTS_MAX`.
   * @throws QianmoError if they are not known to be durable. They may be recorded again: each counts once.
   */
  record(events: readonly FeedbackEvent[]): Promise<readonly Receipt[]>;
  /** The evidence of each adgroup, in their order. */
  evidenceOf(adgroups: readonly string[]): Promise<readonly Evidence[]>;
  /** Counts of one adgroup, and of all of them since the evidence began. For people: ranking does not ask. */
  servedOf(adgroup: string): Promise<{ readonly own: Served; readonly all: Served }>;
  /** What settled impressions have taught the weights of a contextual policy. */
  learned(): Promise<LearnedNumbers>;
  counts(): Promise<EvidenceCounts>;
  /** The key that all servers of this evidence sign with: the first one that any of them gave. */
  signingKey(fresh: string): Promise<string>;
  close(): Promise<void>;
}

export interface EvidenceCounts {
  readonly lateCount: number;
  readonly duplicateCount: number;
}
