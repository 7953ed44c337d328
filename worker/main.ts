/** Process entry of a worker: arguments and signals in, `runWorker` over a compute process out. */

import { hostname } from 'node:os';
import { parseArgs } from 'node:util';
import { systemClock } from '../shared/clock.js';
import { formatFailure, QianmoError } from '../shared/errors.js';
import { createComputeProcess, type ComputeEvent } from './compute-process.js';
import { runWorker, type WorkerEvent } from './worker.js';

const PARENT_GONE_TIMEOUT_MS = 8_000;

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      redis: { type: 'string', default: process.env['QIANMO_REDIS_URL'] ?? '' },
      prefix: { type: 'string', default: '{qianmo}' },
      name: { type: 'string', default: `${hostname()}-${process.pid}` },
    },
  });
  if (values.redis === '')
    throw new QianmoError({
      kind: 'usage',
      what: 'a worker needs the address of Redis',
      cure: 'give --redis redis://HOST:PORT, or set QIANMO_REDIS_URL',
    });
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
  const executor = createComputeProcess({ clock: systemClock, onEvent: passWarningOn });
  try {
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

/** A slow backend is nobody's wish: whoever started the worker must hear of it. */
function passWarningOn(event: ComputeEvent): void {
  if (event.kind !== 'warning') return;
  if (process.connected) process.send?.(event);
  else process.stderr.write(`warning: ${event.message}\n`);
}

try {
  await main();
  process.exit(0);
} catch (error) {
  const text = error instanceof QianmoError ? formatFailure(error) : String(error);
  process.stderr.write(`${text}\n`);
  process.exit(error instanceof QianmoError ? error.exitCode : 1);
}
