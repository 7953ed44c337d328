/**
 * The limit of a step over the queue: as many bytes between as many clients of the same library over the same Redis, and
 * nothing else. A delivery is one value each way, each announced by a push to a list.
 *
 *   node bare-exchange.js redis://127.0.0.1:6379 CLIENTS MS BYTES     answers deliveries of BYTES after MS
 */

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { Redis } from 'ioredis';
import { median } from '../../../shared/base/arrays.js';
import { systemClock } from '../../../shared/base/clock.js';

const SELF = fileURLToPath(import.meta.url);
const [SENT, ANSWERED] = ['bare:sent', 'bare:answered'];
const WARM_UP_STEPS = 3;

export interface BareStep {
  readonly deliveryCount: number;
  /** The bytes of a delivery, each way. */
  readonly byteCount: number;
  /** What a client sleeps between the two. */
  readonly computeMs: number;
}

/** The clients that answer, by process. */
type ClientCounts = readonly number[];

/** The median time of a step of nothing but its bytes, in milliseconds. */
export async function bareStepMs(
  redisUrl: string,
  clientCounts: ClientCounts,
  { deliveryCount, byteCount, computeMs }: BareStep,
  steps: number,
): Promise<number> {
  const clients = clientCounts.map((count) => {
    const words = [SELF, redisUrl, String(count), String(computeMs), String(byteCount)];
    return spawn(process.execPath, words, { stdio: 'ignore' });
  });
  const [redis, waiting] = [new Redis(redisUrl), new Redis(redisUrl)];
  const bytes = Buffer.alloc(byteCount, 1);
  const tookMs: number[] = [];
  try {
    for (let step = 0; step < WARM_UP_STEPS + steps; step += 1) {
      const startMs = systemClock.monotonicMs();
      const keys = Array.from({ length: deliveryCount }, (_, place) => `bare:${step}:${place}`);
      for (const key of keys) {
        void redis.set(key, bytes);
        void redis.rpush(SENT, key);
      }
      const answers: Promise<unknown>[] = [];
      while (answers.length < deliveryCount) {
        const [, key = ''] = (await waiting.blpop(ANSWERED, 0)) ?? [];
        answers.push(redis.getBuffer(key));
      }
      await Promise.all(answers);
      if (step >= WARM_UP_STEPS) tookMs.push(systemClock.monotonicMs() - startMs);
      void redis.unlink(...keys, ...keys.map((key) => `${key}:answer`));
    }
    return median(tookMs);
  } finally {
    for (const client of clients) {
      client.kill('SIGTERM');
      await once(client, 'close');
    }
    redis.disconnect();
    waiting.disconnect();
  }
}

/** The bytes that a server has received so far. A blob is sent to it once, and read once. */
export async function receivedByteCount(redisUrl: string): Promise<number> {
  const redis = new Redis(redisUrl);
  const found = /total_net_input_bytes:(\d+)/.exec(await redis.info('stats'))?.[1];
  redis.disconnect();
  return Number(found);
}

async function answer(redisUrl: string, computeMs: number, bytes: Buffer): Promise<never> {
  const [redis, waiting] = [new Redis(redisUrl), new Redis(redisUrl)];
  for (;;) {
    const [, key = ''] = (await waiting.blpop(SENT, 0)) ?? [];
    await redis.getBuffer(key);
    if (computeMs > 0) await systemClock.sleep(computeMs);
    void redis.set(`${key}:answer`, bytes);
    void redis.rpush(ANSWERED, `${key}:answer`);
  }
}

if (process.argv[1] === SELF) {
  const [redisUrl = '', clients, computeMs, byteCount] = process.argv.slice(2);
  const bytes = Buffer.alloc(Number(byteCount), 2);
  for (let client = 0; client < Number(clients); client += 1)
    void answer(redisUrl, Number(computeMs), bytes);
}
