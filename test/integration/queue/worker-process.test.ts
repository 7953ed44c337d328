/** The process entry of the worker, as its parent sees it. Runs compiled code on a real Redis. */

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, expect, it } from 'vitest';
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
