/** Process entry of a worker: arguments and signals in, `runWorker` over a compute process out. */

import { hostname } from 'node:os';
import { resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { systemClock } from '../shared/base/clock.js';
import { collectGarbageRarely } from '../shared/base/garbage-collection.js';
import { DeviceDemandSchema, type DeviceDemand } from '../shared/config/compute-config.js';
import { formatFailure, isInterruption, QianmoError } from '../shared/base/errors.js';
import { printableText } from '../shared/base/printable-text.js';
import { freshNonce } from '../shared/base/nonce.js';
import { boundedRate } from '../shared/events/bounded-rate.js';
import { encodeEvent } from '../shared/events/event-lines.js';
import { runEventSink, toldBy, type StampedEventSink } from '../shared/events/run-events.js';
import { createTerminalSink } from '../shared/events/terminal-sink.js';
import { loadGivenPlugins } from '../shared/plugins/load-plugins.js';
import { bullmqJobQueue } from '../shared/queue/bullmq-job-queue.js';
import { signedJobQueue } from '../shared/signing/signed-job-queue.js';
import { signingKeyOf } from '../shared/signing/signing-key.js';
import { tlsFilesOf } from '../shared/storage/tls-files.js';
import { computeEnvironment } from './compute/device/visible-gpus.js';
import { createComputeProcess } from './process/compute-process.js';
import { jobLimitsOf, listedIn } from './carrying/job-limits.js';
import { runWorker } from './carrying/work-loop.js';

collectGarbageRarely();

const PARENT_GONE_TIMEOUT_MS = 8_000;

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      redis: { type: 'string', default: process.env['QIANMO_REDIS_URL'] ?? '' },
      prefix: { type: 'string', default: '{qianmo}' },
      name: { type: 'string', default: `${hostname()}-${process.pid}` },
      device: { type: 'string', default: 'auto' },
      'gpu-index': { type: 'string' },
      'store-allow': { type: 'string', multiple: true, default: [] },
      'endpoint-allow': { type: 'string', multiple: true, default: [] },
      portable: { type: 'boolean', default: false },
      plugin: { type: 'string', multiple: true, default: [] },
    },
  });
  if (values.redis === '')
    throw usageError(
      'a worker needs the address of Redis',
      'give --redis redis://HOST:PORT, or set QIANMO_REDIS_URL',
    );
  const [key, tls] = await Promise.all([signingKeyOf(process.env), tlsFilesOf(process.env)]);
  const { redis: redisUrl, prefix } = values;
  const queue = bullmqJobQueue({ redisUrl, prefix, clock: systemClock, tls });
  const device = demandOf(values.device);
  await loadGivenPlugins(values.plugin);
  const gpuIndex = gpuIndexOf(values['gpu-index']);
  const stop = new AbortController();
  for (const signal of ['SIGTERM', 'SIGINT'] as const) process.on(signal, () => stop.abort());
  // A worker with a channel belongs to a supervisor; without it, nobody would stop the worker.
  const onParentGone = (): void => {
    stop.abort();
    setTimeout(() => process.exit(1), PARENT_GONE_TIMEOUT_MS).unref();
  };
  process.on('disconnect', onParentGone);
  // The supervisor may have ended while the modules loaded, before anyone listened.
  if (process.send !== undefined && !process.connected) onParentGone();
  const channel = eventChannel();
  const sink = toldBy({ worker: values.name }, runEventSink({ clock: systemClock }, channel.sink));
  const executor = createComputeProcess({
    clock: systemClock,
    device,
    portable: values.portable,
    environment: computeEnvironment(process.env, device, gpuIndex),
    onEvent: sink,
  });
  try {
    await executor.start(stop.signal).catch((error: unknown) => {
      // A stop before the start was complete is no failure.
      if (!stop.signal.aborted || !isInterruption(error)) throw error;
    });
    await runWorker({
      queue: signedJobQueue(queue, key),
      name: values.name,
      nonce: freshNonce(),
      device,
      executor,
      clock: systemClock,
      signal: stop.signal,
      onEvent: sink,
      limits: jobLimitsOf({
        stores: [...values['store-allow'], ...listedIn(process.env['QIANMO_STORE_ALLOW'])],
        endpoints: [...values['endpoint-allow'], ...listedIn(process.env['QIANMO_ENDPOINT_ALLOW'])],
        workingFolder: resolve('.'),
        environment: process.env,
      }),
    });
  } finally {
    await executor.close();
    await channel.drain();
  }
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

function demandOf(text: string): DeviceDemand {
  const parsed = DeviceDemandSchema.safeParse(text);
  if (parsed.success) return parsed.data;
  throw usageError(`there is no device ${text}`, 'give --device auto, cpu or gpu');
}

function gpuIndexOf(text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  if (/^\d+$/.test(text)) return Number(text);
  throw usageError(`${text} is not the index of a GPU`, 'give --gpu-index 0, 1, ...');
}

function usageError(what: string, cure: string): QianmoError {
  return new QianmoError({ kind: 'usage', what, cure });
}

try {
  await main();
  process.exit(0);
} catch (error) {
  const trace = error instanceof Error ? (error.stack ?? error.message) : String(error);
  process.stderr.write(
    `${error instanceof QianmoError ? formatFailure(error) : printableText(trace)}\n`,
  );
  process.exit(error instanceof QianmoError ? error.exitCode : 1);
}
