/**
 * The registry of live processes in Redis: workers and starts of coordinators report at intervals, and the clock of
 * the server decides who has been silent for too long. The keys are a sorted set of the last beats of each
 * kind, and for workers two hashes: their records, which all versions must agree on, and their reports, which
 * none needs. A quarantine is a key that lives as long as it does.
 */

import { z } from 'zod';
import type { ConnectedWorker, ReportedWorker } from './job-queue.js';
import type { RedisConnection } from './redis-connection.js';
import { WORKER_SILENCE_MS_MAX } from './timing.js';
import { decodeWorkerReport, encodeWorkerReport, type WorkerReport } from './worker-report.js';

/**
 * The first lines of every script. After a failover to a server whose clock is behind, beats lie in the
 * future: they count as of now.
 */
const NOW = `
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)`;
const NO_BEAT_OF_THE_FUTURE = `
for _, id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '(' .. now, '+inf')) do
  redis.call('ZADD', KEYS[1], now, id)
end`;

/**
 * KEYS: beats, records, reports. ARGV: instance, record as JSON, longest silence in ms, 1 to take a free name,
 * report as text, empty for none.
 * Returns the name and the number of live workers. A name that a live worker has gets a number behind.
 */
const BEAT_OF_WORKER = `${NOW}${NO_BEAT_OF_THE_FUTURE}
for _, id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', '(' .. (now - ARGV[3]))) do
  redis.call('ZREM', KEYS[1], id)
  redis.call('HDEL', KEYS[2], id)
  redis.call('HDEL', KEYS[3], id)
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
if ARGV[5] ~= '' then redis.call('HSET', KEYS[3], ARGV[1], ARGV[5]) end
redis.call('PEXPIRE', KEYS[3], ARGV[3])
return {record.name, record.sinceMs, redis.call('ZCARD', KEYS[1])}`;

/** KEYS: beats. ARGV: start. */
const BEAT_OF_START = `${NOW}${NO_BEAT_OF_THE_FUTURE}
redis.call('ZADD', KEYS[1], now, ARGV[1])`;

/** KEYS: beats. ARGV: silence in ms. Returns those that have been silent for longer. */
const SILENT = `${NOW}
return redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', '(' .. (now - ARGV[1]))`;

const WorkerRecordSchema = z.strictObject({
  name: z.string(),
  instance: z.string(),
  device: z.string(),
  sinceMs: z.number(),
  jobId: z.string().nullable(),
});
const BeatReplySchema = z.tuple([z.string(), z.number(), z.number()]);
const texts = z.array(z.string());
const RepliesSchema = z.tuple([texts, texts]);
const ReportedSchema = z.tuple([texts, texts, z.record(z.string(), z.string())]);

function repliesIn(found: readonly (readonly [error: Error | null, reply: unknown])[] | null) {
  return found?.map(([error, reply]) => {
    if (error !== null) throw error;
    return reply;
  });
}

export interface WorkerRegistry {
  /** Registers the worker, and returns its record with the name that it gets. */
  enter(
    worker: Omit<ConnectedWorker, 'sinceMs' | 'jobId'>,
    report: WorkerReport | null,
  ): Promise<ConnectedWorker>;
  /** Returns the number of live workers. */
  beat(worker: ConnectedWorker, report: WorkerReport | null): Promise<number>;
  leave(instance: string): Promise<void>;
  workers(): Promise<ConnectedWorker[]>;
  reportedWorkers(): Promise<ReportedWorker[]>;
}

export function redisWorkerRegistry(redis: RedisConnection, prefix: string): WorkerRegistry {
  const [beats, records] = [`${prefix}:workers:beats`, `${prefix}:workers`];
  const reports = `${prefix}:workers:reports`;
  const beat = async (record: ConnectedWorker, report: WorkerReport | null, isNew: boolean) => {
    const args = [record.instance, JSON.stringify(record), WORKER_SILENCE_MS_MAX, isNew ? 1 : 0];
    const said = report === null ? '' : encodeWorkerReport(report);
    const reply = await redis.eval(BEAT_OF_WORKER, 3, beats, records, reports, ...args, said);
    const [name, sinceMs, liveCount] = BeatReplySchema.parse(reply);
    return { record: { ...record, name, sinceMs }, liveCount };
  };
  /**
   * All records travel and the silent are left out here: a script that looked up each live one would take Redis
   * several times as long.
   */
  const liveRead = () => redis.multi().eval(SILENT, 1, beats, WORKER_SILENCE_MS_MAX).hvals(records);
  return {
    enter: async (worker, report) =>
      (await beat({ ...worker, sinceMs: 0, jobId: null }, report, true)).record,
    beat: async (worker, report) => (await beat(worker, report, false)).liveCount,
    leave: async (instance) => {
      const leaving = redis.multi().zrem(beats, instance).hdel(records, instance);
      await leaving.hdel(reports, instance).exec();
    },
    workers: async () => {
      const replies = await liveRead().exec();
      return liveOf(...RepliesSchema.parse(repliesIn(replies)));
    },
    reportedWorkers: async () => {
      const replies = await liveRead().hgetall(reports).exec();
      const [silent, texts, textByInstance] = ReportedSchema.parse(repliesIn(replies));
      return liveOf(silent, texts).map((worker) => ({
        ...worker,
        report: decodeWorkerReport(textByInstance[worker.instance] ?? null),
      }));
    },
  };
}

/** @param texts the records of all workers, silent ones included. */
function liveOf(silent: readonly string[], texts: readonly string[]): ConnectedWorker[] {
  const isSilent = new Set(silent);
  return texts
    .map((text) => WorkerRecordSchema.parse(JSON.parse(text)))
    .filter(({ instance }) => !isSilent.has(instance));
}

export interface StartRegistry {
  beat(start: string): Promise<void>;
  silent(silenceMs: number): Promise<string[]>;
  forget(start: string): Promise<void>;
}

export function redisStartRegistry(redis: RedisConnection, prefix: string): StartRegistry {
  const beats = `${prefix}:starts:beats`;
  return {
    beat: async (start) => {
      await redis.eval(BEAT_OF_START, 1, beats, start);
    },
    silent: async (silenceMs) =>
      z.array(z.string()).parse(await redis.eval(SILENT, 1, beats, silenceMs)),
    forget: async (start) => {
      await redis.zrem(beats, start);
    },
  };
}

/** The key that is there as long as a worker is quarantined. */
export function quarantineKeyOf(prefix: string, worker: string): string {
  return `${prefix}:quarantine:${worker}`;
}

/**
 * The message that tells a coordinator that one of its jobs has finished, over a channel of Redis. A message may be
 * lost: the record of the job is the truth. BullMQ's own events would go to every coordinator of the queue, which
 * would parse the results of all runs.
 */

const WakeUpSchema = z.strictObject({
  jobId: z.string(),
  /** The result, as the queue keeps it; absent when the job failed. */
  returnValue: z.unknown().optional(),
});
type WakeUpMessage = z.infer<typeof WakeUpSchema>;

/**
 * @param prefix of the queue's keys; a user with few rights may use the channels below it.
 * @param start the nonce of the start that hears the channel
 */
export function wakeUpChannelOf(prefix: string, start: string): string {
  return `${prefix}:wake-ups:${start}`;
}

/** The nonce of the start that has added a job, which `startSuffixOf` put into its id. Empty without one. */
export function startOf(jobId: string): string {
  return /-([^-]+)-\d+$/.exec(jobId)?.[1] ?? '';
}

export function wakeUpText(message: WakeUpMessage): string {
  return JSON.stringify(message);
}

/** Null for anything else that somebody has sent. */
export function wakeUpOf(text: string): WakeUpMessage | null {
  try {
    return WakeUpSchema.safeParse(JSON.parse(text)).data ?? null;
  } catch {
    return null;
  }
}
