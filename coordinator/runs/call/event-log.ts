/** The events of one call, kept for whoever iterates over them: from the first, or the last kept. */

import type { StampedEvent, StampedEventSink } from '../../../shared/events/run-events.js';

export interface EventLog extends AsyncIterable<StampedEvent> {
  readonly sink: StampedEventSink;
  /** Ends every iteration once it has seen all events; with this failure, when there is one. */
  end(failure: { readonly error: unknown } | null): void;
}

/** An iteration that falls further behind than this misses the oldest events. */
export const EVENTS_KEPT_MAX = 10_000;

export function openEventLog(keptMax = EVENTS_KEPT_MAX): EventLog {
  const kept: StampedEvent[] = [];
  let droppedCount = 0;
  let end: { readonly failure: { readonly error: unknown } | null } | null = null;
  let waiting: (() => void)[] = [];
  const wake = (): void => {
    const woken = waiting;
    waiting = [];
    for (const resume of woken) resume();
  };
  return {
    sink: (event) => {
      kept.push(event);
      if (kept.length > keptMax) {
        kept.shift();
        droppedCount += 1;
      }
      wake();
    },
    end: (failure) => {
      end = { failure };
      wake();
    },
    async *[Symbol.asyncIterator]() {
      let nextIndex = 0;
      for (;;) {
        nextIndex = Math.max(nextIndex, droppedCount);
        const event = kept[nextIndex - droppedCount];
        if (event !== undefined) {
          nextIndex += 1;
          yield event;
        } else if (end === null) {
          await new Promise<void>((resolve) => waiting.push(resolve));
        } else {
          if (end.failure !== null) throw end.failure.error;
          return;
        }
      }
    },
  };
}
