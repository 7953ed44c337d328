/** A Redis that stands still, is killed, fails over, is full or slow, or whose connections are cut. */

import { cell, endWith, FaultScene, prefixOf } from '../../fixtures/faults/fault-scene.js';
import { heldJob } from '../../fixtures/faults/held-job.js';
import { stopped } from '../../fixtures/faults/processes.js';
import { type TcpFaultProxy } from '../../fixtures/faults/tcp-fault-proxy.js';
import { openedOnce } from '../../fixtures/opened.js';
import { redisOnSmallDisk } from '../../fixtures/queue/full-disk.js';
import { redisForTest } from '../../fixtures/queue/redis-for-test.js';
import { replicatedRedis } from '../../fixtures/queue/replicated-redis.js';

const scene = openedOnce(() => FaultScene.open());

/** The outer step whose first job is held, counted from 0. */
const STEP_UNDER_WAY = 2;
const AWAY = /does not answer/;
const LATENCY_MS = 3;

/** Strikes while a worker has a job, and expects the digest. */
async function withJobInFlight(
  name: string,
  redis: { readonly url: string; close(): Promise<void> },
  strike: (saw: (pattern: RegExp) => Promise<unknown>, release: () => void) => Promise<void>,
): Promise<void> {
  endWith(name, () => redis.close());
  const { executor, held, release } = heldJob(scene.executor, 1, STEP_UNDER_WAY);
  await scene.workerHere(name, { queue: scene.queue(name, redis.url), executor });
  const run = await scene.coordinatorHere(name, { redisUrl: redis.url });
  await held;
  await strike((pattern) => run.saw(pattern), release);
  release();
  await scene.expectDigest(run);
}

cell('Redis suspended', 'for a moment, with a job in flight', async (name) => {
  const redis = await redisForTest();
  await withJobInFlight(name, redis, async () => {
    await stopped(redis.server.pid);
    process.kill(redis.server.pid, 'SIGCONT');
  });
});

cell('Redis suspended', 'until its silence is noticed', async (name) => {
  const redis = await redisForTest();
  await withJobInFlight(name, redis, async (saw) => {
    await stopped(redis.server.pid);
    await saw(AWAY);
    process.kill(redis.server.pid, 'SIGCONT');
  });
});

cell('Redis killed and started again', 'with a job in flight', async (name) => {
  const redis = await redisForTest();
  await withJobInFlight(name, redis, async () => {
    await redis.server.kill();
    await redis.server.restart();
  });
});

cell('Redis fails over to a replica', 'with a job in flight', async (name) => {
  const redis = await replicatedRedis(redisForTest);
  await withJobInFlight(name, redis, async () => {
    await redis.replicated();
    await redis.failOver();
  });
});

cell('Redis has a full disk', 'with a job in flight', async (name) => {
  const redis = await redisOnSmallDisk();
  await withJobInFlight(name, redis, async (saw, release) => {
    await redis.fillDisk();
    release();
    await saw(/refuses to write/);
    await redis.freeDisk();
  });
});

type Side = 'coordinator' | 'worker';

/** Runs with a proxy before the Redis of the scene, on the way of these processes. */
async function throughProxy(
  name: string,
  sides: readonly Side[],
  spoil: (proxy: TcpFaultProxy) => Promise<unknown>,
): Promise<void> {
  const proxy = await scene.proxy(name);
  const urlOf = (side: Side): string => (sides.includes(side) ? proxy.url : scene.redis.url);
  await scene.workerHere(name, { queue: scene.queue(name, urlOf('worker')) });
  const spoilt = spoil(proxy);
  await scene.expectDigest(await scene.coordinatorHere(name, { redisUrl: urlOf('coordinator') }));
  await spoilt;
}

cell('Redis slowed', 'at every command', (name) =>
  throughProxy(name, ['coordinator', 'worker'], (proxy) => {
    proxy.slowBy(LATENCY_MS);
    return Promise.resolve();
  }),
);

const ADDED = (prefix: string): RegExp => new RegExp(`${prefix}:inner-loops:id\\r\\n`);
/** The event has brought the result; its output is a blob, the only kind that a coordinator reads. */
const READ = (prefix: string): RegExp => new RegExp(`getex\\r\\n\\$\\d+\\r\\n${prefix}:blob:`);
const PUT = (prefix: string): RegExp => new RegExp(`set\\r\\n\\$\\d+\\r\\n${prefix}:blob:`);
const HANDED_IN = (prefix: string): RegExp => new RegExp(`${prefix}:inner-loops:completed`);

const CUTS: readonly (readonly [
  phase: string,
  side: Side,
  cut: 'cutHalfWay' | 'cutReply',
  commandOf: (prefix: string) => RegExp,
])[] = [
  ['half-way through jobs that are added', 'coordinator', 'cutHalfWay', ADDED],
  ['half-way through the reply to jobs that are added', 'coordinator', 'cutReply', ADDED],
  ['half-way through a result that is read', 'coordinator', 'cutReply', READ],
  ['half-way through an output that is put', 'worker', 'cutHalfWay', PUT],
  ['half-way through the reply to a result', 'worker', 'cutReply', HANDED_IN],
];
for (const [phase, side, cut, commandOf] of CUTS)
  cell('connection to Redis cut', phase, (name) =>
    throughProxy(name, [side], (proxy) => proxy[cut](commandOf(prefixOf(name)))),
  );
