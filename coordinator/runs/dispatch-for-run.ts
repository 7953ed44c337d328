/**
 * Opens a dispatcher for one run: on this machine without a queue, which is the default, or on a queue that
 * workers serve.
 */

import { resolve } from 'node:path';
import { QianmoError, errorOf } from '../../shared/base/errors.js';
import { freshNonce } from '../../shared/base/nonce.js';
import { redactedAddress } from '../../shared/base/redacted-address.js';
import type { RunConfig } from '../../shared/config/run-config.js';
import type { LargeBlobs } from '../../shared/queue/protocol.js';
import { signedJobQueue, signingKeyOf } from '../../shared/queue/signed-job-queue.js';
import type { Dispatcher } from '../dispatch/dispatcher.js';
import type { StartMore } from '../dispatch/in-memory-dispatcher.js';
import { tlsFilesOf } from '../../shared/storage/tls-files.js';
import type { RunContext, WorkerCommand } from './run-context.js';
import { storeAddressOf } from './places.js';
import { type ChildProcess, spawn } from 'node:child_process';
import type { Clock } from '../../shared/base/clock.js';
import { endInTime, superviseProcess } from '../../shared/base/supervise.js';
import { parseEventLine } from '../../shared/events/event-lines.js';
import {
  type RunEventOf,
  type RunEventSink,
  noticeEvent,
  toldBy,
  warningEvent,
} from '../../shared/events/run-events.js';

export interface DispatchChoice {
  /** Compute in so many processes of this machine, without a queue; as many as pay off if absent. */
  readonly processes?: number | undefined;
  /** The Redis server of a queue, instead of the one in the config. */
  readonly redis?: string | undefined;
  /** Workers of this machine on a queue; others serve it if absent. */
  readonly workers?: number | undefined;
}

interface DispatchedWork {
  /** The name under which it takes the lease, and under which people cancel it. */
  readonly runId: string;
  /** The number of trainings at the same time, as in a sweep; 1 by default. */
  readonly trainingsAtOnce?: number;
}

export interface RunDispatch {
  readonly dispatcher: Dispatcher;
  /** Null without a queue. */
  readonly redisUrl: string | null;
}

const WORKER_RESTARTS_MAX = 100;

/**
 * Whether the jobs of a run go over a queue: if a Redis server is named, by the option, its environment variable or
 * the config, or if workers are to be started. `processes` overrules the server.
 *
 * @throws QianmoError `usage` if processes and workers are given.
 */
export function isOverQueue(
  { queue }: Pick<RunConfig, 'queue'>,
  { processes, redis, workers }: DispatchChoice,
): boolean {
  if (processes !== undefined && workers !== undefined)
    throw errorOf('usage', 'processes and workers cannot be given together', {
      expected: 'processes, which compute without a queue, or workers, which serve one',
      cure: 'leave out one of them',
    });
  if (processes !== undefined) return false;
  return redis !== undefined || workers !== undefined || queue.redisUrl !== 'embedded';
}

/**
 * Everything started here is stopped when the context closes. Processes are started first: they take
 * longest, and what this process needs beside them is loaded meanwhile.
 */
export function dispatchForRun(
  config: RunConfig,
  work: DispatchedWork,
  choice: DispatchChoice,
  context: RunContext,
): Promise<RunDispatch> {
  return isOverQueue(config, choice)
    ? queueDispatch(config, work, choice, context)
    : localDispatch(config, choice.processes, context);
}

/**
 * Opens something while what computes is being started. If it cannot be opened, this is what is told, and
 * the start is broken off.
 */
export async function openWithDispatch<Opened>(
  config: RunConfig,
  choice: DispatchChoice,
  context: RunContext,
  open: () => Promise<Opened>,
): Promise<[Opened, RunDispatch]> {
  const giveUp = new AbortController();
  const signal = AbortSignal.any([context.signal, giveUp.signal]);
  const work = { runId: config.run };
  const starting = dispatchForRun(config, work, choice, { ...context, signal });
  const opening = open();
  opening.catch(() =>
    giveUp.abort(new QianmoError({ kind: 'interrupted', what: 'the start was given up' })),
  );
  const [opened, started] = await Promise.allSettled([opening, starting]);
  if (opened.status === 'rejected') throw opened.reason;
  if (started.status === 'rejected') throw started.reason;
  return [opened.value, started.value];
}

/** @param processCount is fixed if given. Otherwise one process begins, and others follow if they pay off. */
async function localDispatch(
  config: RunConfig,
  processCount: number | undefined,
  context: RunContext,
): Promise<RunDispatch> {
  const { clock, machine, sink } = context;
  const { compute, queue } = config;
  const [executors, { createInMemoryDispatcher }] = await Promise.all([
    machine.startExecutors(compute, processCount ?? 1, context),
    import('../dispatch/in-memory-dispatcher.js'),
  ]);
  const startMore: StartMore = async (count, closed) => {
    const signal = AbortSignal.any([context.signal, closed]);
    return machine.startMoreExecutors(
      compute,
      { started: executors, count },
      { ...context, signal },
    );
  };
  const dispatcher = createInMemoryDispatcher({
    ...{ executors, clock, sink },
    startMore: processCount === undefined ? startMore : undefined,
    attemptsMax: queue.jobAttemptsMax,
  });
  context.onClose(() => dispatcher.close());
  return { dispatcher, redisUrl: null };
}

async function queueDispatch(
  config: RunConfig,
  work: DispatchedWork,
  choice: DispatchChoice,
  context: RunContext,
): Promise<RunDispatch> {
  // A worker without the demanded device would be restarted forever, so the device is checked first.
  if (choice.workers !== undefined)
    await context.machine.requireDevice(config.compute.device, context);
  const redis = await redisForRun(config, choice, context);
  const workers = await localWorkers(config, choice, redis.url, context);
  // Nobody else can have a claim on a server of this run's own.
  if (redis.isOwn) workers?.start();
  const dispatcher = await openQueueDispatcher(config, work, redis.url, context);
  if (workers === null)
    context.sink({
      kind: 'workers-awaited',
      redisAddress: redactedAddress(redis.url),
      addressFile: redis.addressFile,
      prefix: config.queue.prefix,
      places: placesOf(config).map(({ address }) => address),
    });
  else if (!redis.isOwn) workers.start();
  context.onClose(() => dispatcher.close());
  return { dispatcher, redisUrl: redis.url };
}

async function openQueueDispatcher(
  config: RunConfig,
  { runId, trainingsAtOnce }: DispatchedWork,
  redisUrl: string,
  { signal, clock, sink, environment }: RunContext,
): Promise<Dispatcher> {
  const [
    key,
    tls,
    { bullmqJobQueue },
    { ownPlaceOf, queueWithLargeBlobs, removeLargeBlobs },
    { createQueueDispatcher },
  ] = await Promise.all([
    signingKeyOf(environment),
    tlsFilesOf(environment),
    import('../../shared/queue/bullmq-job-queue.js'),
    import('../../shared/queue/large-blobs.js'),
    import('../dispatch/queue-dispatcher.js'),
  ]);
  const { prefix } = config.queue;
  const queue = signedJobQueue(bullmqJobQueue({ redisUrl, prefix, clock, tls }), key);
  const shared = sharedBlobsOf(config);
  const largeBlobs = shared === undefined ? undefined : ownPlaceOf(shared, runId);
  const dispatcher = await createQueueDispatcher({
    queue: queueWithLargeBlobs(queue),
    limits: config.queue,
    largeBlobs,
    ...{ runId, trainingsAtOnce },
    nonce: freshNonce(),
    signal,
    clock,
    sink,
  });
  // The lease of the run is taken, so that nobody else needs what lies there.
  if (largeBlobs !== undefined)
    await removeLargeBlobs(largeBlobs).catch(async (error: unknown) => {
      await dispatcher.close();
      throw error;
    });
  return dispatcher;
}

/** Null if workers are started elsewhere. */
async function localWorkers(
  config: RunConfig,
  { workers: count }: DispatchChoice,
  redisUrl: string,
  { machine, clock, sink, environment, onClose }: RunContext,
): Promise<{ readonly start: () => void } | null> {
  if (count === undefined) return null;
  const { prefix } = config.queue;
  const { device, portable } = config.compute;
  const command = await machine.workerCommand({
    ...{ redisUrl, prefix, device, portable, environment },
    stores: placesOf(config),
  });
  return {
    start: () => {
      const restartsMax = WORKER_RESTARTS_MAX;
      const workers = superviseWorkers({ count, command, clock, sink, restartsMax });
      onClose(() => workers.stop());
    },
  };
}

/** The rows of a stream travel in its jobs. */
function placesOf(config: RunConfig) {
  const largeBlobs = sharedBlobsOf(config);
  return [
    ...('model' in config ? [storeAddressOf(config)] : []),
    ...(largeBlobs === undefined ? [] : [largeBlobs.address]),
  ].map((address) => ({ address, endpoint: config.storage.s3Endpoint }));
}

/** The place of large blobs, which runs of the same config share. */
function sharedBlobsOf({ queue, storage }: RunConfig): LargeBlobs | undefined {
  const { largeBlobs } = queue;
  if (largeBlobs === undefined) return undefined;
  const { address, byteCountMin } = largeBlobs;
  return {
    address: address.includes('://') ? address : resolve(address),
    ...{ byteCountMin, storage },
  };
}

interface RunRedis {
  readonly url: string;
  /** A file with the address of an embedded server. */
  readonly addressFile: string | null;
  /** True for a server that was started for this run and ends with it. */
  readonly isOwn: boolean;
}

async function redisForRun(
  { queue }: Pick<RunConfig, 'queue'>,
  choice: DispatchChoice,
  context: RunContext,
): Promise<RunRedis> {
  const url = choice.redis ?? queue.redisUrl;
  if (url !== 'embedded') return { url, addressFile: null, isOwn: false };
  try {
    const redis = await context.machine.startRedis();
    context.onClose(() => redis.stop());
    return { ...redis, isOwn: true };
  } catch (cause) {
    throw errorOf('environment', 'no Redis server could be started', {
      cure:
        'install redis-server, name one with --redis redis://host:port, or leave out --workers to compute ' +
        'without a queue',
      cause,
    });
  }
}

interface SuperviseWorkersOptions {
  readonly count: number;
  readonly command: WorkerCommand;
  readonly clock: Clock;
  readonly sink: RunEventSink;
  /** The limit on restarts, counted over all workers. One is forgotten every minute. */
  readonly restartsMax: number;
}

interface SupervisedWorkers {
  /** The processes that run at present. */
  pids(): number[];
  /** Ends all workers and resolves when the last one has exited. */
  stop(): Promise<void>;
}

/** A worker that was asked to stop is killed after this time; it hands its job back within 5 s. */
const STOP_TIMEOUT_MS = 7_000;
/** A run of weeks must not end because something fails once a day. */
const RESTART_FORGOTTEN_MS = 60_000;
const LAST_WORDS_LENGTH_MAX = 4_000;

export function superviseWorkers(options: SuperviseWorkersOptions): SupervisedWorkers {
  const { count, command, clock, sink: sinkOfAll, restartsMax } = options;
  const stopping = new AbortController();
  const running = new Set<ChildProcess>();
  const mayRestart = restartBudget(restartsMax, clock);
  const lives = Array.from({ length: count }, (_, index) => {
    const sink = toldBy({ workerIndex: index }, sinkOfAll);
    return superviseProcess({
      ...{ clock, stopping: stopping.signal },
      runOnce: () => runWorkerOnce(command, index, sink, running),
      onEnd: ({ event, worker }) => {
        sink(event, { worker });
        if (mayRestart()) return true;
        const text = `not started again: ${restartsMax} restarts are used up`;
        sink(warningEvent('worker-given-up', text));
        return false;
      },
      onRestart: () => sink(noticeEvent('worker-restarted', 'started again')),
    });
  });
  return {
    pids: () => [...running].flatMap(({ pid }) => pid ?? []),
    stop: async () => {
      stopping.abort();
      for (const child of running) child.kill('SIGTERM');
      await endInTime(running, Promise.all(lives), { clock, graceMs: STOP_TIMEOUT_MS });
    },
  };
}

/** Returns a function that counts a restart, and returns false if they are used up. */
function restartBudget(restartsMax: number, clock: Clock): () => boolean {
  let count = 0;
  let countedMs = clock.monotonicMs();
  return () => {
    const nowMs = clock.monotonicMs();
    count = Math.max(0, count - (nowMs - countedMs) / RESTART_FORGOTTEN_MS);
    countedMs = nowMs;
    if (count + 1 > restartsMax) return false;
    count += 1;
    return true;
  };
}

interface WorkerEnd {
  readonly event: RunEventOf<'worker-exited'>;
  /** The name of the worker, if it sent an event. */
  readonly worker: string | undefined;
}

/** Resolves when the process has ended. Passes on its events until then. */
function runWorkerOnce(
  { path, argsOf, env }: WorkerCommand,
  index: number,
  sink: RunEventSink,
  running: Set<ChildProcess>,
): Promise<WorkerEnd> {
  const child = spawn(path, [...argsOf(index)], {
    env,
    stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
    // A separate session, because the coordinator handles Ctrl-C on the terminal.
    detached: true,
  });
  running.add(child);
  let lastWords = '';
  child.stderr?.setEncoding('utf8').on('data', (text: string) => {
    lastWords = (lastWords + text).slice(-LAST_WORDS_LENGTH_MAX);
  });
  let worker: string | undefined;
  let isMisunderstood = false;
  child.on('message', (message) => {
    try {
      const event = parseEventLine(typeof message === 'string' ? message : 'no text');
      worker = event.worker ?? worker;
      sink(event, event);
    } catch (error) {
      if (!(error instanceof QianmoError)) throw error;
      // Reported once for each process.
      if (isMisunderstood) return;
      isMisunderstood = true;
      const text = `sent a message that is not an event: ${error.report.found ?? error.message}`;
      sink(warningEvent('worker-misunderstood', text));
    }
  });
  return new Promise((resolve) => {
    const finish = (end: Pick<WorkerEnd['event'], 'exitCode' | 'signal' | 'reason'>): void => {
      running.delete(child);
      const pid = child.pid ?? 0;
      const event = { kind: 'worker-exited', pid, ...end, lastWords: lastWords.trim() } as const;
      resolve({ event, worker });
    };
    child.once('error', ({ message }) => finish({ exitCode: null, signal: null, reason: message }));
    child.once('close', (exitCode, signal) => finish({ exitCode, signal, reason: null }));
  });
}
