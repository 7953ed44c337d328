/**
 * Events as an async iterable, for whoever starts a run as a library. The buffer between run and
 * reader is bounded: a run never waits for its reader.
 */

import type { StampedEvent, StampedEventSink } from './run-events.js';

const EVENT_COUNT_MAX = 10_000;

export interface EventStream extends AsyncIterable<StampedEvent> {
  readonly sink: StampedEventSink;
  /** Ends the iteration once the reader has taken what is buffered. */
  close(): void;
}

/**
 * For one reader. A reader that falls behind by more than `eventCountMax` loses the oldest events and
 * is told how many by an `events-dropped` in their place. Leaving the loop closes the stream.
 */
export function eventStream(eventCountMax = EVENT_COUNT_MAX): EventStream {
  let buffered: StampedEvent[] = [];
  let droppedCount = 0;
  let isClosed = false;
  let wake: (() => void) | null = null;

  const awaken = (): void => {
    wake?.();
    wake = null;
  };
  const close = (): void => {
    isClosed = true;
    awaken();
  };
  async function* events(): AsyncGenerator<StampedEvent, void, undefined> {
    try {
      for (;;) {
        const [next] = buffered;
        if (next !== undefined && droppedCount > 0) {
          const { epochMs, runId } = next;
          const eventCount = droppedCount;
          droppedCount = 0;
          yield { kind: 'events-dropped', epochMs, runId, eventCount };
        } else if (next !== undefined) {
          buffered.shift();
          yield next;
        } else if (isClosed) return;
        else
          await new Promise<void>((resolve) => {
            wake = resolve;
          });
      }
    } finally {
      close();
      buffered = [];
    }
  }
  const iterator = events();
  return {
    sink: (event) => {
      if (isClosed) return;
      buffered.push(event);
      if (buffered.length > eventCountMax) {
        buffered.shift();
        droppedCount += 1;
      }
      awaken();
    },
    close,
    [Symbol.asyncIterator]: () => iterator,
  };
}
