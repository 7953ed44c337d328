// One of two workers has a damaged copy of the store. It refuses, and the other does all jobs.

import { cp, readFile, writeFile } from 'node:fs/promises';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { Dispatcher } from '../../../coordinator/dispatch/dispatcher.js';
import { predictLogits } from '../../../coordinator/evaluation/task-jobs.js';
import { preparedRunOn } from '../../../coordinator/runs/run-files.js';
import { createInMemoryDispatcher } from '../../../coordinator/dispatch/in-memory-dispatcher.js';
import { systemClock } from '../../../shared/base/clock.js';
import { initialMetaParameters } from '../../../shared/models/meta-parameters.js';
import { MemoryJobQueue } from '../../../infra/simulation/memory-queue.js';
import { openTaskStore } from '../../../shared/tasks/task-store-reader.js';
import type { TaskStore } from '../../../shared/tasks/task-store.js';
import { createExecutor, type LocalExecutor } from '../../../worker/compute/job/create-executor.js';
import { openedOnce } from '../../fixtures/opened.js';
import {
  dispatcherInTest,
  queueConfig,
  workerInTest,
} from '../../fixtures/queue/queue-under-test.js';
import { prepareRoom } from '../../fixtures/stores/prepared-store.js';

const room = openedOnce(prepareRoom);
let store: TaskStore;
const executors: LocalExecutor[] = [];
beforeAll(async () => {
  const rows = Array.from({ length: 400 }, (_, n) => `ad${n % 40},s${n % 11},${n % 2}`);
  await room.write('log.csv', `ad,site,clicked\n${rows.join('\n')}\n`);
  await room.prepare(room.config({}));
  await cp(room.path('store'), room.path('damaged'), { recursive: true });
  const rowFile = room.path('damaged/rows-00000.arrow');
  const bytes = await readFile(rowFile);
  bytes[2000]! ^= 1;
  await writeFile(rowFile, bytes);
  store = await openTaskStore(room.path('store'), {});
});
afterAll(async () => {
  for (const executor of executors) await executor.close();
  await store.close();
});

/** As for a store above 64 MiB, whose row files are checked before their first use. */
async function executorOn(name: string): Promise<LocalExecutor> {
  const openStore = (): Promise<TaskStore> =>
    openTaskStore(room.path(name), { verifyAtOpenByteCountMax: 0 });
  const executor = await createExecutor({ openStore });
  executors.push(executor);
  return executor;
}

function predicted(dispatcher: Dispatcher): ReturnType<typeof predictLogits> {
  const config = room.config({});
  const run = preparedRunOn(store, config);
  let wave = 0;
  return predictLogits(
    {
      ...{ config, dispatcher, spec: run.spec, store: run.store, runId: 'damaged' },
      ...{ storeAddress: room.path('store'), nextWave: () => wave++ },
      ...{ onTasksDone: () => undefined, onBackend: () => undefined },
      signal: new AbortController().signal,
    },
    {
      ...{ parameters: initialMetaParameters(run.spec, 3), method: config.method },
      taskIndices: store.tasks.map(({ taskIndex }) => taskIndex),
      ...{ adaptations: [{ innerRate: 0.1, innerSteps: 1 }], role: 'query', keep: [0] },
    },
  );
}

test('the run goes on with the other worker and has the same results', async () => {
  const sound = await executorOn('store');
  const queue = new MemoryJobQueue({ clock: systemClock });
  const made = await dispatcherInTest(queue, queueConfig({ jobAttemptsMax: 1 }));
  const sick = workerInTest(queue, await executorOn('damaged'), { name: 'sick' });
  const refused = made.next('worker-refused');
  const results = predicted(made.dispatcher);
  const refusal = await Promise.race([
    refused,
    results.then(() => Promise.reject(new Error('the damaged copy was not refused'))),
  ]);
  expect(refusal.refusingWorker).toBe('sick');
  expect(refusal.reason).toContain('a file of the task store was changed');
  expect(refusal.reason).toContain(room.path('damaged/rows-00000.arrow'));
  const healthy = workerInTest(queue, sound, { name: 'healthy' });
  const alone = createInMemoryDispatcher({
    ...{ executors: [sound], clock: systemClock, attemptsMax: 1, sink: () => undefined },
  });
  const found = await results;
  await sick.stop();
  await healthy.stop();
  await made.dispatcher.close();
  expect(found).toEqual(await predicted(alone));
});
