/**
 * The contract of a tracker, and the way to it. Feeding never waits: items go into a bounded queue, of which the oldest
 * are dropped and counted when the tracker is slow. One loop empties it, and rests longer after each failure.
 */

import type { Clock } from '../../shared/base/clock.js';
import { warningEvent, type RunEvent } from '../../shared/events/run-events.js';
import { counted } from '../../shared/names/counted.js';

/** The end of a call, as its events tell it. */
export type CallEnding = 'finished' | 'failed' | 'interrupted';

export interface Tracker<Item> {
  readonly name: string;
  /** For messages: without a secret. */
  readonly address: string;
  /**
   * Takes the items, or none of them: after a failure the same ones are given again.
   *
   * @throws TrackerRefusal if they will never be taken.
   */
  take(items: readonly Item[], signal: AbortSignal): Promise<void>;
  /** Called once, after the last items. */
  end?(ending: CallEnding, signal: AbortSignal): Promise<void>;
}

/** The tracker understood and refused: trying again would change nothing. */
export class TrackerRefusal extends Error {
  override readonly name = 'TrackerRefusal';
}

/** The run that a call works on, for trackers that name it. */
export interface TrackedRun {
  /** The name of the call on the command line, as `train`. */
  readonly call: string;
  readonly run: string;
  readonly output: string;
}

interface FeedOptions {
  readonly clock: Clock;
  /** Gets the first failure, and at the end the number of lost items. */
  readonly onTrouble: (event: RunEvent) => void;
}

const QUEUED_ITEMS_MAX = 10_000;
/** Items that are given together, at most. */
const ITEMS_MAX = 1_000;
const INTERVAL_MS = 1_000;
const RETRY_DELAY_MS_MAX = 60_000;
/** A call that closes waits so long, and for so many failures in a row. */
const CLOSING_MS = 10_000;
const CLOSING_FAILURES_MAX = 3;

export class TrackerFeed<Item> {
  readonly #tracker: Tracker<Item>;
  readonly #options: FeedOptions;
  readonly #closing = new AbortController();
  /** Ends a request to the tracker that takes too long at the end. */
  readonly #givenUp = new AbortController();
  #queued: Item[] = [];
  #takenCount = 0;
  #lostCount = 0;
  #failureCount = 0;
  #hasToldFailure = false;
  #emptying: Promise<void> | null = null;

  constructor(tracker: Tracker<Item>, options: FeedOptions) {
    this.#tracker = tracker;
    this.#options = options;
  }

  feed(item: Item): void {
    if (this.#closing.signal.aborted) return;
    this.#queued.push(item);
    this.#dropOldest();
    this.#emptying ??= this.#empty();
  }

  /** Gives the tracker what is left, in bounded time. */
  async close(ending: CallEnding): Promise<void> {
    const { clock, onTrouble } = this.#options;
    this.#closing.abort();
    const isDone = new AbortController();
    const finishing = this.#finish(ending).finally(() => isDone.abort());
    await Promise.race([finishing, clock.sleep(CLOSING_MS, isDone.signal)]);
    isDone.abort();
    this.#givenUp.abort();
    const missedCount = this.#lostCount + this.#queued.length + this.#takenCount;
    if (missedCount === 0) return;
    const text = `${this.#tracker.name} misses ${counted(missedCount, 'event')}`;
    onTrouble(warningEvent('tracker-missed', text));
  }

  async #finish(ending: CallEnding): Promise<void> {
    const { signal } = this.#givenUp;
    await this.#emptying;
    this.#failureCount = 0;
    while (this.#queued.length > 0 && !signal.aborted) {
      await this.#give();
      if (this.#failureCount === CLOSING_FAILURES_MAX) return;
      if (this.#failureCount > 0) await this.#options.clock.sleep(INTERVAL_MS, signal);
    }
    await this.#tracker.end?.(ending, signal).catch((error: unknown) => this.#tellFailure(error));
  }

  async #empty(): Promise<void> {
    const { signal } = this.#closing;
    while (this.#queued.length > 0) {
      const delayMs = Math.min(INTERVAL_MS * 2 ** this.#failureCount, RETRY_DELAY_MS_MAX);
      await this.#options.clock.sleep(delayMs, signal);
      if (signal.aborted) break;
      await this.#give();
    }
    this.#emptying = null;
  }

  async #give(): Promise<void> {
    const items = this.#queued.splice(0, ITEMS_MAX);
    this.#takenCount = items.length;
    try {
      await this.#tracker.take(items, this.#givenUp.signal);
      this.#failureCount = 0;
    } catch (error) {
      this.#tellFailure(error);
      if (error instanceof TrackerRefusal) {
        this.#lostCount += items.length;
        this.#failureCount = 0;
      } else {
        this.#failureCount += 1;
        this.#queued = [...items, ...this.#queued];
        this.#dropOldest();
      }
    } finally {
      this.#takenCount = 0;
    }
  }

  #dropOldest(): void {
    const excessCount = Math.max(0, this.#queued.length - QUEUED_ITEMS_MAX);
    this.#lostCount += this.#queued.splice(0, excessCount).length;
  }

  #tellFailure(error: unknown): void {
    if (this.#hasToldFailure || this.#givenUp.signal.aborted) return;
    this.#hasToldFailure = true;
    const { name, address } = this.#tracker;
    const reason = error instanceof Error ? error.message : String(error);
    const text = `${name} at ${address} fails: ${reason}; the run goes on, and it is tried again`;
    this.#options.onTrouble(warningEvent('tracker-failed', text));
  }
}
