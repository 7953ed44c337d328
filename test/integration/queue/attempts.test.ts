/** The failures that cost an attempt of a job and those that do not, on the real queue. */

import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { superviseWorkers } from '../../../coordinator/runs/dispatch-for-run.js';
import { systemClock } from '../../../shared/base/clock.js';
import { QianmoError } from '../../../shared/base/errors.js';
import type { RunEvent } from '../../../shared/events/run-events.js';
import type { JobExecutor } from '../../../shared/queue/job-executor.js';
import {
  executorForTest,
  ordersForTest,
  outputOf,
  resultsOf,
} from '../../conformance/dispatcher.js';
import { QueueRoom } from '../../fixtures/queue/queue-room.js';
import { type WorkerInTest } from '../../fixtures/queue/queue-under-test.js';
import { remoteControl } from '../../fixtures/queue/remote-control.js';
import { expectFailureOf } from '../../fixtures/failures.js';

const WORKER_ENTRY = fileURLToPath(
  new URL('../../../dist/test/fixtures/queue/steered-worker.js', import.meta.url),
);

/** Local workers in processes of their own, and their events. */
function workerProcesses(room: QueueRoom, count: number): readonly RunEvent[] {
  const events: RunEvent[] = [];
  const workers = superviseWorkers({
    ...{ count, clock: systemClock, restartsMax: 10 },
    command: {
      path: process.execPath,
      argsOf: () => [WORKER_ENTRY, room.redis.url, room.prefix],
      env: {},
    },
    sink: (event) => void events.push(event),
  });
  room.cleanups.push(() => workers.stop());
  return events;
}

// They run side by side, because most of their time is waiting.
describe.concurrent('a job that kills its workers', () => {
  const room = new QueueRoom('killing');
  it('costs no more workers than it has attempts', async () => {
    await remoteControl(room.redis.client).kill(0);
    const workerEvents = workerProcesses(room, 2);
    const { dispatcher: sut } = await room.dispatcher({ jobAttemptsMax: 2 });
    await expectFailureOf(resultsOf(sut, 4), 'failed', {
      what: 'a job used up its attempts',
      found: /^the worker that held the job is lost: worker ./,
    });
    const killed = workerEvents.filter(
      (event) => event.kind === 'worker-exited' && event.signal === 'SIGKILL',
    );
    expect(killed).toHaveLength(2);
  });
});

const JOB_COUNT = 60;
const JOB_MS = 20;

const healthyExecutor = executorForTest(async (input) => {
  await systemClock.sleep(JOB_MS);
  return outputOf(input);
});
const failingExecutor = (error: Error): JobExecutor => executorForTest(() => Promise.reject(error));

const failedJobCount = ({ events }: WorkerInTest): number =>
  events.filter(({ kind }) => kind === 'job-failed').length;

describe.concurrent.each([
  [
    'says so: its disk is full',
    Object.assign(new Error('ENOSPC: no space left on device'), { code: 'ENOSPC' }),
    /ENOSPC/,
  ],
  [
    'fails every job, whatever it says',
    new QianmoError({ kind: 'transient', what: 'wrong' }),
    /wrong/,
  ],
])('one sick worker beside three healthy ones, when it %s,', (_, error, reason) => {
  const room = new QueueRoom('sick');

  it('does not end the run', async () => {
    const sick = await room.worker(failingExecutor(error), { name: 'sick' });
    for (const name of ['a', 'b', 'c']) await room.worker(healthyExecutor, { name });
    const { dispatcher: sut, events } = await room.dispatcher({ jobAttemptsMax: 2 });
    for (let outerStep = 0; outerStep < 3; outerStep += 1) {
      const orders = ordersForTest(JOB_COUNT, outerStep);
      expect(await resultsOf(sut, orders)).toHaveLength(JOB_COUNT);
    }
    expect(events).toContainEqual(
      expect.objectContaining({
        ...{ kind: 'worker-quarantined', quarantinedWorker: 'sick' },
        reason: expect.stringMatching(reason) as string,
      }),
    );
    expect(failedJobCount(sick)).toBeLessThanOrEqual(10);
  });
});
