/** Coordinators that are killed, or suspended, a Redis that fails below them, and clocks that differ. */

import { afterAll, beforeAll, expect } from 'vitest';
import type { RunningCommand } from '../../fixtures/commands/command.js';
import { FaultScene, prefixOf } from '../../fixtures/faults/fault-scene.js';
import { skewedClock, stopped } from '../../fixtures/faults/processes.js';
import { tcpFaultProxy, type TcpFaultProxy } from '../../fixtures/faults/tcp-fault-proxy.js';
import { redisForTest } from '../../fixtures/queue/redis-for-test.js';
import { CellsOfFile } from './cells.js';

let scene: FaultScene;
beforeAll(async () => {
  scene = await FaultScene.open();
});
afterAll(() => scene.close());

const cells = new CellsOfFile('coordinators-and-redis.test.ts');

const AN_HOUR_MS = 3_600_000;
const UNDER_WAY = /checkpoint of outer step 2\b/;

/** What a coordinator sends in a phase. */
const COMMAND_BY_PHASE: Readonly<Record<string, (prefix: string) => RegExp>> = {
  'before its first job': (prefix) => new RegExp(`hset\\r\\n\\$\\d+\\r\\n${prefix}:blob:`),
  'while it adds jobs': (prefix) => new RegExp(`${prefix}:inner-loops:id\\r\\n`),
  'while it reads a result': (prefix) =>
    new RegExp(`hgetall\\r\\n\\$\\d+\\r\\n${prefix}:inner-loops:`),
};

/** Runs with a proxy before the Redis of the scene. */
async function withProxy(act: (proxy: TcpFaultProxy) => Promise<void>): Promise<void> {
  const proxy = await tcpFaultProxy(scene.redis.server.port);
  try {
    await act(proxy);
  } finally {
    await proxy.close();
  }
}

for (const [phase, commandOf] of Object.entries(COMMAND_BY_PHASE)) {
  const caught = async (name: string, proxy: TcpFaultProxy): Promise<RunningCommand> => {
    const held = proxy.hold(commandOf(prefixOf(name)));
    const run = await scene.coordinator(name, { redisUrl: proxy.url });
    await held;
    return run;
  };

  cells.run('coordinator killed', phase, (name) =>
    withProxy(async (proxy) => {
      const worker = await scene.workerHere(name);
      const run = await caught(name, proxy);
      run.signal('SIGKILL');
      expect((await run.ended).signal).toBe('SIGKILL');
      await worker.stop();
      await scene.expectDigestOnResume(name);
    }),
  );

  cells.run('coordinator suspended', phase, (name) =>
    withProxy(async (proxy) => {
      const worker = await scene.workerHere(name);
      const run = await caught(name, proxy);
      await stopped(run.pid);
      proxy.release();
      run.signal('SIGCONT');
      await scene.expectDigest(run);
      await worker.stop();
    }),
  );
}

cells.run('clock skewed', 'coordinator an hour ahead, worker an hour behind', async (name) => {
  const worker = scene.worker(name, { environment: skewedClock(-AN_HOUR_MS) });
  const run = await scene.coordinator(name, { environment: skewedClock(AN_HOUR_MS) });
  await scene.expectDigest(run);
  worker.signal('SIGTERM');
  expect((await worker.ended).exitCode).toBe(0);
});

cells.run('Redis suspended', 'between outer steps', async (name) => {
  const redis = await redisForTest();
  const worker = await scene.workerHere(name, { queue: scene.queue(name, redis.url) });
  const run = await scene.coordinator(name, { redisUrl: redis.url });
  await run.saw(UNDER_WAY);
  await stopped(redis.server.pid);
  process.kill(redis.server.pid, 'SIGCONT');
  await scene.expectDigest(run);
  await worker.stop();
  await redis.close();
});

cells.run('Redis killed and restarted', 'with jobs in flight', async (name) => {
  const redis = await redisForTest();
  const near = await tcpFaultProxy(redis.server.port);
  const held = near.hold(new RegExp(`${prefixOf(name)}:inner-loops:completed`));
  const worker = await scene.workerHere(name, { queue: scene.queue(name, near.url) });
  const run = await scene.coordinator(name, { redisUrl: redis.url });
  await held;
  await redis.server.kill();
  await redis.server.restart();
  near.release();
  await scene.expectDigest(run);
  await worker.stop();
  await Promise.all([near.close(), redis.close()]);
});

cells.complete();
