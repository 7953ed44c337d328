/** Warns when a run is computed on more than one backend: low bits then depend on who did which job. */

import type { RunEventSink } from '../../shared/events/run-events.js';
import type { DeliveredResult } from '../dispatch/dispatcher.js';

/** The returned function is called with every result; the warning comes once per process. */
export function backendWatch(sink: RunEventSink): (delivered: DeliveredResult) => void {
  let first: string | null = null;
  let hasWarned = false;
  return ({ result: { backend, worker } }) => {
    first ??= backend;
    if (backend === first || hasWarned) return;
    hasWarned = true;
    sink({
      kind: 'warning',
      message: `jobs are computed on different backends (${first}; ${worker}: ${backend}), so another run of this config may end in other low bits`,
    });
  };
}
