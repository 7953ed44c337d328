/**
 * Warns when a run is computed on more than one backend: low bits then depend on which worker did
 * which job.
 */

import type { RunEventSink } from '../../shared/events/run-events.js';
import type { JobResult } from '../../shared/queue/protocol.js';

/** The returned function is called with every admitted result. It warns once. */
export function backendWatch(
  sink: RunEventSink,
): (result: Pick<JobResult, 'backend' | 'worker'>) => void {
  let first: string | null = null;
  let hasWarned = false;
  return ({ backend, worker }) => {
    first ??= backend;
    if (backend === first || hasWarned) return;
    hasWarned = true;
    sink({
      kind: 'backends-differ',
      backend: first,
      otherWorker: worker,
      otherBackend: backend,
    });
  };
}
