/** The entry of a worker that a coordinator of this machine has started. Events go to the coordinator, and it ends when that is gone. */

import { formatFailure, QianmoError } from '../../shared/base/errors.js';
import { keepCompiledCode } from '../../shared/base/cache-folder.js';
import { systemClock } from '../../shared/base/clock.js';
import { collectGarbageRarely } from '../../shared/base/garbage-collection.js';
import { printableText } from '../../shared/base/printable-text.js';
import type { StampedEvent } from '../../shared/events/run-events.js';
import type { LocalWork } from '../library/local-machine.js';

const PARENT_GONE_TIMEOUT_MS = 8_000;

collectGarbageRarely();
keepCompiledCode(process.env);

/** Aborts at a signal, and when the coordinator is gone: nobody else would stop the worker. */
function stopRequest(): AbortSignal {
  const stop = new AbortController();
  for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP'] as const)
    process.on(signal, () => stop.abort());
  const onParentGone = (): void => {
    stop.abort();
    void systemClock.sleep(PARENT_GONE_TIMEOUT_MS).then(() => process.exit(1));
  };
  process.on('disconnect', onParentGone);
  // It may have ended before anyone listened.
  if (!process.connected) onParentGone();
  return stop.signal;
}

/** The exit waits for it, so that the last events are not lost. */
let sent: Promise<void> = Promise.resolve();

async function work(signal: AbortSignal): Promise<void> {
  const { encodeEvent } = await import('../../shared/events/event-lines.js');
  const { boundedRate } = await import('../../shared/events/event-log.js');
  const { loadPluginsOfArguments } = await import('../../shared/plugins/load-plugins.js');
  const { startRun } = await import('../../coordinator/runs/run-handle.js');
  const { WorkRequestSchema } = await import('../library/requests.js');
  const { surroundingsOf } = await import('../library/verb.js');
  const { workUntilStopped } = await import('../library/work.js');
  const onEvent = boundedRate(systemClock, (event: StampedEvent) => {
    const taken = new Promise<void>((resolve) => {
      // A broken channel is reported by `disconnect`.
      process.send?.(encodeEvent(event), undefined, undefined, () => resolve());
    });
    sent = sent.then(() => taken);
  });
  await loadPluginsOfArguments();
  // `workerCommand` of this build has written it.
  const local = JSON.parse(process.argv[2] ?? '{}') as LocalWork;
  const { prefix, device, gpuIndex } = local;
  const { env } = process;
  const request = WorkRequestSchema.parse({
    ...{ prefix, device, gpuIndex, redis: env['QIANMO_REDIS_URL'] },
    storeAllow: env['QIANMO_STORE_ALLOW'],
    endpointAllow: env['QIANMO_ENDPOINT_ALLOW'],
  });
  await startRun(surroundingsOf({}), { signal, onEvent }, (context) =>
    workUntilStopped(request, local, context),
  );
}

let exitCode = 0;
const signal = stopRequest();
try {
  await work(signal);
} catch (error) {
  const trace = error instanceof Error ? (error.stack ?? error.message) : String(error);
  const told = error instanceof QianmoError ? formatFailure(error) : printableText(trace);
  process.stderr.write(`${told}\n`);
  exitCode = error instanceof QianmoError ? error.exitCode : 1;
}
// A stop before the work began is no failure.
if (signal.aborted) exitCode = 0;
if (process.connected) await sent;
process.exit(exitCode);
