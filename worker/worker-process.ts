/**
 * A process of one or several workers, from the fork of their compute processes to its end. Each has a name, a lease and
 * jobs of its own, so nobody on the queue can tell them from workers in processes of their own. What they share is this
 * thread: code that does the jobs of several is optimized earlier, and sleeps less often between two of them.
 */

import { resolve } from 'node:path';
import { isInterruption } from '../shared/base/errors.js';
import { freshNonce } from '../shared/base/nonce.js';
import { systemClock } from '../shared/base/clock.js';
import type { ComputeConfig } from '../shared/config/compute-config.js';
import { boundedRate } from '../shared/events/event-log.js';
import { encodeEvent } from '../shared/events/event-lines.js';
import {
  runEventSink,
  toldBy,
  type RunEventSink,
  type StampedEventSink,
} from '../shared/events/run-events.js';
import { createTerminalSink } from '../shared/events/terminal-sink.js';
import { loadGivenPlugins } from '../shared/plugins/load-plugins.js';
import { bullmqJobQueue } from '../shared/queue/bullmq-job-queue.js';
import type { JobQueue } from '../shared/queue/job-queue.js';
import { queueWithLargeBlobs } from '../shared/queue/large-blobs.js';
import { signedJobQueue } from '../shared/signing/signed-job-queue.js';
import { signingKeyOf } from '../shared/signing/signing-key.js';
import { tlsFilesOf } from '../shared/storage/tls-files.js';
import { jobLimitsOf, listedIn, type JobLimits } from './carrying/job-limits.js';
import { runWorker } from './carrying/work-loop.js';
import { createComputeProcess } from './process/compute-process.js';
import type { ForkedEntry } from './process/forked-entry.js';

type Environment = Readonly<Record<string, string | undefined>>;

interface WorkerTerms {
  readonly redisUrl: string;
  readonly prefix: string;
  /** The name of the worker, and the beginning of those of several. */
  readonly name: string;
  /** The workers of this process. */
  readonly count: number;
  /** Those that start at once. Each of the others follows when one before it computes. */
  readonly firstCount: number;
  readonly compute: Pick<ComputeConfig, 'device' | 'portable'> & {
    /** The environment of the compute process. */
    readonly environment: Environment;
  };
  /** The compute process of the first worker; null if it cannot be started, for the reason that its start will tell. */
  readonly forked: ForkedEntry | null;
  readonly plugins: readonly string[];
  readonly storesAllowed: readonly string[];
  readonly endpointsAllowed: readonly string[];
  readonly environment: Environment;
}

const PARENT_GONE_TIMEOUT_MS = 8_000;

/** Workers that wait for another one to compute start at last after this time. */
const OTHERS_START_MS_MAX = 5_000;

/** The parts that all workers of a process use. */
interface SharedParts {
  readonly queue: JobQueue;
  readonly limits: JobLimits;
  readonly sink: RunEventSink;
  /** Aborts when the process is to end. */
  readonly signal: AbortSignal;
}

/** Works until a signal, the loss of the supervisor or the failure of one worker ends all. */
export async function runWorkerProcess(terms: WorkerTerms): Promise<void> {
  const { redisUrl, prefix, environment } = terms;
  const [key, tls] = await Promise.all([signingKeyOf(environment), tlsFilesOf(environment)]);
  const signed = signedJobQueue(bullmqJobQueue({ redisUrl, prefix, clock: systemClock, tls }), key);
  await loadGivenPlugins(terms.plugins);
  const stop = stopRequest();
  const channel = eventChannel();
  const sink = runEventSink({ clock: systemClock }, channel.sink);
  const oneFailed = new AbortController();
  const shared = {
    queue: queueWithLargeBlobs(signed),
    limits: jobLimitsOf({
      stores: [...terms.storesAllowed, ...listedIn(environment['QIANMO_STORE_ALLOW'])],
      endpoints: [...terms.endpointsAllowed, ...listedIn(environment['QIANMO_ENDPOINT_ALLOW'])],
      workingFolder: resolve('.'),
      environment,
    }),
    sink,
    signal: AbortSignal.any([stop, oneFailed.signal]),
  };
  try {
    await allWorkers(terms, shared, () => oneFailed.abort());
  } finally {
    await channel.drain();
  }
}

/** @throws the first failure, when all workers have ended. */
async function allWorkers(
  terms: WorkerTerms,
  shared: SharedParts,
  onFailure: () => void,
): Promise<void> {
  const computing: AbortController[] = [];
  const lives = Array.from({ length: terms.count }, async (_, place) => {
    const computes = new AbortController();
    computing.push(computes);
    const before = computing[place - terms.firstCount];
    if (before !== undefined) {
      const over = AbortSignal.any([before.signal, shared.signal]);
      await systemClock.sleep(OTHERS_START_MS_MAX, over);
    }
    try {
      await oneWorker(terms, place, shared, () => computes.abort());
    } catch (error) {
      onFailure();
      throw error;
    } finally {
      computes.abort();
    }
  });
  for (const life of await Promise.allSettled(lives))
    if (life.status === 'rejected') throw life.reason;
}

async function oneWorker(
  { compute, forked, ...terms }: WorkerTerms,
  place: number,
  { queue, limits, sink: sinkOfAll, signal }: SharedParts,
  onComputes: () => void,
): Promise<void> {
  const isAlone = terms.count === 1;
  const name = isAlone ? terms.name : `${terms.name}-${place + 1}`;
  // A supervisor counts the workers of its process by these.
  const sink = toldBy({ worker: name, ...(isAlone ? {} : { workerIndex: place }) }, sinkOfAll);
  const executor = createComputeProcess({
    clock: systemClock,
    ...compute,
    onEvent: sink,
    ...(forked === null || place > 0 ? {} : { forked }),
  });
  try {
    await executor.start(signal).catch((error: unknown) => {
      // A stop before the start was complete is no failure.
      if (!signal.aborted || !isInterruption(error)) throw error;
    });
    onComputes();
    await runWorker({
      ...{ queue, name, executor, signal, limits },
      nonce: freshNonce(),
      device: compute.device,
      clock: systemClock,
      onEvent: sink,
    });
  } finally {
    await executor.close();
  }
}

/** Aborts at a signal, and when the supervisor is gone. */
function stopRequest(): AbortSignal {
  const stop = new AbortController();
  for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP'] as const)
    process.on(signal, () => stop.abort());
  // A worker with a channel belongs to a supervisor; without it, nobody would stop the worker.
  const onParentGone = (): void => {
    stop.abort();
    void systemClock.sleep(PARENT_GONE_TIMEOUT_MS).then(() => process.exit(1));
  };
  process.on('disconnect', onParentGone);
  // The supervisor may have ended while the modules loaded, before anyone listened.
  if (process.send !== undefined && !process.connected) onParentGone();
  return stop.signal;
}

/**
 * Sends every event to the supervisor as a line, or writes it to standard error where there is none.
 * `drain` waits until the channel has taken all events, so that the last are not lost at the exit.
 */
function eventChannel(): { readonly sink: StampedEventSink; drain(): Promise<void> } {
  const terminal = createTerminalSink({
    stream: process.stderr,
    isTTY: false,
    clock: systemClock,
  });
  let sent = Promise.resolve();
  const send: StampedEventSink = (event) => {
    const line = encodeEvent(event);
    const taken = new Promise<void>((resolve) => {
      // A broken channel is reported by `disconnect`.
      process.send?.(line, undefined, undefined, () => resolve());
    });
    sent = sent.then(() => taken);
  };
  return {
    sink: boundedRate(systemClock, (event) => (process.connected ? send : terminal)(event)),
    drain: () => (process.connected ? sent : Promise.resolve()),
  };
}
