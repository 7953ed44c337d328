import { request } from 'node:http';
import { Queue } from 'bullmq';
import { Redis } from 'ioredis';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  serveDashboard,
  type Dashboard,
  type DashboardOptions,
} from '../../../coordinator/dashboard/serve-dashboard.js';
import { systemClock } from '../../../shared/base/clock.js';
import { redisForTest, type RedisForTest } from '../../fixtures/queue/redis-for-test.js';

const prefix = '{board}';
const host = '127.0.0.1';
let redis: RedisForTest;
let board: Dashboard;
const boardUrl = (): string => `${board.url}queues`;
const optionsWith = (port: number): DashboardOptions => ({
  ...{ roots: [], s3: { region: 'us-east-1', forcePathStyle: true }, clock: systemClock },
  queue: { redisUrl: redis.url, tls: null, prefix },
  ...{ port, host },
});

beforeAll(async () => {
  redis = await redisForTest();
  const connection = new Redis(redis.url, { maxRetriesPerRequest: null });
  const queue = new Queue('inner-loops', { connection, prefix });
  await queue.add('gradient', { runId: 'board-run' }, { jobId: 'shown-job' });
  await queue.close();
  connection.disconnect();
  board = await serveDashboard({ ...optionsWith(0), hostsAllowed: ['Board.internal'] });
});
afterAll(async () => {
  await board.close();
  await redis.close();
});

describe('the queue board', () => {
  it('leads its path to its page', async () => {
    const response = await fetch(`${boardUrl()}/`);
    expect(response.status).toBe(200);
    expect(response.url).toBe(boardUrl());
    expect(await response.text()).toContain('<title>qianmo</title>');
  });

  it('shows the jobs of the queue', async () => {
    const response = await fetch(`${boardUrl()}/api/queues?activeQueue=inner-loops&status=latest`);
    expect(await response.text()).toContain('board-run');
  });

  it('changes nothing', async () => {
    const response = await fetch(`${boardUrl()}/api/queues/inner-loops/pause`, { method: 'PUT' });
    expect(response.status).toBe(405);
    expect(await redis.client.hget(`${prefix}:inner-loops:meta`, 'paused')).toBeNull();
  });

  it.each([
    ['[::1]:3000', 200],
    ['board.internal:3000', 200],
    ['localhost.evil.example', 403],
    ['127.evil.example', 403],
    ['10.0.0.5', 403],
  ])('answers a request as %s with %d', async (name, status) => {
    expect(await statusAs(name)).toBe(status);
    expect(await statusAs(name, '/metrics')).toBe(status);
  });

  it('tells its metrics under any name to a request with its token', async () => {
    const token = 'abcdefghijklmnop';
    const guarded = await serveDashboard({ ...optionsWith(0), token });
    try {
      const asked = (given: string, host: string): Promise<number | undefined> =>
        statusOf(new URL('/metrics', guarded.url), { host, authorization: `Bearer ${given}` });
      expect(await asked(token, '10.0.0.5:3000')).toBe(200);
      expect(await asked('other', '10.0.0.5:3000')).toBe(403);
      expect(await asked('other', '127.0.0.1')).toBe(401);
    } finally {
      await guarded.close();
    }
  });

  it('reports that its port is in use', async () => {
    const port = Number(new URL(board.url).port);
    await expect(serveDashboard(optionsWith(port))).rejects.toMatchObject({
      kind: 'environment',
      report: { what: 'another program listens on this port', where: `127.0.0.1:${port}` },
    });
  });
});

function statusAs(name: string, path = '/queues/api/queues'): Promise<number | undefined> {
  return statusOf(new URL(path, board.url), { host: name });
}

/** The status of a request with these headers, of which `fetch` does not set Host. */
function statusOf(url: URL, headers: Record<string, string>): Promise<number | undefined> {
  return new Promise((resolve, reject) => {
    const asked = request(url, { headers }, (response) => {
      response.resume();
      resolve(response.statusCode);
    });
    asked.on('error', reject).end();
  });
}
