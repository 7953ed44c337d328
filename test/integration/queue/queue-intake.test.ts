/** The locks of the jobs that a worker holds, on a real Redis and a clock that the test moves. */

import { Queue } from 'bullmq';
import { afterAll, afterEach, beforeAll, beforeEach, expect, it } from 'vitest';
import { bullmqJobQueue } from '../../../shared/queue/bullmq-job-queue.js';
import type { JobConsumer } from '../../../shared/queue/job-queue.js';
import { LOCK_DURATION_MS } from '../../../shared/queue/timing.js';
import { QueueIntake, type HeldJob } from '../../../worker/carrying/queue-intake.js';
import { redisForTest, type RedisForTest } from '../../fixtures/queue/redis-for-test.js';
import { steppedClock, type SteppedClock } from '../../fixtures/clocks/stepped-clock.js';

const prefix = '{intake}';
const queueKey = `${prefix}:inner-loops`;
const lockKey = (jobId: string): string => `${queueKey}:${jobId}:lock`;

let redis: RedisForTest;
let queue: Queue;
let openConsumer: (name: string) => Promise<JobConsumer>;
let consumer: JobConsumer;
let intake: QueueIntake;
let clock: SteppedClock;
const troubles: string[] = [];

beforeAll(async () => {
  redis = await redisForTest();
});
afterAll(() => redis.close());
beforeEach(async () => {
  await redis.client.flushall();
  troubles.length = 0;
  clock = steppedClock();
  queue = new Queue('inner-loops', { connection: redis.client, prefix });
  const onError = ({ message }: Error): void => void troubles.push(message);
  const onReconnected = (): void => undefined;
  const jobQueue = bullmqJobQueue({ redisUrl: redis.url, prefix, clock });
  openConsumer = (name) =>
    jobQueue.openConsumer({ name, nonce: name, device: 'cpu', onError, onReconnected });
  consumer = await openConsumer('w');
  intake = new QueueIntake({ consumer, clock, onError });
});
afterEach(async () => {
  await intake.close();
  await consumer.close();
  await queue.close();
});

async function taken(jobId: string): Promise<HeldJob> {
  await queue.add('gradient', {}, { jobId });
  return takenNext();
}

async function takenNext(): Promise<HeldJob> {
  const held = await intake.next();
  if (held === null) throw new Error('no job came');
  return held;
}

/** Returns when the intake has renewed its locks once and processed the answer. */
async function renewal(): Promise<void> {
  await clock.asleep();
  clock.wakeAll();
  await clock.asleep();
}

/** The coordinator's reaction to a job whose lock has expired. */
async function putBackAsStalled(jobId: string): Promise<void> {
  await redis.client.del(lockKey(jobId));
  await redis.client.lrem(`${queueKey}:active`, 1, jobId);
  await redis.client.rpush(`${queueKey}:wait`, jobId);
  await redis.client.zadd(`${queueKey}:marker`, 0, '0');
}

/** True if the next renewal sets the lock to its full length again. */
async function isRenewed(jobId: string): Promise<boolean> {
  await redis.client.pexpire(lockKey(jobId), LOCK_DURATION_MS * 10);
  await renewal();
  const leftMs = await redis.client.pttl(lockKey(jobId));
  return leftMs > 0 && leftMs <= LOCK_DURATION_MS;
}

it('renews the lock of held jobs, and of no finished job', async () => {
  const held = await taken('a');
  expect(await isRenewed('a')).toBe(true);
  await held.fail({ kind: 'transient', reason: 'r' });
  expect(await redis.client.exists(lockKey('a'))).toBe(0);
  await redis.client.set(lockKey('a'), 'of another worker');
  await renewal();
  expect(troubles).toEqual([]);
});

it('reports once that a lock is lost, and releases the job', async () => {
  const kept = await taken('kept');
  const lost = await taken('lost');
  await redis.client.set(lockKey('lost'), 'of another worker');
  await renewal();
  await renewal();
  expect(lost.lost.aborted).toBe(true);
  expect(troubles).toEqual(['the lock of job lost is lost']);
  expect(kept.lost.aborted).toBe(false);
});

it('keeps the lock of a job that it took again when the earlier hold ends', async () => {
  const earlier = await taken('x');
  await putBackAsStalled('x');
  const again = await takenNext();
  expect(again.jobId).toBe('x');
  expect(earlier.lost.aborted).toBe(true);
  await earlier.fail({ kind: 'transient', reason: 'r' });
  expect(await isRenewed('x')).toBe(true);
  expect(again.lost.aborted).toBe(false);
  expect(troubles).toEqual(['the lock of job x is lost']);
});

it('hands nothing back twice when it closes', async () => {
  const held = await taken('y');
  await held.handBack();
  await intake.close();
  expect(troubles).toEqual([]);
  expect(await redis.client.lrange(`${queueKey}:wait`, 0, -1)).toEqual(['y']);
});

it('hands back a job that arrived during closing', async () => {
  const waiting = intake.next();
  await queue.add('gradient', {}, { jobId: 'late' });
  intake.stopTaking();
  const held = await waiting;
  await held?.handBack();
  await intake.close();
  expect(await redis.client.lrange(`${queueKey}:wait`, 0, -1)).toEqual(['late']);
  expect(troubles).toEqual([]);
});

it('looks once at the jobs that wait for a lone worker, and again when another has come', async () => {
  let lookCount = 0;
  const waitingCount = (): Promise<number> => {
    lookCount += 1;
    return consumer.waitingCount();
  };
  await intake.close();
  await consumer.close();
  consumer = await openConsumer('lone');
  intake = new QueueIntake({ consumer: { ...consumer, waitingCount }, clock, onError: () => {} });
  const jobIds = [0, 1, 2, 3, 4, 5, 6].map((job) => `job-${job}`);
  for (const jobId of jobIds) await queue.add('gradient', {}, { jobId });
  const ahead = (): Promise<HeldJob | null> => intake.nextAhead({ onlyOfPlenty: true });
  const taken = [await takenNext(), await ahead(), await ahead(), await ahead()];
  expect(lookCount).toBe(1);
  const other = await openConsumer('other');
  await renewal();
  // Three jobs are not plenty for two workers.
  taken.push(await ahead());
  expect(lookCount).toBe(2);
  expect(taken.map((job) => job?.jobId)).toEqual([...jobIds.slice(0, 4), undefined]);
  await other.close();
});
