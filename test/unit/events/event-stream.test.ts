import { describe, expect, it } from 'vitest';
import { eventStream } from '../../../shared/events/event-stream.js';
import type { StampedEvent } from '../../../shared/events/run-events.js';

const back = (awayMs: number): StampedEvent => ({ kind: 'redis-back', epochMs: awayMs, awayMs });

async function all(stream: AsyncIterable<StampedEvent>): Promise<StampedEvent[]> {
  const events: StampedEvent[] = [];
  for await (const event of stream) events.push(event);
  return events;
}

describe('eventStream', () => {
  it('gives what was told before and while it is read, and ends when closed', async () => {
    const stream = eventStream();
    stream.sink(back(1));
    const iterator = stream[Symbol.asyncIterator]();
    expect((await iterator.next()).value).toEqual(back(1));
    const waiting = iterator.next();
    stream.sink(back(2));
    stream.sink(back(3));
    stream.close();
    stream.sink(back(4));
    expect((await waiting).value).toEqual(back(2));
    expect(await all(stream)).toEqual([back(3)]);
  });

  it('wakes a reader that waits when it is closed', async () => {
    const stream = eventStream();
    const read = all(stream);
    await Promise.resolve();
    stream.close();
    expect(await read).toEqual([]);
  });

  it('holds no more than its bound, and tells how many of the oldest were lost', async () => {
    const stream = eventStream(3);
    for (let awayMs = 1; awayMs <= 10; awayMs += 1) stream.sink(back(awayMs));
    stream.close();
    expect(await all(stream)).toEqual([
      { kind: 'events-dropped', epochMs: 8, eventCount: 7 },
      back(8),
      back(9),
      back(10),
    ]);
  });

  it('is closed by a reader that leaves', async () => {
    const stream = eventStream();
    stream.sink(back(1));
    stream.sink(back(2));
    for await (const event of stream) {
      expect(event).toEqual(back(1));
      break;
    }
    stream.sink(back(3));
    expect(await all(stream)).toEqual([]);
  });
});
