/** The process entry of the worker, as its parent sees it. Runs compiled code on a real Redis. */

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { redisForTest, type RedisForTest } from '../../fixtures/queue/redis-for-test.js';

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
