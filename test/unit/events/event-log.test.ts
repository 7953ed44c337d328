import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { createEventLog } from '../../../shared/events/event-log.js';
import { parseEventLine } from '../../../shared/events/event-lines.js';
import type { RunEvent, StampedEvent } from '../../../shared/events/run-events.js';
import { instantClock } from '../../fixtures/clocks/instant-clock.js';

type EventLogPlace = Parameters<typeof createEventLog>[0]['place'];

type EventLog = ReturnType<typeof createEventLog>;

const back = (awayMs: number): StampedEvent => ({ kind: 'redis-back', epochMs: 1, awayMs });

/** A place in memory that fails while `failure` is set, and waits while `gate` is. */
class PlaceForTest implements EventLogPlace {
  readonly address = 'memory';
  readonly appended: string[] = [];
  saveCount = 0;
  failure: Error | null = null;
  gate: Promise<void> | null = null;

  get events(): StampedEvent[] {
    const lines = this.appended.join('').split('\n');
    expect(lines.pop()).toBe('');
    return lines.map((line) => parseEventLine(line));
  }

  async append(lines: string): Promise<void> {
    await this.gate;
    if (this.failure !== null) throw this.failure;
    this.appended.push(lines);
  }

  save(): Promise<void> {
    this.saveCount += 1;
    return Promise.resolve();
  }

  close(): Promise<void> {
    return Promise.resolve();
  }
}

let place: PlaceForTest;
let clock: ReturnType<typeof instantClock>;
let failures: RunEvent[];
let log: EventLog;

beforeEach(() => {
  place = new PlaceForTest();
  failures = [];
  clock = clockForTest();
  log = createEventLog({ place, clock, onFailure: (event) => failures.push(event) });
});
afterEach(() => log.close());

/** Sleep ends when a test has advanced the time, or with the signal. */
function clockForTest(): ReturnType<typeof instantClock> {
  const clock = instantClock();
  const sleepers: { readonly untilMs: number; readonly wake: () => void }[] = [];
  return {
    ...clock,
    sleep: (durationMs, signal) =>
      new Promise((resolve) => {
        sleepers.push({ untilMs: clock.monotonicMs() + durationMs, wake: resolve });
        signal?.addEventListener('abort', () => resolve());
        if (signal?.aborted === true) resolve();
      }),
    advance: (durationMs) => {
      clock.advance(durationMs);
      for (const { untilMs, wake } of sleepers) if (untilMs <= clock.monotonicMs()) wake();
    },
  };
}

/** Longer than a write to the place in memory takes. */
const settled = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

describe('an event log', () => {
  it('writes simultaneous events at once, in order, and the rest when it closes', async () => {
    for (let awayMs = 0; awayMs < 100; awayMs += 1) log.sink(back(awayMs));
    expect(place.appended).toEqual([]);
    await settled();
    expect(place.appended).toHaveLength(1);
    log.sink(back(100));
    await log.close();
    log.sink(back(101));
    await settled();
    expect(place.events).toEqual(Array.from({ length: 101 }, (_, awayMs) => back(awayMs)));
    expect(failures).toEqual([]);
  });

  it('reports once that its place fails, pauses, and resumes with the number of lost events', async () => {
    place.failure = Object.assign(new Error('no space left on device'), { code: 'ENOSPC' });
    log.sink(back(1));
    await settled();
    log.sink(back(2));
    await settled();
    clock.advance(30_000);
    log.sink(back(3));
    await settled();
    expect(failures).toEqual([
      { kind: 'event-log-failed', address: 'memory', reason: 'ENOSPC: no space left on device' },
    ]);
    place.failure = null;
    log.sink(back(4));
    clock.advance(30_000);
    log.sink(back(5));
    await settled();
    expect(place.events).toEqual([back(5), { kind: 'events-dropped', epochMs: 1, eventCount: 4 }]);
    expect(failures).toHaveLength(1);
  });

  it('drops what its queue cannot hold, and counts it', async () => {
    let open = (): void => undefined;
    place.gate = new Promise((resolve) => {
      open = resolve;
    });
    const long: StampedEvent = { kind: 'redis-trouble', epochMs: 1, reason: 'x'.repeat(4_000) };
    for (let count = 0; count < 2_000; count += 1) log.sink(long);
    open();
    await log.close();
    const dropped = place.events.flatMap((event) =>
      event.kind === 'events-dropped' ? [event.eventCount] : [],
    );
    expect(dropped).toHaveLength(1);
    expect(place.events.length - 1 + (dropped[0] ?? 0)).toBe(2_000);
    expect(place.appended.join('').length).toBeLessThan(2.1 * 2 ** 20);
  });
});
