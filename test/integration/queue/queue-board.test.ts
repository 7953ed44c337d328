import { request } from 'node:http';
import { Queue } from 'bullmq';
import { Redis } from 'ioredis';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { serveQueueBoard, type QueueBoard } from '../../../coordinator/dashboard/queue-board.js';
import { redisForTest, type RedisForTest } from '../../fixtures/queue/redis-for-test.js';

const prefix = '{board}';
const host = '127.0.0.1';
let redis: RedisForTest;
let board: QueueBoard;

beforeAll(async () => {
  redis = await redisForTest();
  const connection = new Redis(redis.url, { maxRetriesPerRequest: null });
  const queue = new Queue('inner-loops', { connection, prefix });
  await queue.add('gradient', { runId: 'board-run' }, { jobId: 'shown-job' });
  await queue.close();
  connection.disconnect();
  board = await serveQueueBoard({
    redisUrl: redis.url,
    prefix,
    port: 0,
    host,
    hostsAllowed: ['Board.internal'],
  });
});
afterAll(async () => {
  await board.close();
  await redis.close();
});

describe('the queue board', () => {
  it.each(['/', '/queues/'])('links %s to its page', async (path) => {
    const origin = new URL(board.url).origin;
    const response = await fetch(`${origin}${path}`);
    expect(response.status).toBe(200);
    expect(response.url).toBe(board.url);
    expect(await response.text()).toContain('<title>qianmo</title>');
  });

  it('shows the jobs of the queue', async () => {
    const response = await fetch(`${board.url}/api/queues?activeQueue=inner-loops&status=latest`);
    expect(await response.text()).toContain('board-run');
  });

  it('changes nothing', async () => {
    const response = await fetch(`${board.url}/api/queues/inner-loops/pause`, { method: 'PUT' });
    expect(response.status).toBe(405);
    expect(await redis.client.hget(`${prefix}:inner-loops:meta`, 'paused')).toBeNull();
  });

  it.each(['localhost', '127.0.0.1', '127.0.0.1:80', '[::1]:3000', 'board.internal:3000'])(
    'answers as %s',
    async (name) => {
      expect(await statusAs(name)).toBe(200);
    },
  );

  it.each(['evil.example', 'localhost.evil.example', '127.0.0.1.evil.example:3000', '10.0.0.5'])(
    'does not answer as %s',
    async (name) => {
      expect(await statusAs(name)).toBe(403);
    },
  );

  it('reports that its port is in use', async () => {
    const port = Number(new URL(board.url).port);
    await expect(
      serveQueueBoard({ redisUrl: redis.url, prefix, port, host }),
    ).rejects.toMatchObject({
      kind: 'environment',
      report: { what: 'another program listens on this port', where: `127.0.0.1:${port}` },
    });
  });
});

/** The status of a request for the jobs of the queue with this Host header, which `fetch` does not set. */
function statusAs(name: string): Promise<number | undefined> {
  return new Promise((resolve, reject) => {
    const asked = request(`${board.url}/api/queues`, { headers: { host: name } }, (response) => {
      response.resume();
      resolve(response.statusCode);
    });
    asked.on('error', reject).end();
  });
}
