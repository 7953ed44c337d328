/**
 * Serves the queue board on this machine only: it has no authentication of its own, so it binds to a
 * loopback address.
 */

import type { AddressInfo } from 'node:net';
import { serve, type ServerType } from '@hono/node-server';
import { Queue } from 'bullmq';
import type { Hono } from 'hono';
import { QianmoError } from '../../shared/base/errors.js';
import { INNER_LOOP_QUEUE } from '../../shared/queue/protocol.js';
import { redactedAddress } from '../../shared/base/redacted-address.js';
import { connectRedis, type RedisConnection } from '../../shared/queue/redis-connection.js';
import { queueCallsAt } from '../../shared/queue/redis-errors.js';
import type { TlsFiles } from '../../shared/storage/tls-files.js';
import { BOARD_PATH, boardApp } from './board-app.js';
import { queueMetrics } from './queue-metrics.js';

export interface QueueBoardOptions {
  readonly redisUrl: string;
  /** The certificates of an encrypted connection. */
  readonly tls?: TlsFiles | null;
  /** In braces: `{qianmo}`. */
  readonly prefix: string;
  /** 0 takes a free port. */
  readonly port: number;
  readonly host: '127.0.0.1' | '::1';
  /** More names under which it may be asked for, as of a proxy before it. */
  readonly hostsAllowed?: readonly string[];
}

export interface QueueBoard {
  readonly url: string;
  close(): Promise<void>;
}

/**
 * Serves the board until closed.
 *
 * @throws QianmoError `environment` when Redis does not answer or the port is taken.
 */
export async function serveQueueBoard(options: QueueBoardOptions): Promise<QueueBoard> {
  const redis = await connectRedis({
    url: options.redisUrl,
    role: 'producer',
    name: 'qianmo-board',
    tls: options.tls ?? null,
  });
  await demandInfo(redis, options.redisUrl);
  const queue = new Queue(INNER_LOOP_QUEUE, {
    connection: redis,
    prefix: options.prefix,
    // A viewer must not change the settings of the coordinator.
    skipMetasUpdate: true,
  });
  queue.on('error', () => undefined);
  try {
    const metrics = queueMetrics(queue, redis, options.prefix);
    const app = boardApp(queue, options.hostsAllowed ?? [], metrics);
    const server = await listening(app, options);
    // Only pipes have an address without a port.
    const { port } = server.address() as AddressInfo;
    const host = options.host === '::1' ? '[::1]' : options.host;
    return {
      url: `http://${host}:${port}${BOARD_PATH}`,
      close: async () => {
        await closed(server);
        await queue.close();
        redis.disconnect();
      },
    };
  } catch (error) {
    await queue.close();
    redis.disconnect();
    throw error;
  }
}

/** The board shows what INFO says. */
async function demandInfo(redis: RedisConnection, redisUrl: string): Promise<void> {
  try {
    await queueCallsAt(redactedAddress(redisUrl))(() => redis.info('server'));
  } catch (error) {
    redis.disconnect();
    throw error;
  }
}

function listening(app: Hono, { host, port }: QueueBoardOptions): Promise<ServerType> {
  return new Promise((resolve, reject) => {
    const server = serve({ fetch: app.fetch, hostname: host, port }, () => resolve(server));
    server.once('error', (cause: Error) => {
      const taken = 'code' in cause && cause.code === 'EADDRINUSE';
      reject(
        new QianmoError({
          kind: 'environment',
          what: taken ? 'another program listens on this port' : 'the queue board cannot listen',
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
    // A browser that polls keeps its connection open, and closing would wait for it.
    if ('closeAllConnections' in server) server.closeAllConnections();
  });
}
