/**
 * The view of a run in a list: made from as little of the end of its log as tells its state and its training, and then followed. A run
 * that is paused, or whose outer steps are long, says for hours nothing but that it lives: the end of its log alone tells no more.
 */

import { readLastEvents, RecordFollower } from './read-record.js';
import type { RecordPlace } from './record-place.js';
import { reducedRun, type RunReducer, type RunView } from '../../shared/events/run-reducer.js';

/** The first end of a log tells the state and the training of most runs; the last one is as long as most logs. */
const READ_BYTE_COUNTS: readonly number[] = [8 * 1024, 512 * 1024, 16 * 1024 * 1024];

interface ListedParts {
  readonly growing: RunReducer;
  readonly follower: RecordFollower;
  readonly unknownCount: number;
  readonly isEmpty: boolean;
}

export class ListedRun {
  readonly #place: RecordPlace;
  #parts: ListedParts;

  private constructor(place: RecordPlace, parts: ListedParts) {
    this.#place = place;
    this.#parts = parts;
  }

  /** @param byteCounts of ends of the log that are read, each only if the one before does not tell enough. */
  static async of(place: RecordPlace, byteCounts = READ_BYTE_COUNTS): Promise<ListedRun> {
    return new ListedRun(place, await readParts(place, byteCounts));
  }

  get view(): RunView {
    return this.#parts.growing.view();
  }

  /** Lines that this version does not know. */
  get unknownCount(): number {
    return this.#parts.unknownCount;
  }

  /** Whether the end of the log had no line at all. */
  get isEmpty(): boolean {
    return this.#parts.isEmpty;
  }

  /** Reads what has come since. */
  async goOn(): Promise<void> {
    const { follower, growing } = this.#parts;
    for await (const { events, unknownCount, isAnew } of follower.nextParts()) {
      if (isAnew) {
        this.#parts = await readParts(this.#place, READ_BYTE_COUNTS);
        return;
      }
      for (const event of events) growing.admit(event);
      const known = this.#parts.unknownCount;
      this.#parts = { ...this.#parts, unknownCount: known + unknownCount, isEmpty: false };
    }
  }
}

async function readParts(place: RecordPlace, byteCounts: readonly number[]): Promise<ListedParts> {
  for (let reading = 0; ; reading += 1) {
    const byteCount = byteCounts[reading] ?? 0;
    const { events, unknownCount, isWhole, end } = await readLastEvents(place, byteCount);
    const growing = reducedRun(events);
    const isEnough = isWhole || tellsEnough(growing.view());
    if (!isEnough && reading + 1 < byteCounts.length) continue;
    const isEmpty = events.length === 0 && unknownCount === 0;
    return { growing, follower: new RecordFollower(place, end), unknownCount, isEmpty };
  }
}

/** Whether the view has the training, and of a call that has not ended all that its state follows from. */
function tellsEnough(view: RunView): boolean {
  const { training, ending, call, isPaused, isAwaitingWorkers, outerStepMs } = view;
  if (training === null) return false;
  if (ending !== null) return true;
  return call !== null && (isPaused || isAwaitingWorkers || outerStepMs !== null);
}
