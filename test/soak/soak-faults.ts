/** The faults of a soak. One strikes after another, in an order and at times that the seed decides. */

import { systemClock } from '../../shared/base/clock.js';
import type { RandomStream } from '../../shared/base/random.js';
import { signalIfThere, stopped } from '../fixtures/faults/processes.js';
import type { SmallDisk } from '../fixtures/faults/small-disk.js';
import type { RedisOnSmallDisk } from '../fixtures/queue/full-disk.js';
import type { ReplicatedRedis } from '../fixtures/queue/replicated-redis.js';
import { familyOf } from '../bench/resident-memory.js';
import type { Victim } from './soak-processes.js';

/** All that faults may strike. Beside it work a coordinator and a worker that only Redis disturbs. */
interface Struck {
  readonly workers: readonly Victim[];
  readonly coordinator: Victim;
  readonly redis: ReplicatedRedis<RedisOnSmallDisk>;
  /** The disk of the struck coordinator; null if it has none of its own. */
  readonly disk: SmallDisk | null;
}

interface Fault {
  readonly name: string;
  /** How often it strikes, relative to the others. */
  readonly weight: number;
  strike(struck: Struck, stream: RandomStream): Promise<void>;
}

const SUSPENDED_MS_MAX = 12_000;
/** Longer than the lease of a coordinator. */
const COORDINATOR_SUSPENDED_MS_MAX = 20_000;
const REDIS_SUSPENDED_MS_MAX = 6_000;
const FULL_MS_MAX = 8_000;

function oneOf(victims: readonly Victim[], stream: RandomStream): Victim {
  const victim = victims[stream.below(victims.length)];
  if (victim === undefined) throw new Error('there is nothing to strike');
  return victim;
}

async function suspended(pid: number | null, durationMs: number): Promise<void> {
  if (pid === null) return;
  await stopped(pid).catch(() => undefined);
  await systemClock.sleep(durationMs);
  signalIfThere(pid, 'SIGCONT');
}

/** The compute process of a worker; null while it has none. */
function computePidOf(worker: Victim): number | null {
  return familyOf(worker.pid())[1] ?? null;
}

const FAULTS: readonly Fault[] = [
  ...(['SIGKILL', 'SIGTERM'] as const).flatMap((signal): Fault[] => [
    {
      name: `worker, ${signal}`,
      weight: 3,
      strike: ({ workers }, stream) => {
        oneOf(workers, stream).signal(signal);
        return Promise.resolve();
      },
    },
    {
      name: `coordinator, ${signal}`,
      weight: 2,
      strike: ({ coordinator }) => {
        coordinator.signal(signal);
        return Promise.resolve();
      },
    },
  ]),
  {
    name: 'compute process, SIGKILL',
    weight: 3,
    strike: ({ workers }, stream) => {
      const pid = computePidOf(oneOf(workers, stream));
      if (pid !== null) signalIfThere(pid, 'SIGKILL');
      return Promise.resolve();
    },
  },
  {
    name: 'worker, SIGSTOP',
    weight: 2,
    strike: ({ workers }, stream) =>
      suspended(oneOf(workers, stream).pid(), stream.below(SUSPENDED_MS_MAX)),
  },
  {
    name: 'compute process, SIGSTOP',
    weight: 1,
    strike: ({ workers }, stream) =>
      suspended(computePidOf(oneOf(workers, stream)), stream.below(SUSPENDED_MS_MAX)),
  },
  {
    name: 'coordinator, SIGSTOP',
    weight: 1,
    strike: ({ coordinator }, stream) =>
      suspended(coordinator.pid(), stream.below(COORDINATOR_SUSPENDED_MS_MAX)),
  },
  {
    name: 'Redis, SIGSTOP',
    weight: 1,
    strike: ({ redis }, stream) =>
      suspended(redis.primary().server.pid, stream.below(REDIS_SUSPENDED_MS_MAX)),
  },
  {
    name: 'Redis, killed and started again',
    weight: 1,
    strike: async ({ redis }) => {
      const { server } = redis.primary();
      await server.kill();
      await server.restart();
    },
  },
  {
    name: 'Redis, failover to the replica',
    weight: 2,
    strike: async ({ redis }) => {
      await redis.replicated();
      await redis.failOver();
    },
  },
  {
    name: 'Redis, full disk',
    weight: 1,
    strike: async ({ redis }, stream) => {
      const primary = redis.primary();
      await primary.fillDisk();
      await systemClock.sleep(stream.below(FULL_MS_MAX));
      await primary.freeDisk();
    },
  },
  {
    name: 'coordinator, full disk',
    weight: 1,
    strike: async ({ disk }, stream) => {
      if (disk === null) return;
      await disk.fill(0);
      await systemClock.sleep(stream.below(FULL_MS_MAX));
      await disk.free();
    },
  },
];

export type FaultCounts = Record<string, number>;

const PAUSE_MS_MIN = 2_000;
const PAUSE_MS_MAX = 10_000;

/** Strikes until the signal aborts; a fault that has begun ends first. */
export async function strikeUntil(
  signal: AbortSignal,
  struck: Struck,
  stream: RandomStream,
  counts: FaultCounts,
): Promise<void> {
  const possible = FAULTS.filter(
    ({ name }) => struck.disk !== null || name !== 'coordinator, full disk',
  );
  for (const { name } of possible) counts[name] = 0;
  const drawn = possible.flatMap((fault) => Array.from({ length: fault.weight }, () => fault));
  for (;;) {
    await systemClock.sleep(PAUSE_MS_MIN + stream.below(PAUSE_MS_MAX - PAUSE_MS_MIN), signal);
    if (signal.aborted) return;
    const fault = drawn[stream.below(drawn.length)];
    if (fault === undefined) return;
    await fault.strike(struck, stream);
    counts[fault.name] = (counts[fault.name] ?? 0) + 1;
  }
}
