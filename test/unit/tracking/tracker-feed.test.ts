/** The way to one tracker: bounded, in order, patient while the call lasts and brief at its end. */

import { expect, test } from 'vitest';
import { TrackerFeed, type Tracker } from '../../../coordinator/tracking/tracker-feed.js';
import type { RunEvent } from '../../../shared/events/run-events.js';
import { simulatedClock } from '../../fixtures/clocks/simulated-clock.js';

type Take = (items: readonly number[], callIndex: number) => Promise<void>;

function feedTo(take: Take) {
  const clock = simulatedClock();
  const calls: (readonly number[])[] = [];
  const ends: string[] = [];
  const tracker: Tracker<number> = {
    ...{ name: 'T', address: 'place' },
    take: (items) => take(items, calls.push(items) - 1),
    end: (ending) => {
      ends.push(ending);
      return Promise.resolve();
    },
  };
  const troubles: object[] = [];
  const onTrouble = (event: object): void => {
    troubles.push(event);
  };
  return {
    clock,
    calls,
    ends,
    troubles,
    feed: new TrackerFeed(tracker, { clock, onTrouble }),
  };
}

const numbers = (count: number): number[] => Array.from({ length: count }, (_, index) => index);

test('gives what came within a second together, in order, and ends once', async () => {
  const { clock, calls, ends, troubles, feed } = feedTo(() => Promise.resolve());
  await clock.run(async () => {
    for (const each of numbers(3)) feed.feed(each);
    await clock.sleep(5_000);
    feed.feed(3);
    await feed.close('finished');
    feed.feed(4);
  });
  expect(calls).toEqual([[0, 1, 2], [3]]);
  expect(ends).toEqual(['finished']);
  expect(troubles).toEqual([]);
});

test('gives the same items again after longer and longer rests, and tells the first failure', async () => {
  const times: number[] = [];
  const { clock, calls, troubles, feed } = feedTo((_, callIndex) => {
    times.push(clock.monotonicMs());
    return callIndex < 3 ? Promise.reject(new Error('away')) : Promise.resolve();
  });
  await clock.run(async () => {
    feed.feed(7);
    await clock.sleep(60_000);
    await feed.close('finished');
  });
  expect(calls).toEqual([[7], [7], [7], [7]]);
  expect(times).toEqual([1_000, 3_000, 7_000, 15_000]);
  expect(troubles).toEqual([
    {
      ...{ kind: 'warning', code: 'tracker-failed' },
      text: 'T at place fails: away; the run goes on, and it is tried again',
    },
  ]);
});

test('drops the oldest of more than 10,000 items that wait, and counts them', async () => {
  const { clock, calls, troubles, feed } = feedTo((_, callIndex) =>
    callIndex === 0 ? Promise.reject(new Error('away')) : Promise.resolve(),
  );
  await clock.run(async () => {
    for (const each of numbers(10_250)) feed.feed(each);
    await clock.sleep(1_500);
    // The first thousand failed and wait again.
    for (const each of numbers(50)) feed.feed(10_250 + each);
    await feed.close('finished');
  });
  expect(calls.slice(1).flat()).toEqual(numbers(10_300).slice(300));
  expect(troubles[1]).toEqual(missed(300));
});

function missed(eventCount: number): RunEvent {
  const code = 'tracker-missed';
  return {
    kind: 'warning',
    code,
    text: `T misses ${eventCount} event${eventCount === 1 ? '' : 's'}`,
  };
}
