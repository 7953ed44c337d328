/** The server of the dashboard: it opens what its pages read, listens, and closes all of it. */

import type { AddressInfo } from 'node:net';
import { serve, type ServerType } from '@hono/node-server';
import { Queue } from 'bullmq';
import type { Hono } from 'hono';
import type { Clock } from '../../shared/base/clock.js';
import { freshNonce } from '../../shared/base/nonce.js';
import { QianmoError } from '../../shared/base/errors.js';
import { redactedAddress } from '../../shared/base/redacted-address.js';
import { bullmqJobQueue } from '../../shared/queue/bullmq-job-queue.js';
import type { QueueController } from '../../shared/queue/job-queue.js';
import { INNER_LOOP_QUEUE } from '../../shared/queue/protocol.js';
import {
  type RedisConnection,
  connectRedis,
  queueCallsAt,
} from '../../shared/queue/redis-connection.js';
import type { S3Options } from '../../shared/storage/s3-object-store.js';
import type { TlsFiles } from '../../shared/storage/tls-files.js';
import { QueueWatch } from './queue-watch.js';
import { RunCatalog } from './run-catalog.js';
import { ControlDesk, type CancelRun } from './access.js';
import { dashboardApp } from './dashboard-app.js';
import type { RankingServers } from './adgroup-page.js';
import { expositionOf, MetricRegistry } from '../../shared/metrics/metric-registry.js';
import { redisWorkerRegistry } from '../../shared/queue/redis-registry.js';

export interface DashboardQueue {
  readonly redisUrl: string;
  /** The certificates of an encrypted connection. */
  readonly tls: TlsFiles | null;
  /** In braces: `{qianmo}`. */
  readonly prefix: string;
}

export interface DashboardOptions {
  /** Folders and `s3://` prefixes with runs; may be empty. */
  readonly roots: readonly string[];
  readonly s3: S3Options;
  /** Null for pages that are made from records alone. */
  readonly queue: DashboardQueue | null;
  /** Addresses of the metrics of ranking servers, over HTTP; none if absent. */
  readonly servers?: readonly string[];
  /** Ranking servers that are asked about single adgroups, and the token that they demand; none if absent. */
  readonly rankings?: RankingServers;
  readonly clock: Clock;
  /** 0 takes a free port. */
  readonly port: number;
  readonly host: string;
  /** More names under which it may be asked for, as of a proxy before it. */
  readonly hostsAllowed?: readonly string[];
  /** Demanded of every request; none if absent. */
  readonly token?: string | null;
  /** Lets pages cancel runs; they are read-only if absent. */
  readonly cancelRun?: CancelRun | null;
}

export interface Dashboard {
  /** The address of its first page. */
  readonly url: string;
  close(): Promise<void>;
}

interface OpenedQueue {
  readonly queue: Queue;
  readonly watch: QueueWatch;
  readonly metrics: () => Promise<string>;
  close(): Promise<void>;
}

/**
 * Serves the dashboard until closed.
 *
 * @throws QianmoError `environment` when Redis does not answer or the port is taken.
 */
export async function serveDashboard(options: DashboardOptions): Promise<Dashboard> {
  const { roots, s3, clock, servers = [], hostsAllowed = [], token = null } = options;
  const { cancelRun = null } = options;
  const opened = options.queue === null ? null : await openQueue(options.queue, clock);
  const catalog = roots.length === 0 ? null : new RunCatalog({ roots, s3, clock });
  const desk =
    cancelRun === null || opened === null
      ? null
      : new ControlDesk(cancelRun, freshNonce() + freshNonce());
  const rankings = (options.rankings?.addresses.length ?? 0) === 0 ? null : options.rankings;
  const access = { hostsAllowed, token };
  const shown = { catalog, queue: opened, servers, rankings: rankings ?? null, desk };
  const app = dashboardApp({ access, clock, ...shown });
  try {
    const server = await listening(app, options);
    // Only pipes have an address without a port.
    const { port } = server.address() as AddressInfo;
    const host = options.host.includes(':') ? `[${options.host}]` : options.host;
    return {
      url: `http://${host}:${port}/`,
      close: async () => {
        await closed(server);
        await opened?.close();
      },
    };
  } catch (error) {
    await opened?.close();
    throw error;
  }
}

async function openQueue(
  { redisUrl, tls, prefix }: DashboardQueue,
  clock: Clock,
): Promise<OpenedQueue> {
  const redis = await connectRedis({ url: redisUrl, role: 'producer', name: 'qianmo-board', tls });
  await requireInfo(redis, redisUrl);
  let controller: QueueController;
  try {
    controller = await bullmqJobQueue({ redisUrl, prefix, clock, tls }).openController();
  } catch (error) {
    redis.disconnect();
    throw error;
  }
  const queue = new Queue(INNER_LOOP_QUEUE, {
    connection: redis,
    prefix,
    // A viewer must not change the settings of the coordinator.
    skipMetasUpdate: true,
  });
  queue.on('error', () => undefined);
  return {
    queue,
    watch: new QueueWatch(queue, controller, clock),
    metrics: queueMetrics(queue, redis, prefix),
    close: async () => {
      await controller.close();
      await queue.close();
      redis.disconnect();
    },
  };
}

/** The board shows what INFO says. */
async function requireInfo(redis: RedisConnection, redisUrl: string): Promise<void> {
  try {
    await queueCallsAt(redactedAddress(redisUrl))(() => redis.info('server'));
  } catch (error) {
    redis.disconnect();
    throw error;
  }
}

function listening(
  app: Hono,
  { host, port }: Pick<DashboardOptions, 'host' | 'port'>,
): Promise<ServerType> {
  return new Promise((resolve, reject) => {
    const server = serve({ fetch: app.fetch, hostname: host, port }, () => resolve(server));
    server.once('error', (cause: Error) => {
      const taken = 'code' in cause && cause.code === 'EADDRINUSE';
      reject(
        new QianmoError({
          kind: 'environment',
          what: taken ? 'another program listens on this port' : 'the dashboard cannot listen',
          where: `${host}:${port}`,
          found: cause.message,
          cure: 'give another --port, or 0 for a free one',
          cause,
        }),
      );
    });
  });
}

function closed(server: ServerType): Promise<void> {
  return new Promise((resolve) => {
    server.close(() => resolve());
    // A browser keeps its connections open, and closing would wait for them.
    if ('closeAllConnections' in server) server.closeAllConnections();
  });
}

const MS_PER_SECOND = 1000;
const DEVICES = ['cpu', 'gpu', 'auto'] as const;

/** @returns the function that reads them; it takes a few commands, whatever the length of the queue. */
function queueMetrics(queue: Queue, redis: RedisConnection, prefix: string): () => Promise<string> {
  const registry = new MetricRegistry('dashboard');
  const workers = redisWorkerRegistry(redis, prefix);
  const countOf = (state: 'wait' | 'active'): Promise<number> => redis.llen(queue.toKey(state));
  return async () => {
    const [waiting, active, ageMs, connected] = await Promise.all([
      countOf('wait'),
      countOf('active'),
      oldestAgeMs(queue, redis),
      workers.workers(),
    ]);
    registry.set('qianmo_queue_jobs', { state: 'waiting' }, waiting);
    registry.set('qianmo_queue_jobs', { state: 'active' }, active);
    registry.set('qianmo_oldest_job_age_seconds', {}, ageMs / MS_PER_SECOND);
    for (const device of DEVICES) {
      const ofDevice = connected.filter(
        (each) => (each.report?.device?.kind ?? each.device) === device,
      );
      registry.set('qianmo_workers', { device }, ofDevice.length);
    }
    return expositionOf(registry.snapshot());
  };
}

/** The entry that is taken next has waited longest; 0 if none waits. */
async function oldestAgeMs(queue: Queue, redis: RedisConnection): Promise<number> {
  const [jobId] = await redis.lrange(queue.toKey('wait'), -1, -1);
  if (jobId === undefined) return 0;
  const addedMs = Number(await redis.hget(queue.toKey(jobId), 'timestamp'));
  const [seconds, microseconds] = await redis.time();
  const nowMs = Number(seconds) * MS_PER_SECOND + Number(microseconds) / MS_PER_SECOND;
  // The entry may have been taken meanwhile.
  return addedMs > 0 ? Math.max(0, nowMs - addedMs) : 0;
}
