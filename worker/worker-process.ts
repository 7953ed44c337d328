/** The process of a local worker, from the start of its compute process to its end. */

import { resolve } from 'node:path';
import { isInterruption } from '../shared/base/errors.js';
import { freshNonce } from '../shared/base/nonce.js';
import { systemClock } from '../shared/base/clock.js';
import type { ComputeConfig } from '../shared/config/compute-config.js';
import { boundedRate } from '../shared/events/event-log.js';
import { encodeEvent } from '../shared/events/event-lines.js';
import { runEventSink, toldBy, type StampedEventSink } from '../shared/events/run-events.js';
import { createTerminalSink } from '../shared/events/terminal-sink.js';
import { loadGivenPlugins } from '../shared/plugins/load-plugins.js';
import { bullmqJobQueue } from '../shared/queue/bullmq-job-queue.js';
import { queueWithLargeBlobs } from '../shared/queue/large-blobs.js';
import { signedJobQueue, signingKeyOf } from '../shared/queue/signed-job-queue.js';
import { tlsFilesOf } from '../shared/storage/tls-files.js';
import { loadNativeRows } from '../shared/tensors/native-rows.js';
import { jobLimitsOf, listedIn } from './carrying/job-limits.js';
import { runWorker } from './carrying/work-loop.js';
import { createComputeProcess } from './process/compute-process.js';
import type { ForkedEntry } from './process/forked-entry.js';

type Environment = Readonly<Record<string, string | undefined>>;

interface WorkerTerms {
  readonly redisUrl: string;
  readonly prefix: string;
  readonly name: string;
  readonly compute: Pick<ComputeConfig, 'device' | 'portable'> & {
    /** The environment of the compute process. */
    readonly environment: Environment;
  };
  /** The compute process; null if it cannot be started, for the reason that its start will report. */
  readonly forked: ForkedEntry | null;
  readonly plugins: readonly string[];
  /** The addon with loops over table rows, for joins here and for the compute process; absent where there is none. */
  readonly rowAddon: string | undefined;
  readonly storesAllowed: readonly string[];
  readonly endpointsAllowed: readonly string[];
  readonly environment: Environment;
}

const PARENT_GONE_TIMEOUT_MS = 8_000;

/** Works until a signal or the loss of the supervisor. */
export async function runWorkerProcess(terms: WorkerTerms): Promise<void> {
  const { redisUrl, prefix, name, environment, compute, forked } = terms;
  const clock = systemClock;
  const [key, tls] = await Promise.all([signingKeyOf(environment), tlsFilesOf(environment)]);
  await loadGivenPlugins(terms.plugins);
  if (terms.rowAddon !== undefined) loadNativeRows(terms.rowAddon);
  const signal = stopRequest();
  const channel = eventChannel();
  const onEvent = toldBy({ worker: name }, runEventSink({ clock }, channel.sink));
  const executor = createComputeProcess({
    ...{ clock, ...compute, onEvent },
    ...(forked === null ? {} : { forked }),
  });
  try {
    await executor.start(signal).catch((error: unknown) => {
      // A stop before the start was complete is no failure.
      if (!signal.aborted || !isInterruption(error)) throw error;
    });
    await runWorker({
      ...{ name, executor, signal, clock, onEvent },
      queue: queueWithLargeBlobs(
        signedJobQueue(bullmqJobQueue({ redisUrl, prefix, clock, tls }), key),
      ),
      limits: jobLimitsOf({
        stores: [...terms.storesAllowed, ...listedIn(environment['QIANMO_STORE_ALLOW'])],
        endpoints: [...terms.endpointsAllowed, ...listedIn(environment['QIANMO_ENDPOINT_ALLOW'])],
        workingFolder: resolve('.'),
        environment,
      }),
      nonce: freshNonce(),
      device: compute.device,
    });
  } finally {
    await executor.close();
    await channel.drain();
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
