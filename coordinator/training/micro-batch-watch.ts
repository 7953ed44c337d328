/**
 * Warns when a worker computes in smaller micro-batches than the run asks for: the order of sums, and
 * so low bits, then depend on which worker did which job.
 */

import type { RunEventSink } from '../../shared/events/run-events.js';
import type { JobResult } from '../../shared/queue/protocol.js';

/** The returned function is called with every admitted result. It warns once. */
export function microBatchWatch(
  rowsMax: number,
  sink: RunEventSink,
): (result: Pick<JobResult, 'microBatchRowsMax' | 'worker'>) => void {
  let hasWarned = false;
  return ({ microBatchRowsMax, worker }) => {
    if (microBatchRowsMax >= rowsMax || hasWarned) return;
    hasWarned = true;
    sink({
      kind: 'micro-batches-smaller',
      fromWorker: worker,
      rowsMax,
      smallerRowsMax: microBatchRowsMax,
    });
  };
}
