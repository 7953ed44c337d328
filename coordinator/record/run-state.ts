/** The state of a run, derived from its record and from whether its process lives. */

import { isInterruptionKind } from '../../shared/base/errors.js';
import { livenessOf, type ProcessIdentity } from '../../shared/storage/process-identity.js';
import type { RunView } from '../../shared/events/run-reducer.js';

export type RunState =
  | 'running'
  | 'waiting for workers'
  | 'paused'
  | 'stalled'
  | 'finished'
  | 'failed'
  | 'interrupted'
  | 'lost';

/** A call that cannot be seen from here is lost when it has said nothing for this long. */
export const SILENCE_MS_MAX = 90_000;
const STALLED_MS_MIN = 120_000;
const STALLED_OUTER_STEP_COUNT = 20;

export interface Observer {
  readonly nowMs: number;
  readonly livenessOf: (process: ProcessIdentity) => 'runs' | 'ended' | 'unknown';
}

export function observerAt(nowMs: number): Observer {
  return { nowMs, livenessOf };
}

export function runStateOf(view: RunView, observer: Observer): RunState {
  const { ending } = view;
  if (ending?.kind === 'finished') return 'finished';
  if (ending !== null) return isInterruptionKind(ending.failure) ? 'interrupted' : 'failed';
  if (!isAlive(view, observer)) return 'lost';
  if (view.isPaused) return 'paused';
  if (view.isAwaitingWorkers) return 'waiting for workers';
  const movedMs = Math.max(view.lastProgressMs ?? 0, view.call?.sinceMs ?? 0);
  return observer.nowMs - movedMs > stalledAfterMs(view) ? 'stalled' : 'running';
}

/** Whether a call is under way, as far as can be told. */
export function isUnderWay(state: RunState): boolean {
  return !['finished', 'failed', 'interrupted', 'lost'].includes(state);
}

/** Milliseconds without progress after which a run counts as stalled. */
function stalledAfterMs({ outerStepMs }: Pick<RunView, 'outerStepMs'>): number {
  return Math.max(STALLED_MS_MIN, STALLED_OUTER_STEP_COUNT * (outerStepMs ?? 0));
}

function isAlive({ call, lastEventMs }: RunView, { nowMs, livenessOf }: Observer): boolean {
  const seen = call === null ? 'unknown' : livenessOf(call.process);
  if (seen !== 'unknown') return seen === 'runs';
  return nowMs - Math.max(call?.aliveMs ?? 0, lastEventMs ?? 0) <= SILENCE_MS_MAX;
}
