/**
 * The compute process: owns the tensors and the device, computes one job at a time, holds nothing
 * that matters. Ends when its parent is gone; the parent alone decides about interrupts.
 */

import { parseArgs } from 'node:util';

// Read by the libraries when they load, hence before the import below. One thread: workers scale
// by processes; -1 runs a graph in the thread that calls it. Deterministic kernels where a device has others. Of a GPU no more memory than is
// used, for others may use it too; GPUs are counted as nvidia-smi counts them.
const LIBRARY_ENVIRONMENT: Readonly<Record<string, string>> = {
  TF_ENABLE_ONEDNN_OPTS: '1',
  TF_NUM_INTRAOP_THREADS: '1',
  TF_NUM_INTEROP_THREADS: '-1',
  OMP_NUM_THREADS: '1',
  TF_DETERMINISTIC_OPS: '1',
  TF_FORCE_GPU_ALLOW_GROWTH: 'true',
  CUDA_DEVICE_ORDER: 'PCI_BUS_ID',
  TF_CPP_MIN_LOG_LEVEL: '2',
};
for (const [name, value] of Object.entries(LIBRARY_ENVIRONMENT)) process.env[name] ??= value;

process.on('SIGINT', () => undefined);
process.on('disconnect', () => process.exit(0));
// The parent may have gone before this line: that event is over.
if (!process.connected) process.exit(0);

const { collectGarbageRarely } = await import('../../shared/base/garbage-collection.js');
collectGarbageRarely();
const { loadGivenPlugins } = await import('../../shared/plugins/load-plugins.js');
const { failureRecordOf } = await import('../process/compute-protocol.js');
const { values } = parseArgs({ options: { plugin: { type: 'string', multiple: true } } });
const failure = await loadGivenPlugins(values.plugin ?? []).then(
  () => null,
  (error: unknown) => failureRecordOf(error),
);
if (failure === null) {
  const { serveRequests } = await import('./job/serve-requests.js');
  serveRequests(
    {
      receive: (onMessage) => process.on('message', onMessage),
      send: (reply) => process.send?.(reply),
    },
    process.env,
  );
} else {
  // The parent waits for the answer to its start request. It reports the failure and ends this process.
  const residentByteCount = process.memoryUsage.rss();
  process.send?.({ kind: 'failed', requestId: null, report: failure, residentByteCount });
}
