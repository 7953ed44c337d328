/** The queue of requests: by arrival, bounded, one in each turn, and nothing past its deadline. */

import { setImmediate as nextTurn } from 'node:timers/promises';
import { expect, test } from 'vitest';
import { RefusedRequest } from '../../../worker/serving/server/refused-request.js';
import { WorkQueue } from '../../../worker/serving/server/work-queue.js';
import { steppedClock } from '../../fixtures/clocks/stepped-clock.js';

interface Terms {
  readonly deadlineMs?: number;
  /** That the work takes by the clock. */
  readonly workMs?: number;
}

interface Told {
  readonly queue: WorkQueue;
  readonly lines: string[];
  readonly clock: ReturnType<typeof steppedClock>;
  readonly add: (name: string, terms?: Terms) => void;
}

function queueOf(countMax: number): Told {
  const clock = steppedClock();
  const queue = new WorkQueue(clock, countMax);
  const lines: string[] = [];
  return {
    ...{ queue, lines, clock },
    add: (name, { deadlineMs = 100, workMs = 0 } = {}) =>
      queue.add({
        ...{ arrivalMs: clock.monotonicMs(), deadlineMs },
        carryOut: () => {
          lines.push(name);
          clock.advance(workMs);
        },
        refuse: ({ refusal }) => void lines.push(`${name}: ${refusal.reason}, ${refusal.found}`),
      }),
  };
}

test('refuses what has waited past its deadline, and works on what has waited as long as it', async () => {
  const { queue, lines, add, clock } = queueOf(10);
  add('impatient', { deadlineMs: 99 });
  add('patient', { deadlineMs: 100 });
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

test('refuses at once what would wait past its deadline behind others', async () => {
  const { queue, lines, add } = queueOf(10);
  // The mean of the time of work moves by a tenth of 100 ms.
  add('measured', { workMs: 100 });
  await nextTurn();
  for (const name of ['a', 'b', 'c']) add(name, { deadlineMs: 1_000 });
  expect(() => add('impatient', { deadlineMs: 29 })).toThrow(RefusedRequest);
  add('patient', { deadlineMs: 30 });
  while (queue.length > 0) await nextTurn();
  expect(lines).toEqual(['measured', 'a', 'b', 'c', 'patient']);
});
