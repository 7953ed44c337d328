/**
 * The compute process: owns the tensors and the device, computes one job at a time, holds nothing
 * that matters. Ends when its parent is gone; the parent alone decides about interrupts. Its
 * environment is that of `device/numerical-environment.ts`, set by the parent.
 */

import { parseArgs } from 'node:util';

for (const signal of ['SIGINT', 'SIGHUP'] as const) process.on(signal, () => undefined);
process.on('disconnect', () => process.exit(0));
// The parent may have gone before this line: that event is over.
if (!process.connected) process.exit(0);

const { keepCompiledCode } = await import('../../../shared/base/cache-folder.js');
keepCompiledCode(process.env);
const { collectGarbageRarely } = await import('../../../shared/base/garbage-collection.js');
collectGarbageRarely();
const { loadGivenPlugins } = await import('../../../shared/plugins/load-plugins.js');
const { computeFailureOf } = await import('../../process/compute-protocol.js');
const { values } = parseArgs({
  options: { plugin: { type: 'string', multiple: true } },
});
const failure = await loadGivenPlugins(values.plugin ?? []).then(
  () => null,
  (error: unknown) => computeFailureOf(error),
);
if (failure === null) {
  const { serveRequests } = await import('./serve-requests.js');
  const { createExecutor, openStoreOnDisk } = await import('./create-executor.js');
  serveRequests(
    {
      receive: (onMessage) => process.on('message', onMessage),
      // A parent that has gone is told nothing: its end ends this process.
      send: (reply) => process.send?.(reply, undefined, undefined, () => undefined),
    },
    ({ device }, reports) =>
      createExecutor({ openStore: openStoreOnDisk, device, environment: process.env, ...reports }),
  );
  // The start request comes later, and finds the library loaded.
  const { loadNativeAhead } = await import('../engine/load-engine.js');
  loadNativeAhead();
} else {
  // The parent waits for the answer to its start request. It reports the failure and ends this process.
  const residentByteCount = process.memoryUsage.rss();
  process.send?.({ kind: 'failed', requestId: null, report: failure, residentByteCount });
}
