import { expect, it } from 'vitest';
import { StepTimes } from '../../../../coordinator/training/step-report.js';
import type { Clock } from '../../../../shared/base/clock.js';
import type { RunEvent } from '../../../../shared/events/run-events.js';

interface Result {
  readonly worker: string;
  readonly taskCount: number;
  readonly computeMs: number;
  readonly fetchMs?: number;
  readonly uploadMs?: number;
}

interface Watch extends Clock {
  pass(durationMs: number): void;
}

function watch(): Watch {
  let nowMs = 0;
  return {
    epochMs: () => 5_000 + nowMs,
    monotonicMs: () => nowMs,
    sleep: () => Promise.resolve(),
    pass: (durationMs) => {
      nowMs += durationMs;
    },
  };
}

it('the times of an outer step divide what workers took by their number, and leave the rest of the wait to the queue', async () => {
  const clock = watch();
  const told: RunEvent[] = [];
  const times = new StepTimes({ clock, sink: (event) => told.push(event) });
  clock.pass(100);
  times.begin();
  await times.during('sample', async () => {
    await Promise.resolve();
    clock.pass(2);
  });
  times.took('pack', () => clock.pass(3));
  // eslint-disable-next-line @typescript-eslint/require-await -- arrivals are asynchronous
  const arrivals = async function* (): AsyncGenerator<{
    result: Result;
  }> {
    clock.pass(30);
    yield { result: { worker: 'a', taskCount: 8, computeMs: 20, fetchMs: 2, uploadMs: 1 } };
    clock.pass(10);
    yield { result: { worker: 'b', taskCount: 8, computeMs: 24, fetchMs: 4, uploadMs: 3 } };
    yield { result: { worker: 'a', taskCount: 5, computeMs: 8 } };
    clock.pass(1);
  };
  for await (const arrival of times.waitedFor(arrivals()))
    times.took('aggregate', () => clock.pass(arrival.result.worker === 'a' ? 2 : 1));
  times.took('optimise', () => clock.pass(4));
  times.report(7);
  // Two workers: fetch (2 + 4) / 2, compute (20 + 24 + 8) / 2, upload (1 + 3) / 2; waited 30 + 10 + 1.
  expect(told).toEqual([
    {
      ...{ kind: 'outer-step-timed', outerStep: 7, startedMs: 5_100 },
      ...{ jobCount: 3, taskCount: 21, workerCount: 2 },
      phasesMs: {
        ...{ sample: 2, pack: 3, queue: 41 - 3 - 26 - 2, fetch: 3, compute: 26, upload: 2 },
        ...{ aggregate: 5, optimise: 4, checkpoint: 0 },
      },
    },
  ]);
});
