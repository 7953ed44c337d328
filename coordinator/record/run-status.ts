/** The status of a run, as commands print it and programs read it: from its record, and from whether its process runs. */

import { isInterruptionKind } from '../../shared/base/errors.js';
import { leftMsOf, reducedRun, type RunView } from '../../shared/events/run-reducer.js';
import { livenessOf, type ProcessIdentity } from '../../shared/storage/process-identity.js';
import type { RunRecord } from './run-record.js';

export type RunState =
  'running' | 'waiting for workers' | 'stalled' | 'finished' | 'failed' | 'interrupted' | 'lost';

/** A call that cannot be seen from here is lost when it has said nothing for this long. */
const SILENCE_MS_MAX = 90_000;
const STALLED_MS_MIN = 120_000;
const STALLED_OUTER_STEP_COUNT = 20;

interface Observer {
  readonly nowMs: number;
  readonly livenessOf?: (process: ProcessIdentity) => 'runs' | 'ended' | 'unknown';
}

export interface RunStatus extends Omit<RunView, 'isAwaitingWorkers'> {
  /** The folder or prefix that holds the record. */
  readonly output: string;
  readonly state: RunState;
  /** Milliseconds since the last event. */
  readonly silentMs: number;
  /** Milliseconds until the last outer step at the pace of the last ones; null where unknown. */
  readonly leftMs: number | null;
  /** Lines at the end of the log that this version does not know. */
  readonly unknownEventCount: number;
}

interface ReadView {
  readonly view: RunView;
  readonly unknownCount: number;
}

/** The first end of a log has the state and the training of most runs; the last one is as long as most logs. */
const END_BYTE_COUNTS = [8 * 1024, 512 * 1024, 16 * 1024 * 1024] as const;

/**
 * Reads no more of the end of a log than has the state of the run and its training: a run without workers, or
 * whose outer steps are long, logs for hours nothing but that it lives. Null if there is no event.
 */
export async function readView(
  record: RunRecord,
  byteCounts: readonly number[] = END_BYTE_COUNTS,
): Promise<ReadView | null> {
  for (let reading = 0; ; reading += 1) {
    const { events, unknownCount, isWhole } = await record.lastEvents(byteCounts[reading] ?? 0);
    const view = reducedRun(events).view();
    if (!isWhole && !isComplete(view) && reading + 1 < byteCounts.length) continue;
    return events.length + unknownCount === 0 ? null : { view, unknownCount };
  }
}

/** True for a view with the training, and all that the state of a call under way follows from. */
function isComplete(view: RunView): boolean {
  const { training, ending, call, isAwaitingWorkers, outerStepMs } = view;
  if (training === null) return false;
  if (ending !== null) return true;
  return call !== null && (isAwaitingWorkers || outerStepMs !== null);
}

/** Null if the output has no record. @param byteCounts as for `readView` */
export async function readRunStatus(
  record: RunRecord,
  observer: Observer,
  byteCounts?: readonly number[],
): Promise<RunStatus | null> {
  const read = await readView(record, byteCounts);
  return read === null ? null : runStatusOf(read, record.address, observer);
}

export function runStatusOf(
  { view, unknownCount: unknownEventCount }: ReadView,
  output: string,
  observer: Observer,
): RunStatus {
  const state = runStateOf(view, observer);
  const { isAwaitingWorkers: _awaiting, ...shown } = view;
  return {
    ...{ output, state },
    ...shown,
    silentMs: Math.max(0, observer.nowMs - (view.lastEventMs ?? observer.nowMs)),
    leftMs: isUnderWay(state) && state !== 'stalled' ? leftMsOf(view) : null,
    unknownEventCount,
  };
}

export function runStateOf(view: RunView, observer: Observer): RunState {
  const { ending } = view;
  if (ending?.kind === 'finished') return 'finished';
  if (ending !== null) return isInterruptionKind(ending.failure) ? 'interrupted' : 'failed';
  if (!isAlive(view, observer)) return 'lost';
  if (view.isAwaitingWorkers) return 'waiting for workers';
  const movedMs = Math.max(view.lastProgressMs ?? 0, view.call?.sinceMs ?? 0);
  const stalledAfterMs = Math.max(
    STALLED_MS_MIN,
    STALLED_OUTER_STEP_COUNT * (view.outerStepMs ?? 0),
  );
  return observer.nowMs - movedMs > stalledAfterMs ? 'stalled' : 'running';
}

export function isUnderWay(state: RunState): boolean {
  return !['finished', 'failed', 'interrupted', 'lost'].includes(state);
}

function isAlive({ call, lastEventMs }: RunView, observer: Observer): boolean {
  const { nowMs, livenessOf: look = livenessOf } = observer;
  const seen = call === null ? 'unknown' : look(call.process);
  if (seen !== 'unknown') return seen === 'runs';
  return nowMs - Math.max(call?.aliveMs ?? 0, lastEventMs ?? 0) <= SILENCE_MS_MAX;
}
