/**
 * The evidence of adgroups from impressions and their rewards, each counted once by the id of its event. Pure: batches
 * and the times of their arrival decide the state, so that a log of batches restores it exactly, in every process.
 *
 * An impression is open until its reward arrives or its window ends; then it counts. An open impression is no evidence: it
 * would count as one without a click. Slots that explored and wait for their impression are counted by their own process only.
 */

import { z } from 'zod';
import type { ExplorationConfig } from '../../../shared/config/exploration-config.js';
import type { LogState, SharedLog } from '../state/shared-log.js';

interface ArrivedEntry<Value> {
  readonly key: string;
  readonly value: Value;
}

interface Node<Value> extends ArrivedEntry<Value> {
  before: Node<Value> | null;
  after: Node<Value> | null;
}

class ArrivalOrder<Value> {
  readonly #nodes = new Map<string, Node<Value>>();
  #first: Node<Value> | null = null;
  #last: Node<Value> | null = null;

  get size(): number {
    return this.#nodes.size;
  }

  get(key: string): Value | undefined {
    return this.#nodes.get(key)?.value;
  }

  /** The entry that was put before all others; null without any. */
  first(): ArrivedEntry<Value> | null {
    return this.#first;
  }

  /** Puts the entry behind all others. */
  put(key: string, value: Value): void {
    this.delete(key);
    const node = { key, value, before: this.#last, after: null };
    this.#nodes.set(key, node);
    if (this.#last === null) this.#first = node;
    else this.#last.after = node;
    this.#last = node;
  }

  delete(key: string): void {
    const node = this.#nodes.get(key);
    if (node === undefined) return;
    this.#nodes.delete(key);
    if (node.before === null) this.#first = node.after;
    else node.before.after = node.after;
    if (node.after === null) this.#last = node.before;
    else node.after.before = node.before;
  }

  *[Symbol.iterator](): Iterator<readonly [string, Value]> {
    for (let node = this.#first; node !== null; node = node.after) yield [node.key, node.value];
  }
}

const name = z.string().min(1).max(200);
const epochMs = z.number().nonnegative();

const FeedbackEventSchema = z.discriminatedUnion('kind', [
  z.strictObject({
    ...{ kind: z.literal('impression'), id: name, adgroup: name, epochMs },
    /** The choice by which it came to be shown. */
    isExploration: z.boolean(),
    propensity: z.number().min(0).max(1),
  }),
  z.strictObject({
    kind: z.literal('reward'),
    id: name,
    reward: z.number().min(0).max(1),
    epochMs,
  }),
]);
export type FeedbackEvent = z.infer<typeof FeedbackEventSchema>;

/**
 * - `counted`: it counts, now or when its window ends. A reward may arrive before its impression.
 * - `duplicate`: an event of this kind and id was counted before.
 * - `late`: the reward came after its window; it is counted as late, and is no evidence.
 * - `full`: there is no room for the event; it was not taken.
 */
export type Receipt = 'counted' | 'duplicate' | 'late' | 'full';

export interface Evidence {
  readonly impressions: number;
  readonly rewards: number;
  /** Impressions whose window has not ended. */
  readonly open: number;
  /** The first impression; null if there was none. */
  readonly firstMs: number | null;
}

type FeedbackSettings = ExplorationConfig['feedback'];

/** An explored slot of which no impression was reported. */
interface AwaitedSlot {
  readonly adgroup: string;
  readonly decidedMs: number;
}

/** Impressions by how they came to be shown, settled or not. */
const ServedSchema = z.strictObject({
  impressions: z.number(),
  /** Impressions that exploration gave. */
  explored: z.number(),
  /** Sum of the probabilities with which the slots showed what they showed. */
  propensities: z.number(),
});
type Served = Readonly<z.infer<typeof ServedSchema>>;

const OpenEventSchema = z.strictObject({
  adgroup: name.nullable(),
  reward: z.number().nullable(),
  /** The time of the impression, or of the reward while there is no impression. */
  shownMs: epochMs,
  /** The time of arrival here, by which windows and lifetimes end. */
  arrivedMs: epochMs,
  isSettled: z.boolean(),
});
type OpenEvent = z.infer<typeof OpenEventSchema>;

const AdgroupEvidenceSchema = z.strictObject({
  impressions: z.number(),
  rewards: z.number(),
  open: z.number(),
  firstMs: epochMs,
  lastMs: epochMs,
  served: ServedSchema,
});
type AdgroupEvidence = z.infer<typeof AdgroupEvidenceSchema>;

const MS_PER_SECOND = 1000;
const NOTHING_SERVED: Served = { impressions: 0, explored: 0, propensities: 0 };
const NO_EVIDENCE: Evidence = { impressions: 0, rewards: 0, open: 0, firstMs: null };

const SnapshotSchema = z.strictObject({
  events: z.array(z.tuple([name, OpenEventSchema])),
  adgroups: z.array(z.tuple([name, AdgroupEvidenceSchema])),
  served: ServedSchema,
  lateCount: z.number(),
  duplicateCount: z.number(),
});

/** A line of the log. */
const LineSchema = z.discriminatedUnion('kind', [
  z.strictObject({ kind: z.literal('events'), events: z.array(FeedbackEventSchema) }),
  /** The first one is the key that all servers sign event ids with. */
  z.strictObject({ kind: z.literal('key'), key: z.string() }),
  z.strictObject({ kind: z.literal('snapshot'), ledger: SnapshotSchema }),
]);

export function eventsLine(events: readonly FeedbackEvent[]): string {
  return JSON.stringify({ kind: 'events', events });
}

export function keyLine(key: string): string {
  return JSON.stringify({ kind: 'key', key });
}

/** Events or adgroups of one line of a snapshot: a few milliseconds of work. */
const SNAPSHOT_ENTRIES_MAX = 1_000;

export class EvidenceLedger implements LogState<Receipt[]> {
  // In order of arrival or of last use: those that end next are first.
  readonly #events = new ArrivalOrder<OpenEvent>();
  readonly #open = new ArrivalOrder<OpenEvent>();
  readonly #adgroups = new ArrivalOrder<AdgroupEvidence>();
  /** Of this process; neither the log nor a snapshot has them. */
  readonly #awaited = new ArrivalOrder<AwaitedSlot>();
  readonly #awaitedCounts = new Map<string, number>();
  readonly #settings: FeedbackSettings;
  /** Never goes back, whatever the clock does. */
  #nowMs = 0;
  #served = NOTHING_SERVED;
  /** While a snapshot is made. */
  #isStill = false;
  /** Signs event ids; empty until one is in the log. */
  signingKey = '';
  lateCount = 0;
  duplicateCount = 0;

  constructor(settings: FeedbackSettings) {
    this.#settings = settings;
  }

  /** @throws ZodError for text that is no line of the log. */
  apply(text: string, epochMs: number): Receipt[] {
    const line = LineSchema.parse(JSON.parse(text));
    if (line.kind === 'events') return this.take(line.events, epochMs);
    if (line.kind === 'snapshot') this.#restore(line.ledger);
    else if (this.signingKey === '') this.signingKey = line.key;
    return [];
  }

  /** Takes a batch that arrives at a time: windows and lifetimes that have ended by then end first. */
  take(events: readonly FeedbackEvent[], nowMs: number): Receipt[] {
    this.#nowMs = Math.max(this.#nowMs, nowMs);
    this.#expire();
    return events.map((event) =>
      event.kind === 'impression' ? this.#takeImpression(event) : this.#takeReward(event),
    );
  }

  /** Ends windows and lifetimes that have ended by then. Those that end while a snapshot is made end with the next call. */
  endWindows(nowMs: number): void {
    if (!this.#isStill) this.take([], nowMs);
  }

  evidenceOf(adgroup: string): Evidence {
    const found = this.#adgroups.get(adgroup);
    if (found === undefined) return NO_EVIDENCE;
    const { impressions, rewards, open, firstMs } = found;
    return { impressions, rewards, open, firstMs };
  }

  /** Remembers an explored slot until its impression is reported or the window ends. The oldest make room. */
  awaitImpression(id: string, adgroup: string, nowMs: number): void {
    const oldest = this.#awaited.size < this.#settings.eventsMax ? null : this.#awaited.first();
    if (oldest !== null) this.#endAwaited(oldest.key);
    this.#awaited.put(id, { adgroup, decidedMs: nowMs });
    this.#awaitedCounts.set(adgroup, this.awaitedCountOf(adgroup) + 1);
  }

  awaitedCountOf(adgroup: string): number {
    return this.#awaitedCounts.get(adgroup) ?? 0;
  }

  #endAwaited(id: string): void {
    const adgroup = this.#awaited.get(id)?.adgroup;
    if (adgroup === undefined) return;
    this.#awaited.delete(id);
    const left = this.awaitedCountOf(adgroup) - 1;
    if (left > 0) this.#awaitedCounts.set(adgroup, left);
    else this.#awaitedCounts.delete(adgroup);
  }

  /** Counts of one adgroup, and of all of them since the evidence began. */
  servedOf(adgroup: string): { readonly own: Served; readonly all: Served } {
    return { own: this.#adgroups.get(adgroup)?.served ?? NOTHING_SERVED, all: this.#served };
  }

  /** Several lines: one text of everything could be longer than a string can be. */
  *snapshot(): Iterable<string> {
    const { lateCount, duplicateCount } = this;
    const none = { events: [], adgroups: [], served: this.#served, lateCount, duplicateCount };
    const lineOf = (ledger: object): string => JSON.stringify({ kind: 'snapshot', ledger });
    this.#isStill = true;
    try {
      if (this.signingKey !== '') yield keyLine(this.signingKey);
      yield lineOf(none);
      for (const events of groupsOf(this.#events)) yield lineOf({ ...none, events });
      for (const adgroups of groupsOf(this.#adgroups)) yield lineOf({ ...none, adgroups });
    } finally {
      this.#isStill = false;
    }
  }

  /** Adds a line of a snapshot to those before it. */
  #restore({
    events,
    adgroups,
    served,
    lateCount,
    duplicateCount,
  }: z.output<typeof SnapshotSchema>): void {
    this.#served = served;
    for (const [id, event] of events) {
      this.#events.put(id, event);
      if (!event.isSettled) this.#open.put(id, event);
      this.#nowMs = Math.max(this.#nowMs, event.arrivedMs);
    }
    for (const [adgroup, evidence] of adgroups) this.#adgroups.put(adgroup, evidence);
    this.lateCount = lateCount;
    this.duplicateCount = duplicateCount;
  }

  #takeImpression({
    id,
    adgroup,
    epochMs,
    ...chosen
  }: FeedbackEvent & { kind: 'impression' }): Receipt {
    const known = this.#events.get(id);
    if (known !== undefined && known.adgroup !== null) return this.#duplicate();
    const evidence = this.#adgroups.get(adgroup) ?? this.#freshAdgroup(epochMs);
    if (evidence === null || (known === undefined && this.#isFull())) return 'full';
    this.#adgroups.put(adgroup, evidence);
    this.#endAwaited(id);
    evidence.open += 1;
    evidence.firstMs = Math.min(evidence.firstMs, epochMs);
    evidence.lastMs = this.#nowMs;
    evidence.served = withOneMore(evidence.served, chosen);
    this.#served = withOneMore(this.#served, chosen);
    const shown = { adgroup, reward: null, shownMs: epochMs };
    const event: OpenEvent = { ...shown, arrivedMs: this.#nowMs, isSettled: false };
    this.#events.put(id, event);
    this.#open.put(id, event);
    if (known !== undefined && known.reward !== null)
      this.#reward(id, event, known.reward, known.shownMs);
    return 'counted';
  }

  #takeReward({ id, reward, epochMs }: FeedbackEvent & { kind: 'reward' }): Receipt {
    const known = this.#events.get(id);
    if (known === undefined) {
      if (this.#isFull()) return 'full';
      const noImpression = { adgroup: null, arrivedMs: this.#nowMs, isSettled: true };
      this.#events.put(id, { ...noImpression, reward, shownMs: epochMs });
      return 'counted';
    }
    if (known.reward !== null) return this.#duplicate();
    return this.#reward(id, known, reward, epochMs);
  }

  #reward(id: string, event: OpenEvent, reward: number, rewardMs: number): Receipt {
    event.reward = reward;
    if (
      event.isSettled ||
      rewardMs - event.shownMs > this.#settings.windowSeconds * MS_PER_SECOND
    ) {
      this.lateCount += 1;
      return 'late';
    }
    this.#settle(id, event, reward);
    return 'counted';
  }

  #settle(id: string, event: OpenEvent, reward: number): void {
    event.isSettled = true;
    this.#open.delete(id);
    const evidence = event.adgroup === null ? undefined : this.#adgroups.get(event.adgroup);
    if (evidence === undefined) return;
    evidence.open -= 1;
    evidence.impressions += 1;
    evidence.rewards += reward;
  }

  #expire(): void {
    const { windowSeconds, eventLifetimeSeconds, adgroupLifetimeSeconds } = this.#settings;
    const endedBefore = (seconds: number): number => this.#nowMs - seconds * MS_PER_SECOND;
    endBefore(endedBefore(windowSeconds), this.#open, arrivalOf, (id, event) => {
      this.#settle(id, event, 0);
    });
    endBefore(endedBefore(windowSeconds), this.#awaited, decisionOf, (id) => {
      this.#endAwaited(id);
    });
    endBefore(endedBefore(eventLifetimeSeconds), this.#events, arrivalOf, (id) => {
      this.#events.delete(id);
    });
    endBefore(endedBefore(adgroupLifetimeSeconds), this.#adgroups, lastUseOf, (adgroup) => {
      this.#adgroups.delete(adgroup);
    });
  }

  #freshAdgroup(epochMs: number): AdgroupEvidence | null {
    if (this.#adgroups.size >= this.#settings.adgroupsMax) return null;
    const counts = { impressions: 0, rewards: 0, open: 0, served: NOTHING_SERVED };
    return { ...counts, firstMs: epochMs, lastMs: epochMs };
  }

  #isFull(): boolean {
    return this.#events.size >= this.#settings.eventsMax;
  }

  #duplicate(): Receipt {
    this.duplicateCount += 1;
    return 'duplicate';
  }
}

export type EvidenceLog = SharedLog<EvidenceLedger, Receipt[]>;

const arrivalOf = ({ arrivedMs }: OpenEvent): number => arrivedMs;
const decisionOf = ({ decidedMs }: AwaitedSlot): number => decidedMs;
const lastUseOf = ({ lastMs }: AdgroupEvidence): number => lastMs;

/** @param end takes the entry out of the order. */
function endBefore<Value>(
  endMs: number,
  order: ArrivalOrder<Value>,
  msOf: (value: Value) => number,
  end: (key: string, value: Value) => void,
): void {
  for (
    let first = order.first();
    first !== null && msOf(first.value) < endMs;
    first = order.first()
  )
    end(first.key, first.value);
}

function* groupsOf<Entry>(entries: Iterable<Entry>): Iterable<readonly Entry[]> {
  let group: Entry[] = [];
  for (const entry of entries) {
    group.push(entry);
    if (group.length < SNAPSHOT_ENTRIES_MAX) continue;
    yield group;
    group = [];
  }
  if (group.length > 0) yield group;
}

function withOneMore(
  { impressions, explored, propensities }: Served,
  chosen: { readonly isExploration: boolean; readonly propensity: number },
): Served {
  return {
    impressions: impressions + 1,
    explored: explored + Number(chosen.isExploration),
    propensities: propensities + chosen.propensity,
  };
}
