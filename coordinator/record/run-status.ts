/** The status of a run as commands print it and programs read it. */

import { isUnderWay, runStateOf, type Observer, type RunState } from './run-state.js';
import { ListedRun } from './listed-view.js';
import type { RecordPlace } from './record-place.js';
import { leftMsOf, type RunView } from '../../shared/events/run-reducer.js';

export interface RunStatus extends Omit<RunView, 'isPaused' | 'isAwaitingWorkers'> {
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

/** Null if the output has no record. @param byteCounts as for `ListedRun` */
export async function readRunStatus(
  place: RecordPlace,
  byteCounts: readonly number[],
  observer: Observer,
): Promise<RunStatus | null> {
  const { view, unknownCount, isEmpty } = await ListedRun.of(place, byteCounts);
  return isEmpty ? null : runStatusOf(view, place.address, unknownCount, observer);
}

export function runStatusOf(
  view: RunView,
  output: string,
  unknownEventCount: number,
  observer: Observer,
): RunStatus {
  const state = runStateOf(view, observer);
  const { isPaused: _paused, isAwaitingWorkers: _awaiting, ...shown } = view;
  return {
    output,
    state,
    ...shown,
    silentMs: Math.max(0, observer.nowMs - (view.lastEventMs ?? observer.nowMs)),
    leftMs: isUnderWay(state) && state !== 'stalled' ? leftMsOf(view) : null,
    unknownEventCount,
  };
}
