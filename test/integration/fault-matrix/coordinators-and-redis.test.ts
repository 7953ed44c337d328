/** Coordinators that are killed, suspended, doubled or asked to end, and a Redis that fails below them. */

import { afterAll, beforeAll, expect } from 'vitest';
import type { RunningCommand } from '../../fixtures/commands/command.js';
import { expectExclusion, FaultScene, prefixOf } from '../../fixtures/faults/fault-scene.js';
import {
  computePidOf,
  signalIfThere,
  skewedClock,
  stopped,
} from '../../fixtures/faults/processes.js';
import { tcpFaultProxy, type TcpFaultProxy } from '../../fixtures/faults/tcp-fault-proxy.js';
import { redisOnSmallDisk } from '../../fixtures/queue/full-disk.js';
import { redisForTest } from '../../fixtures/queue/redis-for-test.js';
import { replicatedRedis } from '../../fixtures/queue/replicated-redis.js';
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

cells.run('SIGTERM', 'to a coordinator with jobs in flight', async (name) => {
  const worker = scene.worker(name);
  const computePid = await computePidOf(worker);
  await stopped(computePid);
  const run = await scene.coordinator(name);
  await worker.printed(/"kind":"job-started"/);
  run.signal('SIGTERM');
  await expectExclusion(run, { exitCode: 4, message: /outer step 0 of 4 is safe/ });
  signalIfThere(computePid, 'SIGCONT');
  worker.signal('SIGTERM');
  await worker.ended;
  await scene.expectDigestOnResume(name);
});

cells.run('SIGTERM', 'to a worker with a job in flight', async (name) => {
  const worker = scene.worker(name);
  const computePid = await computePidOf(worker);
  await stopped(computePid);
  const run = await scene.coordinator(name, { queue: { jobAttemptsMax: 1 } });
  await worker.printed(/"kind":"job-started"/);
  worker.signal('SIGTERM');
  await worker.printed(/"kind":"job-handed-back"/);
  signalIfThere(computePid, 'SIGCONT');
  const other = await scene.workerHere(name);
  await scene.expectDigest(run);
  expect((await worker.ended).exitCode).toBe(0);
  await other.stop();
});

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

cells.run('Redis killed and restarted', 'with jobs in flight', (name) =>
  withProxy(async (proxy) => {
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
    void proxy;
  }),
);

cells.run('Redis fails over to a replica', 'between outer steps', async (name) => {
  const redis = await replicatedRedis();
  const worker = await scene.workerHere(name, { queue: scene.queue(name, redis.url) });
  const run = await scene.coordinator(name, { redisUrl: redis.url });
  await run.saw(UNDER_WAY);
  await redis.failOver();
  await scene.expectDigest(run);
  await worker.stop();
  await redis.close();
});

cells.run('Redis full', 'and freed before the wait ends', async (name) => {
  const redis = await redisOnSmallDisk();
  const worker = await scene.workerHere(name, { queue: scene.queue(name, redis.url) });
  const run = await scene.coordinator(name, { redisUrl: redis.url });
  await run.saw(UNDER_WAY);
  await redis.fillDisk();
  await Promise.race([run.saw(/refuses to write/), run.ended]);
  await redis.freeDisk();
  await scene.expectDigest(run);
  await worker.stop();
  await redis.close();
});

cells.run('Redis full', 'for longer than the wait', async (name) => {
  const redis = await redisOnSmallDisk();
  const run = await scene.coordinator(name, { redisUrl: redis.url, queue: { refusalWaitMs: 200 } });
  await run.saw(/waiting for workers/);
  await redis.fillDisk();
  await expectExclusion(run, { exitCode: 3, message: /refuses to write.*disk/ });
  await redis.freeDisk();
  await redis.close();
  await scene.expectDigestOnResume(name);
});

cells.run('Redis slow', '20 ms for each exchange of the coordinator', (name) =>
  withProxy(async (proxy) => {
    proxy.slowBy(20);
    const worker = await scene.workerHere(name);
    await scene.expectDigest(await scene.coordinator(name, { redisUrl: proxy.url }));
    await worker.stop();
  }),
);

const CUTS = [
  ['half-way through the inputs of a job', 'cutHalfWay', 'before its first job'],
  ['half-way through the jobs', 'cutHalfWay', 'while it adds jobs'],
  ['before the reply to the jobs', 'cutReply', 'while it adds jobs'],
] as const;

for (const [phase, cut, command] of CUTS)
  cells.run('connection of the coordinator cut', phase, (name) =>
    withProxy(async (proxy) => {
      const hurt = proxy[cut](COMMAND_BY_PHASE[command]?.(prefixOf(name)) ?? /never/);
      const worker = await scene.workerHere(name);
      const run = await scene.coordinator(name, { redisUrl: proxy.url });
      await hurt;
      await scene.expectDigest(run);
      await worker.stop();
    }),
  );

const WORKER_CUTS = [
  ['half-way through an output', 'cutHalfWay', (p: string) => `hset\\r\\n\\$\\d+\\r\\n${p}:blob:`],
  ['before the reply to a result', 'cutReply', (p: string) => `${p}:inner-loops:completed`],
] as const;

for (const [phase, cut, commandOf] of WORKER_CUTS)
  cells.run('connection of the worker cut', phase, (name) =>
    withProxy(async (proxy) => {
      const hurt = proxy[cut](new RegExp(commandOf(prefixOf(name))));
      const worker = await scene.workerHere(name, { queue: scene.queue(name, proxy.url) });
      const run = await scene.coordinator(name);
      await hurt;
      await scene.expectDigest(run);
      await worker.stop();
    }),
  );

cells.complete();
