/**
 * The registry of live workers in Redis: they send heartbeats, and the clock of the server decides who has been silent
 * for too long. The keys are a sorted set of the last heartbeats and a hash of records. A quarantine is a key that
 * lives as long as it does.
 */

import { z } from 'zod';
import { ConnectedWorkerSchema, type ConnectedWorker } from './job-queue.js';
import type { RedisConnection } from './redis-connection.js';
import { WORKER_SILENCE_MS_MAX } from './timing.js';

/**
 * KEYS: beats, records. ARGV: instance, record as JSON, longest silence in ms, 1 to take a free name.
 * Returns the name and the number of live workers. A name that a live worker has gets a number behind.
 * After a failover to a server whose clock is behind, beats lie in the future: they count as of now.
 */
const BEAT = `
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
for _, id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '(' .. now, '+inf')) do
  redis.call('ZADD', KEYS[1], now, id)
end
for _, id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', '(' .. (now - ARGV[3]))) do
  redis.call('ZREM', KEYS[1], id)
  redis.call('HDEL', KEYS[2], id)
end
local record = cjson.decode(ARGV[2])
if ARGV[4] == '1' then
  local taken = {}
  for _, text in ipairs(redis.call('HVALS', KEYS[2])) do taken[cjson.decode(text).name] = true end
  local wanted, number = record.name, 1
  while taken[record.name] do
    number = number + 1
    record.name = wanted .. '-' .. number
  end
  record.sinceMs = now
end
redis.call('ZADD', KEYS[1], now, ARGV[1])
redis.call('HSET', KEYS[2], ARGV[1], cjson.encode(record))
redis.call('PEXPIRE', KEYS[1], ARGV[3])
redis.call('PEXPIRE', KEYS[2], ARGV[3])
return {record.name, record.sinceMs, redis.call('ZCARD', KEYS[1])}`;

/** KEYS: beats. ARGV: silence in ms. Returns those that have been silent for longer. */
const SILENT = `
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
return redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', '(' .. (now - ARGV[1]))`;

const BeatReplySchema = z.tuple([z.string(), z.number(), z.number()]);
const RepliesSchema = z.tuple([z.array(z.string()), z.array(z.string())]);

export function redisWorkerRegistry(redis: RedisConnection, prefix: string) {
  const [beats, records] = [`${prefix}:workers:beats`, `${prefix}:workers`];
  const quarantineOf = (worker: string): string => `${prefix}:quarantine:${worker}`;
  const beat = async (record: ConnectedWorker, isNew: boolean) => {
    const args = [record.instance, JSON.stringify(record), WORKER_SILENCE_MS_MAX, isNew ? 1 : 0];
    return BeatReplySchema.parse(await redis.eval(BEAT, 2, beats, records, ...args));
  };
  return {
    /** Registers the worker, and returns its record with the name that it gets. */
    enter: async (worker: Omit<ConnectedWorker, 'sinceMs' | 'jobId'>): Promise<ConnectedWorker> => {
      const [name, sinceMs] = await beat({ ...worker, sinceMs: 0, jobId: null }, true);
      return { ...worker, name, sinceMs, jobId: null };
    },
    /** Returns the number of live workers. */
    beat: async (worker: ConnectedWorker): Promise<number> => (await beat(worker, false))[2],
    leave: async (instance: string): Promise<void> => {
      await redis.multi().zrem(beats, instance).hdel(records, instance).exec();
    },
    quarantine: async (worker: string, durationMs: number): Promise<void> => {
      await redis.set(quarantineOf(worker), '', 'PX', Math.max(1, durationMs));
    },
    /** How much longer the worker is quarantined. A key that is not there has a negative lifetime. */
    quarantinedMs: async (worker: string): Promise<number> =>
      Math.max(0, await redis.pttl(quarantineOf(worker))),
    /**
     * All records travel and the silent are left out here: a script that looked up each live one would take Redis
     * several times as long.
     */
    workers: async (): Promise<ConnectedWorker[]> => {
      const asked = redis.multi().eval(SILENT, 1, beats, WORKER_SILENCE_MS_MAX).hvals(records);
      const replies = (await asked.exec())?.map(([error, reply]) => {
        if (error !== null) throw error;
        return reply;
      });
      const [silent, texts] = RepliesSchema.parse(replies);
      const isSilent = new Set(silent);
      return texts
        .map((text) => ConnectedWorkerSchema.parse(JSON.parse(text)))
        .filter(({ instance }) => !isSilent.has(instance));
    },
  };
}
