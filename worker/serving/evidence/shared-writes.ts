/** Batches of events that arrive while a write is under way share the next write. */

import { QianmoError } from '../../../shared/base/errors.js';
import type { FeedbackEvent, Receipt } from './evidence-ledger.js';
import { RECORDED_EVENTS_MAX, WAITING_EVENTS_MAX } from './evidence-store.js';

/** One durable write. Batches are in order of arrival; receipts are one list for each. */
type WriteBatches = (
  batches: readonly (readonly FeedbackEvent[])[],
) => Promise<readonly (readonly Receipt[])[]>;

interface Waiting {
  readonly events: readonly FeedbackEvent[];
  readonly resolve: (receipts: readonly Receipt[]) => void;
  readonly reject: (failure: unknown) => void;
}

/** Events of one write, which blocks whoever else uses the store. */
const WRITTEN_EVENTS_MAX = 5 * RECORDED_EVENTS_MAX;

export class SharedWrites {
  readonly #write: WriteBatches;
  #waiting: Waiting[] = [];
  #eventCount = 0;
  #writing: Promise<void> | null = null;

  constructor(write: WriteBatches) {
    this.#write = write;
  }

  record(events: readonly FeedbackEvent[]): Promise<readonly Receipt[]> {
    if (events.length > RECORDED_EVENTS_MAX) throw new RangeError(`${events.length} events`);
    if (events.length === 0) return Promise.resolve([]);
    return new Promise((resolve, reject) => {
      if (this.#eventCount + events.length > WAITING_EVENTS_MAX) return reject(tooMany());
      this.#eventCount += events.length;
      this.#waiting.push({ events, resolve, reject });
      this.#writing ??= this.#writeAll();
    });
  }

  /** Resolves when nothing waits. */
  async settled(): Promise<void> {
    await this.#writing;
  }

  async #writeAll(): Promise<void> {
    while (this.#waiting.length > 0) {
      const group = this.#nextGroup();
      try {
        const receipts = await this.#write(group.map(({ events }) => events));
        for (const [place, { resolve }] of group.entries()) resolve(receipts[place] ?? []);
      } catch (failure) {
        for (const { reject } of group) reject(failure);
      }
    }
    this.#writing = null;
  }

  #nextGroup(): readonly Waiting[] {
    let eventCount = 0;
    const end = this.#waiting.findIndex(({ events }) => {
      eventCount += events.length;
      return eventCount > WRITTEN_EVENTS_MAX;
    });
    const group = this.#waiting.splice(0, end < 0 ? this.#waiting.length : end);
    for (const { events } of group) this.#eventCount -= events.length;
    return group;
  }
}

function tooMany(): QianmoError {
  return new QianmoError({
    kind: 'environment',
    what: 'too many events wait to be written',
    expected: `at most ${WAITING_EVENTS_MAX}`,
    cure: 'send them again later; the disk or Redis is too slow for them',
  });
}
