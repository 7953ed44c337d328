/**
 * Events as an async iterable, for programs that start a run as a library. The buffer between run and
 * readers is bounded: a run never waits for a reader.
 */

import type { StampedEvent, StampedEventSink } from './run-events.js';

const EVENT_COUNT_MAX = 10_000;

/**
 * Every iteration begins with the first event, or with the oldest one that is kept. An `events-dropped`
 * stands in the place of events that are no longer kept, with their number.
 */
interface EventStream extends AsyncIterable<StampedEvent> {
  readonly sink: StampedEventSink;
  /** Ends every iteration after the last event: with this failure, where there is one. */
  end(failure?: { readonly error: unknown }): void;
}

/** @param eventCountMax how many of the newest events are kept for readers. */
export function eventStream(eventCountMax = EVENT_COUNT_MAX): EventStream {
  const kept: StampedEvent[] = [];
  let droppedCount = 0;
  let end: { readonly failure: { readonly error: unknown } | undefined } | null = null;
  let waiting: (() => void)[] = [];

  const wakeAll = (): void => {
    const woken = waiting;
    waiting = [];
    for (const wake of woken) wake();
  };
  return {
    sink: (event) => {
      if (end !== null) return;
      kept.push(event);
      if (kept.length > eventCountMax) {
        kept.shift();
        droppedCount += 1;
      }
      wakeAll();
    },
    end: (failure) => {
      end ??= { failure };
      wakeAll();
    },
    async *[Symbol.asyncIterator]() {
      for (let nextIndex = 0; ;) {
        const missedCount = droppedCount - nextIndex;
        const event = kept[Math.max(0, -missedCount)];
        if (event === undefined) {
          if (end?.failure !== undefined) throw end.failure.error;
          if (end !== null) return;
          await new Promise<void>((resolve) => waiting.push(resolve));
        } else if (missedCount > 0) {
          nextIndex += missedCount;
          const { epochMs, runId } = event;
          yield { kind: 'events-dropped', epochMs, runId, eventCount: missedCount };
        } else {
          nextIndex += 1;
          yield event;
        }
      }
    },
  };
}
