import { Queue } from 'bullmq';
import { Redis } from 'ioredis';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  serveDashboard,
  type Dashboard,
  type DashboardOptions,
} from '../../../coordinator/dashboard/serve-dashboard.js';
import { systemClock } from '../../../shared/base/clock.js';
import { openedOnce } from '../../fixtures/opened.js';
import { redisForTest } from '../../fixtures/queue/redis-for-test.js';
import { expectFailureOf } from '../../fixtures/failures.js';

const prefix = '{board}';
const host = '127.0.0.1';
const redis = openedOnce(redisForTest);
let board: Dashboard;
const boardUrl = (): string => `${board.url}queues`;
const optionsWith = (port: number): DashboardOptions => ({
  ...{ roots: [], s3: { region: 'us-east-1', forcePathStyle: true }, clock: systemClock },
  queue: { redisUrl: redis.url, tls: null, prefix },
  ...{ port, host },
});

beforeAll(async () => {
  const connection = new Redis(redis.url, { maxRetriesPerRequest: null });
  const queue = new Queue('inner-loops', { connection, prefix });
  await queue.add('gradient', { runId: 'board-run' }, { jobId: 'shown-job' });
  await queue.close();
  connection.disconnect();
  board = await serveDashboard(optionsWith(0));
});
afterAll(async () => {
  await board.close();
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

  it('reports that its port is in use', async () => {
    const port = Number(new URL(board.url).port);
    await expectFailureOf(serveDashboard(optionsWith(port)), 'environment', {
      what: 'another program listens on this port',
      where: `127.0.0.1:${port}`,
    });
  });
});
