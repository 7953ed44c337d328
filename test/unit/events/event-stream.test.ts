import { describe, expect, it } from 'vitest';
import { eventStream } from '../../../coordinator/runs/run-handle.js';
import type { StampedEvent } from '../../../shared/events/run-events.js';

const back = (awayMs: number): StampedEvent => ({ kind: 'redis-back', epochMs: awayMs, awayMs });

async function all(stream: AsyncIterable<StampedEvent>): Promise<StampedEvent[]> {
  const events: StampedEvent[] = [];
  for await (const event of stream) events.push(event);
  return events;
}

describe('eventStream', () => {
  it('delivers all events to every reader, even one that starts late', async () => {
    const stream = eventStream();
    const early = all(stream);
    stream.sink(back(1));
    for await (const event of stream) {
      expect(event).toEqual(back(1));
      break;
    }
    stream.sink(back(2));
    stream.end();
    expect(await early).toEqual([back(1), back(2)]);
    expect(await all(stream)).toEqual([back(1), back(2)]);
  });

  it('keeps no more than its bound, and tells a reader how many of the oldest events it missed', async () => {
    const stream = eventStream(3);
    stream.sink(back(0));
    const slow = stream[Symbol.asyncIterator]();
    expect((await slow.next()).value).toEqual(back(0));
    for (let awayMs = 1; awayMs <= 9; awayMs += 1) stream.sink(back(awayMs));
    stream.end();
    expect((await slow.next()).value).toEqual({
      ...{ kind: 'events-dropped', epochMs: 7, eventCount: 6 },
    });
    expect((await slow.next()).value).toEqual(back(7));
    expect(await all(stream)).toEqual([
      { kind: 'events-dropped', epochMs: 7, eventCount: 7 },
      ...[back(7), back(8), back(9)],
    ]);
  });
});
