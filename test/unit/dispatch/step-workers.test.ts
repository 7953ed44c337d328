/** How many jobs a step keeps on the queue. */

import { expect, test } from 'vitest';
import {
  StepWorkers,
  WorkerCount,
  WorkerHealth,
} from '../../../coordinator/dispatch/worker-health.js';
import { MemoryJobQueue } from '../../../infra/simulation/memory-queue.js';
import { steppedClock } from '../../fixtures/clocks/stepped-clock.js';

const sink = (): void => undefined;

/** @param workerCount the workers that are connected */
async function stepWith(workerCount: number): Promise<StepWorkers> {
  const clock = steppedClock();
  const queue = new MemoryJobQueue({ clock });
  for (let place = 0; place < workerCount; place += 1)
    await queue.openConsumer({
      ...{ name: `w${place}`, nonce: `n${place}`, device: 'cpu' },
      ...{ onError: sink, onReconnected: sink },
      process: () => Promise.resolve({ kind: 'handed-back' }),
    });
  const producer = await queue.openProducer('');
  const health = new WorkerHealth({ clock, sink });
  const counted = new WorkerCount(producer, clock);
  return new StepWorkers({ producer, health, clock, sink, counted }, (action) => action());
}

test.each<[string, number, { open: number; unsent: number }, number]>([
  ['all of a small step at once', 2, { open: 0, unsent: 8 }, 8],
  ['a bounded number for few workers', 2, { open: 0, unsent: 1_000 }, 8],
  ['three for each of many workers', 100, { open: 0, unsent: 1_000 }, 300],
  ['none while none has ended', 2, { open: 8, unsent: 100 }, 0],
  ['as many as have ended', 2, { open: 5, unsent: 100 }, 3],
  ['the last ones, however few', 2, { open: 6, unsent: 2 }, 2],
])('sends %s', async (_, workerCount, { open, unsent }, expected) => {
  const step = await stepWith(workerCount);
  expect(await step.sendCount({ openCount: open, unsentCount: unsent })).toBe(expected);
});
