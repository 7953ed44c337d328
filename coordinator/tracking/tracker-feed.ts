/**
 * The way to one tracker. Feeding never waits: items go into a bounded queue, of which the oldest are dropped
 * and counted when the tracker is slow. One loop empties it, and rests longer after each failure.
 */

import type { Clock } from '../../shared/base/clock.js';
import { warningEvent, type RunEvent } from '../../shared/events/run-events.js';
import { TrackerRefusal, type CallEnding, type Tracker } from './tracker.js';
import { counted } from '../../shared/names/counted.js';

interface FeedOptions {
  readonly clock: Clock;
  /** Hears of the first failure, and at the end of what was lost. */
  readonly onTrouble: (event: RunEvent) => void;
  /** After as many failures in a row the items are lost. */
  readonly attemptsMax: number;
}

const QUEUED_ITEMS_MAX = 10_000;
/** Items that are given together, at most. */
const ITEMS_MAX = 1_000;
const RETRY_DELAY_MS_MIN = 1_000;
const RETRY_DELAY_MS_MAX = 60_000;
/** While a call closes, it waits for so many failures in a row and no more. */
const CLOSING_FAILURES_MAX = 3;

export class TrackerFeed<Item> {
  readonly #tracker: Tracker<Item>;
  readonly #options: FeedOptions;
  /** Ends every rest. */
  readonly #closing = new AbortController();
  /** Ends what the tracker does. */
  readonly #givenUp = new AbortController();
  #queued: Item[] = [];
  #takenCount = 0;
  #lostCount = 0;
  #failureCount = 0;
  #hasToldFailure = false;
  #isClosed = false;
  #emptying: Promise<void> | null = null;

  constructor(tracker: Tracker<Item>, options: FeedOptions) {
    this.#tracker = tracker;
    this.#options = options;
  }

  feed(item: Item): void {
    if (this.#isClosed) return;
    this.#queued.push(item);
    this.#loseOldest();
    this.#emptying ??= this.#empty();
  }

  /** Gives the tracker what is left, in bounded time. */
  async close(ending: CallEnding, waitMs: number): Promise<void> {
    this.#isClosed = true;
    this.#closing.abort();
    this.#failureCount = 0;
    const isDone = new AbortController();
    const finishing = (async () => {
      await this.#emptying;
      if (this.#queued.length > 0) await this.#empty();
      if (!this.#givenUp.signal.aborted && this.#failureCount === 0)
        await this.#tracker.end(ending, this.#givenUp.signal).catch((error: unknown) => {
          this.#tellFailure(error);
        });
      isDone.abort();
    })();
    await Promise.race([finishing, this.#options.clock.sleep(waitMs, isDone.signal)]);
    isDone.abort();
    this.#givenUp.abort();
    const eventCount = this.#lostCount + this.#queued.length + this.#takenCount;
    if (eventCount > 0)
      this.#options.onTrouble(
        warningEvent(
          'tracker-missed',
          `${this.#tracker.name} misses ${counted(eventCount, 'event')}`,
        ),
      );
  }

  async #empty(): Promise<void> {
    const { signal } = this.#givenUp;
    while (this.#queued.length > 0 && !signal.aborted && !this.#isHopeless()) {
      await this.#rest();
      await this.#give();
    }
    this.#emptying = null;
  }

  #isHopeless(): boolean {
    return this.#closing.signal.aborted && this.#failureCount >= CLOSING_FAILURES_MAX;
  }

  async #rest(): Promise<void> {
    const { clock } = this.#options;
    const isClosing = this.#closing.signal.aborted;
    if (this.#failureCount === 0) {
      if (!isClosing) await clock.sleep(this.#tracker.intervalMs, this.#closing.signal);
      return;
    }
    const delayMs = Math.min(RETRY_DELAY_MS_MIN * 2 ** this.#failureCount, RETRY_DELAY_MS_MAX);
    if (isClosing) await clock.sleep(RETRY_DELAY_MS_MIN, this.#givenUp.signal);
    else await clock.sleep(delayMs, this.#closing.signal);
  }

  async #give(): Promise<void> {
    const items = this.#queued.splice(0, ITEMS_MAX);
    this.#takenCount = items.length;
    try {
      await this.#tracker.take(items, this.#givenUp.signal);
      this.#failureCount = 0;
    } catch (error) {
      this.#failureCount += 1;
      this.#tellFailure(error);
      if (error instanceof TrackerRefusal || this.#failureCount >= this.#options.attemptsMax) {
        this.#lostCount += items.length;
        this.#failureCount = 0;
      } else {
        this.#queued = [...items, ...this.#queued];
        this.#loseOldest();
      }
    } finally {
      this.#takenCount = 0;
    }
  }

  #loseOldest(): void {
    const excessCount = this.#queued.length - QUEUED_ITEMS_MAX;
    if (excessCount <= 0) return;
    this.#queued.splice(0, excessCount);
    this.#lostCount += excessCount;
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
