/**
 * The job queue on Redis, by BullMQ. This file connects; `bullmq-producer.ts` and
 * `bullmq-consumer.ts` are the two ends. Keys are those of BullMQ under the given prefix.
 */

import type { Clock } from '../base/clock.js';
import { redactedAddress } from '../base/redacted-address.js';
import type { BlobStore } from '../storage/blob-store.js';
import type { TlsFiles } from '../storage/tls-files.js';
import { RedisBlobStore } from '../storage/redis-blob-store.js';
import { bullmqConsumer } from './bullmq-consumer.js';
import { bullmqProducer } from './bullmq-producer.js';
import type {
  BlobLimits,
  JobConsumer,
  JobProducer,
  JobQueue,
  OpenConsumerOptions,
  QueueController,
} from './job-queue.js';
import {
  checkRedis,
  connectRedis,
  type RedisConnection,
  type RedisRole,
  UNKNOWN_VERSION,
} from './redis-connection.js';
import { type QueueCall, queueCallsAt } from './redis-errors.js';
import { redisWorkerRegistry, wakeUpChannelOf } from './redis-registry.js';
import { redisRunController, RedisRunLease } from './redis-run-lease.js';

interface BullmqJobQueueOptions {
  readonly redisUrl: string;
  /** In braces, so that all keys are in one slot of a cluster: `{qianmo}`. */
  readonly prefix: string;
  readonly clock: Clock;
  readonly tls?: TlsFiles | null;
}

export function bullmqJobQueue(options: BullmqJobQueueOptions): JobQueue {
  return {
    address: redactedAddress(options.redisUrl),
    openProducer: (start) => openProducer(options, start),
    openConsumer: (consumer) => openConsumer(options, consumer),
    openController: () => openController(options),
  };
}

async function openProducer(options: BullmqJobQueueOptions, start: string): Promise<JobProducer> {
  const { redisUrl: url, prefix, clock, tls = null } = options;
  // A lost connection shows where it matters: in the commands that fail.
  const onError = (): void => undefined;
  const where = redactedAddress(url);
  const call = queueCallsAt(where);
  const opened: RedisConnection[] = [];
  const connect = async (role: RedisRole, name: string): Promise<RedisConnection> => {
    const redis = await connectRedis({ url, tls, onError, role, name });
    opened.push(redis);
    return redis;
  };
  try {
    const commands = await connect('producer', 'qianmo-coordinator');
    const facts = await call(() => checkRedis(commands));
    const checks = await connect('checks', 'qianmo-checks');
    // BullMQ checks nothing, and says nothing, when it may not do this.
    await call(() => checks.client('SETNAME', 'qianmo-checks'));
    const wakeUps = await connect('wake-ups', 'qianmo-wake-ups');
    const blobs = blobsOver(commands, prefix, call);
    const bullmq = { prefix, skipVersionCheck: facts === null };
    const lease = new RedisRunLease(commands, prefix, where);
    const parts = { bullmq, start, clock, call, lease, blobs };
    return await call(() => bullmqProducer({ commands, checks, wakeUps }, parts));
  } catch (error) {
    for (const connection of opened) connection.disconnect();
    throw error;
  }
}

async function openConsumer(
  { redisUrl: url, prefix, clock, tls = null }: BullmqJobQueueOptions,
  { onReconnected, ...identity }: OpenConsumerOptions,
): Promise<JobConsumer> {
  const { name, nonce: instance, device, process, onError, report = () => null } = identity;
  const redis = await connectRedis({
    ...{ url, tls, role: 'worker', name: `qianmo-worker-${name}`, onError },
  });
  redis.on('ready', onReconnected);
  try {
    const where = redactedAddress(url);
    const call = queueCallsAt(where);
    const facts = await call(() => checkRedis(redis));
    const registry = redisWorkerRegistry(redis, prefix);
    const self = await call(() => registry.enter({ name, instance, device, report: report() }));
    // A worker that may not send messages would be read late, and nobody would know why.
    await call(() => redis.publish(wakeUpChannelOf(prefix, ''), ''));
    const blobs = blobsOver(redis, prefix, call);
    const bullmq = { prefix, skipVersionCheck: facts === null };
    return bullmqConsumer(
      redis,
      {
        ...{ self, registry, report, process, onError },
        server: facts?.version ?? UNKNOWN_VERSION,
      },
      { bullmq, clock, where, call, blobs },
    );
  } catch (error) {
    redis.disconnect();
    throw error;
  }
}

async function openController({
  redisUrl: url,
  prefix,
  tls = null,
}: BullmqJobQueueOptions): Promise<QueueController> {
  const redis = await connectRedis({ url, role: 'producer', name: 'qianmo-control', tls });
  const where = redactedAddress(url);
  const call = queueCallsAt(where);
  const { find, endOf, replace, withdraw } = redisRunController(redis, prefix, where);
  const registry = redisWorkerRegistry(redis, prefix);
  return {
    workers: () => call(() => registry.workers()),
    find: (runId) => call(() => find(runId)),
    endOf: (runId, start) => call(() => endOf(runId, start)),
    replace: (runId, earlier, orders) => call(() => replace(runId, earlier, orders)),
    withdraw: (runId, change) => call(() => withdraw(runId, change)),
    close: () => {
      redis.disconnect();
      return Promise.resolve();
    },
  };
}

function blobsOver(
  redis: RedisConnection,
  prefix: string,
  call: QueueCall,
): (limits: BlobLimits) => BlobStore {
  return ({ large, ...limits }) => {
    if (large !== undefined) throw new Error('a queue on Redis alone has no place for large blobs');
    const store = new RedisBlobStore({ redis, prefix, ...limits });
    return {
      put: (bytes, ref) => call(() => store.put(bytes, ref)),
      get: (ref) => call(() => store.get(ref)),
      has: (ref) => call(() => store.has(ref)),
      delete: (ref) => call(() => store.delete(ref)),
    };
  };
}
