/** The process entry of the worker, as its parent sees it. Runs compiled code on a real Redis. */

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { parseEventLine } from '../../../shared/events/event-lines.js';
import type { StampedEvent } from '../../../shared/events/run-events.js';
import { admitAll, collected, ordersForTest } from '../../conformance/dispatcher.js';
import {
  dispatcherInTest,
  queueConfig,
  redisQueue,
} from '../../fixtures/queue/queue-under-test.js';
import { redisForTest, type RedisForTest } from '../../fixtures/queue/redis-for-test.js';
import { temporaryFolder } from '../../fixtures/temporary-folder.js';

const WORKER_ENTRY = fileURLToPath(new URL('../../../dist/worker/main.js', import.meta.url));

let redis: RedisForTest;
beforeAll(async () => {
  redis = await redisForTest();
});
afterAll(() => redis.close());

it('ends when its parent exited before it was up', async () => {
  const worker = spawn(process.execPath, [WORKER_ENTRY, '--redis', redis.url], {
    stdio: ['ignore', 'ignore', 'ignore', 'ipc'],
  });
  const ended = once(worker, 'exit');
  const killed = setTimeout(() => worker.kill('SIGKILL'), 300_000);
  worker.disconnect();
  expect(await ended).toEqual([0, null]);
  clearTimeout(killed);
});

it('tells its parent that jobs run on a slow backend', async () => {
  const folder = await temporaryFolder();
  const preload = join(folder.path, 'no-native-tensorflow.cjs');
  await writeFile(
    preload,
    `const Module = require('node:module');
     const load = Module._load;
     Module._load = function (request, ...rest) {
       if (request.startsWith('@tensorflow/tfjs-node')) throw new Error('not here');
       return load.call(this, request, ...rest);
     };`,
  );
  const prefix = '{slow-backend}';
  const worker = spawn(process.execPath, [WORKER_ENTRY, '--redis', redis.url, '--prefix', prefix], {
    env: { ...process.env, NODE_OPTIONS: `--require ${preload}` },
    stdio: ['ignore', 'ignore', 'ignore', 'ipc'],
  });
  const warned = new Promise<string>((resolve) => {
    worker.on('message', (message) => {
      const text = typeof message === 'string' ? message : '';
      if (text.includes('"kind":"backend-portable"')) resolve(text);
    });
  });
  const queue = queueConfig({ prefix, jobAttemptsMax: 1 });
  const { dispatcher } = await dispatcherInTest(redisQueue(redis.url, queue.prefix), queue);
  // Its store does not exist, so the job is never done, but a compute process was started for it.
  const stop = new AbortController();
  const stopped = collected(dispatcher.run(ordersForTest(1), admitAll, stop.signal)).catch(
    () => null,
  );
  expect(await warned).toContain('not here');
  stop.abort();
  await stopped;
  await dispatcher.close();
  const ended = once(worker, 'exit');
  worker.disconnect();
  await ended;
  await folder.remove();
});

/** A process of two workers, and the events that it tells. */
function twoWorkers(prefix: string, environment: Readonly<Record<string, string>> = {}) {
  const args = ['--redis', redis.url, '--prefix', prefix, '--name', 'pair', '--count', '2'];
  const worker = spawn(process.execPath, [WORKER_ENTRY, ...args], {
    env: { ...process.env, ...environment },
    stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
  });
  const ended = once(worker, 'exit');
  const events: StampedEvent[] = [];
  let tell = (): void => undefined;
  worker.on('message', (message) => {
    events.push(parseEventLine(typeof message === 'string' ? message : ''));
    tell();
  });
  const told = (kind: StampedEvent['kind'], count: number): Promise<StampedEvent[]> =>
    new Promise((resolve) => {
      tell = () => {
        const those = events.filter((event) => event.kind === kind);
        if (those.length >= count) resolve(those);
      };
      tell();
    });
  return { worker, ended, told };
}

it('has two workers, each with a name, a place and a compute process of its own', async () => {
  const { worker, ended, told } = twoWorkers('{pair}');
  const ready = await told('worker-ready', 2);
  expect(ready.map(({ worker: name, workerIndex }) => [name, workerIndex]).sort()).toEqual([
    ['pair-1', 0],
    ['pair-2', 1],
  ]);
  const computing = await told('compute-ready', 2);
  const pids = computing.flatMap((event) => (event.kind === 'compute-ready' ? [event.pid] : []));
  expect(new Set(pids).size).toBe(2);
  const controller = await redisQueue(redis.url, '{pair}').openController();
  const listed = (await controller.workers()).map(({ name }) => name);
  await controller.close();
  expect(listed.sort()).toEqual(['pair-1', 'pair-2']);
  worker.kill('SIGTERM');
  expect(await ended).toEqual([0, null]);
});

it('ends all its workers when one of them cannot work', async () => {
  const folder = await temporaryFolder();
  const preload = join(folder.path, 'second-cannot-fork.cjs');
  // The start of the second compute process fails.
  await writeFile(
    preload,
    `const processes = require('node:child_process');
     const { fork } = processes;
     let count = 0;
     processes.fork = (entry, ...rest) => fork((count += 1) === 1 ? entry : '/nowhere.js', ...rest);
     require('node:module').syncBuiltinESMExports();`,
  );
  const { worker, ended } = twoWorkers('{one-cannot}', { NODE_OPTIONS: `--require ${preload}` });
  let words = '';
  worker.stderr?.setEncoding('utf8').on('data', (text: string) => (words += text));
  const [exitCode] = (await ended) as [number | null];
  expect(exitCode, words).toBeGreaterThan(0);
  expect(words).toMatch(/compute process/);
  await folder.remove();
});
