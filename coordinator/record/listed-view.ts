/** The view of a run in a list: made from as little of the end of its log as tells its state and its training. */

import { readLastEvents } from './read-record.js';
import type { RecordPlace } from './record-place.js';
import { runViewOf, type RunView } from './run-view.js';

export interface ListedView {
  readonly view: RunView;
  /** Lines that this version does not know. */
  readonly unknownCount: number;
}

/** The first end of a log tells the state and the training of most runs; the last one is as long as most logs. */
const READ_BYTE_COUNTS = [8 * 1024, 512 * 1024, 16 * 1024 * 1024] as const;

/** @param known an earlier view of the same log, whose training need not be looked for again */
export async function listedViewOf(
  place: RecordPlace,
  known: RunView | null = null,
): Promise<ListedView> {
  let read: ListedView = { view: runViewOf([]), unknownCount: 0 };
  // A training that began since lies near the end.
  const byteCounts = known === null ? READ_BYTE_COUNTS : READ_BYTE_COUNTS.slice(0, -1);
  for (const byteCount of byteCounts) {
    const { events, unknownCount } = await readLastEvents(place, byteCount);
    read = { view: withTrainingOf(known, runViewOf(events)), unknownCount };
    const { training, ending, call } = read.view;
    if (training !== null && (ending !== null || call !== null)) break;
  }
  return read;
}

/** The view with the training that a longer end of the log told, where the end that was read has none. */
function withTrainingOf(known: RunView | null, view: RunView): RunView {
  if (known === null || known.training === null || view.training !== null) return view;
  const { run, training, checkpoint, validation } = known;
  return {
    ...{ ...view, run, training },
    checkpoint: view.checkpoint ?? checkpoint,
    validation: view.validation ?? validation,
  };
}
