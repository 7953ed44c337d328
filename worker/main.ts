/** Process entry of a worker: arguments and signals in, `runWorker` over a compute process out. */

import { hostname } from 'node:os';
import { parseArgs } from 'node:util';
import { systemClock } from '../shared/base/clock.js';
import { collectGarbageRarely } from '../shared/base/garbage-collection.js';
import { DeviceDemandSchema, type DeviceDemand } from '../shared/config/run-config.js';
import { formatFailure, QianmoError } from '../shared/base/errors.js';
import { formatDeviceLine } from './compute/device/device-report.js';
import { computeEnvironment } from './compute/device/visible-gpus.js';
import { createComputeProcess } from './process/compute-process.js';
import type { ComputeEvent } from './process/compute-child.js';
import { runWorker, type WorkerEvent } from './carrying/work-loop.js';

collectGarbageRarely();

const PARENT_GONE_TIMEOUT_MS = 8_000;

/** Of the first compute process; those that replace it compute on the same. */
let isDeviceTold = false;

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      redis: { type: 'string', default: process.env['QIANMO_REDIS_URL'] ?? '' },
      prefix: { type: 'string', default: '{qianmo}' },
      name: { type: 'string', default: `${hostname()}-${process.pid}` },
      device: { type: 'string', default: 'auto' },
      'gpu-index': { type: 'string' },
    },
  });
  if (values.redis === '')
    throw usageError(
      'a worker needs the address of Redis',
      'give --redis redis://HOST:PORT, or set QIANMO_REDIS_URL',
    );
  const device = demandOf(values.device);
  const gpuIndex = gpuIndexOf(values['gpu-index']);
  const stop = new AbortController();
  for (const signal of ['SIGTERM', 'SIGINT'] as const) process.on(signal, () => stop.abort());
  // Started with a channel: whoever started it has gone, and nobody else will stop it.
  const onParentGone = (): void => {
    stop.abort();
    setTimeout(() => process.exit(1), PARENT_GONE_TIMEOUT_MS).unref();
  };
  process.on('disconnect', onParentGone);
  // It may have gone while the modules loaded: that event is over.
  if (process.send !== undefined && !process.connected) onParentGone();
  const executor = createComputeProcess({
    clock: systemClock,
    device,
    environment: computeEnvironment(process.env, device, gpuIndex),
    onEvent: passOn,
  });
  try {
    await executor.start(stop.signal).catch((error: unknown) => {
      // Told to stop before it was up: that is no failure.
      if (!stop.signal.aborted) throw error;
    });
    await runWorker({
      redisUrl: values.redis,
      prefix: values.prefix,
      name: values.name,
      executor,
      clock: systemClock,
      signal: stop.signal,
      onEvent: tellParent,
    });
  } finally {
    await executor.close();
  }
}

/** The supervisor shows what its workers say; without one, trouble goes to the terminal. */
function tellParent(event: WorkerEvent): void {
  if (process.connected) process.send?.(event);
  else if (event.kind === 'redis-trouble' || event.kind === 'job-failed')
    process.stderr.write(`${event.kind}: ${event.reason}\n`);
}

/** Whoever started the worker must hear on what it computes, and that a backend is slow. */
function passOn(event: ComputeEvent): void {
  if (event.kind === 'warning') {
    if (process.connected) process.send?.(event);
    else process.stderr.write(`warning: ${event.message}\n`);
  } else if (event.kind === 'ready' && !isDeviceTold) {
    isDeviceTold = true;
    const line = formatDeviceLine(event.device);
    if (process.connected) process.send?.({ kind: 'device', line });
    else process.stderr.write(`computes on ${line}\n`);
  }
}

function demandOf(text: string): DeviceDemand {
  const parsed = DeviceDemandSchema.safeParse(text);
  if (parsed.success) return parsed.data;
  throw usageError(`there is no device ${text}`, 'give --device auto, cpu or gpu');
}

function gpuIndexOf(text: string | undefined): number | undefined {
  if (text === undefined || /^\d+$/.test(text)) return text === undefined ? text : Number(text);
  throw usageError(`${text} is no index of a GPU`, 'give --gpu-index 0, 1, ...');
}

function usageError(what: string, cure: string): QianmoError {
  return new QianmoError({ kind: 'usage', what, cure });
}

try {
  await main();
  process.exit(0);
} catch (error) {
  const text = error instanceof QianmoError ? formatFailure(error) : String(error);
  process.stderr.write(`${text}\n`);
  process.exit(error instanceof QianmoError ? error.exitCode : 1);
}
