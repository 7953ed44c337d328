/** Work beside requests: a share of the time of the thread. */

import { expect, it } from 'vitest';
import { besideRequests } from '../../../worker/serving/server/beside-requests.js';

it('leaves the thread to requests for so long that the pieces have their share of the time', async () => {
  const told: string[] = [];
  let nowMs = 100;
  const clock = {
    epochMs: () => nowMs,
    monotonicMs: () => nowMs,
    sleep: (forMs: number) => {
      told.push(`sleep ${forMs}`);
      return Promise.resolve();
    },
  };
  for (const tookMs of [2, 3])
    await besideRequests(clock, 1 / 8, () => {
      told.push('work');
      nowMs += tookMs;
    });
  expect(told).toEqual(['work', 'sleep 14', 'work', 'sleep 21']);
});
