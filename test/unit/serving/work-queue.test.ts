/** The queue of requests: in order of arrival, bounded, one in each turn, and nothing past its deadline. */

import { setImmediate as nextTurn } from 'node:timers/promises';
import { expect, test } from 'vitest';
import { RefusedRequest } from '../../../worker/serving/server/refused-request.js';
import { WorkQueue } from '../../../worker/serving/server/work-queue.js';
import { steppedClock } from '../../fixtures/clocks/stepped-clock.js';

interface Told {
  readonly queue: WorkQueue;
  readonly lines: string[];
  readonly clock: ReturnType<typeof steppedClock>;
  readonly add: (name: string, deadlineMs?: number) => void;
}

function queueOf(countMax: number): Told {
  const clock = steppedClock();
  const queue = new WorkQueue(clock, countMax);
  const lines: string[] = [];
  return {
    ...{ queue, lines, clock },
    add: (name, deadlineMs = 100) =>
      queue.add({
        ...{ arrivalMs: clock.monotonicMs(), deadlineMs },
        carryOut: () => void lines.push(name),
        refuse: ({ refusal }) => void lines.push(`${name}: ${refusal.reason}, ${refusal.found}`),
      }),
  };
}

test('works in order of arrival, on one request in each turn', async () => {
  const { queue, lines, add } = queueOf(10);
  for (const name of ['first', 'second', 'third']) add(name);
  expect(lines).toEqual([]);
  await nextTurn();
  expect(lines).toEqual(['first']);
  while (queue.length > 0) await nextTurn();
  expect(lines).toEqual(['first', 'second', 'third']);
});

test('refuses what has waited past its deadline, and works on what has waited as long as it', async () => {
  const { queue, lines, add, clock } = queueOf(10);
  add('impatient', 99);
  add('patient', 100);
  clock.advance(100);
  while (queue.length > 0) await nextTurn();
  expect(lines).toEqual(['impatient: deadline, 100 ms', 'patient']);
});

test('refuses more than it holds, and takes more when there is room', async () => {
  const { lines, add } = queueOf(1);
  add('first');
  expect(() => add('second')).toThrow(RefusedRequest);
  await nextTurn();
  add('third');
  await nextTurn();
  expect(lines).toEqual(['first', 'third']);
});
