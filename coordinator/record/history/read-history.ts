/** Reads the history of a run once, segment by segment. */

import { RecordFollower } from '../read-record.js';
import type { RecordPlace } from '../record-place.js';
import { GrowingRunHistory, type RunHistory } from './run-history.js';

export async function readRunHistory(place: RecordPlace): Promise<RunHistory> {
  const growing = new GrowingRunHistory();
  for await (const { events, unknownCount } of new RecordFollower(place).nextParts()) {
    for (const event of events) growing.admit(event);
    growing.addUnknown(unknownCount);
  }
  return growing.history;
}
