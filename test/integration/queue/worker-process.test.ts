/** The process entry of the worker, as its parent sees it. Runs compiled code on a real Redis. */

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { expect, it } from 'vitest';
import { z } from 'zod';
import { rowAddon } from '#bootstrap/native-addons.mjs';
import { localMachine } from '../../../infra/library/local-machine.js';
import { loadNativeRows } from '../../../shared/tensors/native-rows.js';
import { parseEventLine } from '../../../shared/events/event-lines.js';
import { openedOnce } from '../../fixtures/opened.js';
import { redisForTest } from '../../fixtures/queue/redis-for-test.js';

const WORKER_ENTRY = fileURLToPath(
  new URL('../../../dist/infra/cli/local-worker.js', import.meta.url),
);

const redis = openedOnce(redisForTest);

const workerCommand = () =>
  localMachine.workerCommand({
    ...{ redisUrl: redis.url, prefix: '{qianmo}', device: 'cpu', portable: false },
    ...{ environment: process.env, stores: [] },
  });

it('ends when its parent exited before it was up', async () => {
  const { env } = await workerCommand();
  const worker = spawn(process.execPath, [WORKER_ENTRY, '{}'], {
    env,
    stdio: ['ignore', 'ignore', 'ignore', 'ipc'],
  });
  const ended = once(worker, 'exit');
  const killed = setTimeout(() => worker.kill('SIGKILL'), 300_000);
  worker.disconnect();
  expect(await ended).toEqual([0, null]);
  clearTimeout(killed);
});

it.skipIf(process.platform !== 'linux')(
  'has its compute process loop over table rows with the addon of its coordinator',
  async () => {
    loadNativeRows(rowAddon.path());
    const { argsOf, env } = await workerCommand();
    const [, ...words] = argsOf(0);
    const worker = spawn(process.execPath, [WORKER_ENTRY, ...words], {
      ...{ env, stdio: ['ignore', 'ignore', 'ignore', 'ipc'] },
    });
    const computePid = await new Promise<number>((resolve) => {
      worker.on('message', (line) => {
        const event = parseEventLine(z.string().parse(line));
        if (event.kind === 'compute-ready') resolve(event.pid);
      });
    });
    expect(readFileSync(`/proc/${computePid}/maps`, 'utf8')).toContain(rowAddon.path());
    worker.kill('SIGTERM');
    await once(worker, 'exit');
  },
);
