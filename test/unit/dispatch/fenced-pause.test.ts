/** A coordinator that waits in a pause and loses its lease meanwhile: it hears no more orders, so it must end. */

import { expect, it } from 'vitest';
import { createQueueDispatcher } from '../../../coordinator/dispatch/queue-dispatcher.js';
import { NO_ORDERS } from '../../../shared/queue/run-orders.js';
import type { RunEvent } from '../../../shared/events/run-events.js';
import { MemoryJobQueue } from '../../../infra/simulation/memory-queue.js';
import { thisProcess } from '../../../shared/storage/process-identity.js';
import { RunFencedError } from '../../../shared/storage/lease.js';
import { admitAll, collected, ordersForTest } from '../../conformance/dispatcher.js';
import { simulatedClock } from '../../fixtures/clocks/simulated-clock.js';
import { queueConfig } from '../../fixtures/queue/queue-under-test.js';

it('ends as fenced, and leaves the lease and the jobs to the other one', async () => {
  const clock = simulatedClock();
  const queue = new MemoryJobQueue({ clock });
  const events: RunEvent[] = [];
  await clock.run(async () => {
    const dispatcher = await createQueueDispatcher({
      ...{ queue, limits: queueConfig(), runId: 'run', nonce: 'first', clock },
      sink: (event) => void events.push(event),
    });
    const controller = await queue.openController();
    await controller.replace('run', NO_ORDERS, { ...NO_ORDERS, isPaused: true });
    await dispatcher.control?.refresh();
    const { signal } = new AbortController();
    const paused = collected(dispatcher.run(ordersForTest(1), admitAll, signal));

    const other = await queue.openProducer('');
    const holder = {
      ...{ start: 'second', process: thisProcess(), sinceMs: 0, beatMs: 0 },
      progress: { state: 'running', training: null } as const,
    };
    const held = await other.takeLease('run', holder, null);
    if (held.kind !== 'held') throw new Error('the first coordinator has no lease');
    expect(await other.takeLease('run', holder, held.mark)).toMatchObject({ kind: 'taken' });

    await expect(paused).rejects.toThrow(RunFencedError);
    await dispatcher.close();
    expect((await controller.find('run'))?.holder.start).toBe('second');
    await other.close();
  });
  expect(events.map(({ kind }) => kind)).toEqual(['run-paused']);
});
