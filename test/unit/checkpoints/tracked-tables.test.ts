/** Checkpoints of tables whose changes are told: what is written, what is only named, and what is kept. */

import { describe, expect, it } from 'vitest';
import { TrackedTables } from '../../../coordinator/checkpoints/table-snapshot.js';
import type { TrainingState } from '../../../coordinator/checkpoints/checkpoint-manifest.js';
import { MemoryObjectStore } from '../../../shared/storage/memory-object-store.js';
import {
  checkpointsIn,
  FailingStore,
  manifestOf,
} from '../../fixtures/stores/checkpoint-stores.js';
import { bitsOf, tinySpec, tinyState } from '../../fixtures/training-states.js';

/** Two rows of width 3 per piece: tables of 10, 0 and 3 rows have 5, 0 and 2 pieces. */
const PIECE_BYTE_COUNT = 24;
const FIRST = 'category 0/ä';

interface Training {
  state: TrainingState;
  readonly tables: TrackedTables;
}

function trainingFrom(state: TrainingState): Training {
  return { state, tables: new TrackedTables(state, PIECE_BYTE_COUNT) };
}

/** An outer step that writes a value to some rows of the first table, and its negative to their moments. */
function stepped(training: Training, ids: readonly number[], value: number): void {
  const { state, tables } = training;
  const outerStep = state.outerStep + 1;
  tables.willWriteRows(new Map([[FIRST, { ids: Int32Array.from(ids) }]]), outerStep);
  const table = state.metaParameters.tables.get(FIRST)!;
  const moments = state.optimizer.tables.get(`adam.firstMoment/${FIRST}`)!;
  for (const id of ids) {
    table.values.fill(value, id * table.width, (id + 1) * table.width);
    moments.values.fill(-value, id * table.width, (id + 1) * table.width);
  }
  training.state = { ...state, outerStep };
}

const blobPuts = ({ putKeys }: FailingStore): number =>
  putKeys.filter((key) => key.startsWith('blobs/')).length;

describe('a checkpoint of tracked tables', () => {
  it('stores the pieces that were written since the last one and names the others', async () => {
    const store = new FailingStore();
    const writer = checkpointsIn(store);
    const training = trainingFrom(tinyState(tinySpec(), 1));
    const first = await writer.write(training.state, training.tables.snapshot());
    store.failAtPut(0);
    // Rows 2 and 3 are piece 1, row 9 is piece 4; each in the table and in its moments.
    stepped(training, [2, 3, 9], 7);
    const second = await writer.write(training.state, training.tables.snapshot());
    expect(blobPuts(store)).toBe(4);
    const piecesOf = async (address: string): Promise<string[]> =>
      (await manifestOf(store, address)).tables[0]!.pieces.map(({ blob }) => blob.sha256);
    const [before, after] = [await piecesOf(first.address), await piecesOf(second.address)];
    expect(before.map((sha256, piece) => sha256 !== after[piece])).toEqual([
      false,
      true,
      false,
      false,
      true,
    ]);
    expect(bitsOf((await checkpointsIn(store).latest())!)).toEqual(bitsOf(training.state));
  });

  it('does not look at pieces that were not told, after a resume either', async () => {
    const store = new FailingStore();
    await checkpointsIn(store).write(tinyState(tinySpec(), 1));
    const resumed = checkpointsIn(store);
    const training = trainingFrom((await resumed.latest())!);
    stepped(training, [0], 7);
    // A write that nobody told is what this test can see and a run must not do.
    training.state.optimizer.tables.get(`adam.firstMoment/${FIRST}`)!.values[3 * 4] = 99;
    store.failAtPut(0);
    await resumed.write(training.state, training.tables.snapshot());
    expect(blobPuts(store)).toBe(2);
    const found = (await checkpointsIn(store).latest())!;
    const moments = found.optimizer.tables.get(`adam.firstMoment/${FIRST}`)!.values;
    expect([moments[0], moments[3 * 4]]).toEqual([-7, Math.fround(1 / 3)]);
  });
});

it('a snapshot is the state of its outer step while later steps write to the tables', async () => {
  const store = new MemoryObjectStore();
  const writer = checkpointsIn(store);
  const training = trainingFrom(tinyState(tinySpec(), 1));
  const { state } = training;
  const expected = bitsOf(state);
  const written = writer.write(state, training.tables.snapshot());
  // Nothing is encoded before the first put has been answered.
  stepped(training, [0, 1, 5, 9], 7);
  stepped(training, [1, 2, 3, 5], 8);
  await written;
  expect(bitsOf((await checkpointsIn(store).latest())!)).toEqual(expected);
  await writer.write(training.state, training.tables.snapshot());
  expect(bitsOf((await checkpointsIn(store).latest())!)).toEqual(bitsOf(training.state));
});
