/** Whatever steps write while checkpoints are stored, each checkpoint is the state of its outer step. */

import fc from 'fast-check';
import { expect, it } from 'vitest';
import { TrackedTables } from '../../../coordinator/checkpoints/table-snapshot.js';
import type { TrainingState } from '../../../coordinator/checkpoints/checkpoint-manifest.js';
import { MemoryObjectStore } from '../../../shared/storage/memory-object-store.js';
import { checkpointsIn } from '../../fixtures/stores/checkpoint-stores.js';
import { bitsOf, tinySpec, tinyState } from '../../fixtures/training-states.js';

const FEATURES = ['category 0/ä', 'category 2/ä'];
const ROW_COUNTS = [10, 3];

/** A step writes to some rows of both tables, after this many puts of the checkpoint under way. */
interface Step {
  readonly rows: readonly (readonly number[])[];
  readonly afterPuts: number;
}

const step: fc.Arbitrary<Step> = fc.record({
  rows: fc.tuple(...ROW_COUNTS.map((count) => fc.uniqueArray(fc.nat({ max: count - 1 })))),
  afterPuts: fc.nat({ max: 6 }),
});

/** A store in which something happens before each put. */
class SteppingStore extends MemoryObjectStore {
  beforePut: () => void = () => undefined;
  override put(...args: Parameters<MemoryObjectStore['put']>): Promise<string | null> {
    this.beforePut();
    return super.put(...args);
  }
}

function apply(state: TrainingState, tables: TrackedTables, given: Step): TrainingState {
  const outerStep = state.outerStep + 1;
  const rows = new Map(
    FEATURES.map((name, index) => [
      name,
      { ids: Int32Array.from([...(given.rows[index] ?? [])].sort((a, b) => a - b)) },
    ]),
  );
  tables.willWriteRows(rows, outerStep);
  for (const [name, { ids }] of rows)
    for (const table of [
      state.metaParameters.tables.get(name)!,
      state.optimizer.tables.get(`adam.firstMoment/${name}`)!,
    ])
      for (const id of ids)
        table.values.fill(outerStep * 100 + id, id * table.width, (id + 1) * table.width);
  return { ...state, outerStep };
}

it('holds', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.array(step, { maxLength: 3 }), { minLength: 1, maxLength: 5 }),
      fc.integer({ min: 1, max: 60 }),
      async (rounds, pieceByteCountMax) => {
        const store = new SteppingStore();
        const writer = checkpointsIn(store, { kept: 1 });
        let state = tinyState(tinySpec(), 1);
        const tables = new TrackedTables(state, pieceByteCountMax);
        for (const steps of rounds) {
          const expected = bitsOf(state);
          const waiting = [...steps];
          let putCount = 0;
          store.beforePut = () => {
            putCount += 1;
            while (waiting[0] !== undefined && waiting[0].afterPuts <= putCount)
              state = apply(state, tables, waiting.shift()!);
          };
          await writer.write(state, tables.snapshot());
          expect(bitsOf((await checkpointsIn(store).latest())!)).toEqual(expected);
          for (const rest of [...waiting, { rows: [[0], []], afterPuts: 0 }])
            state = apply(state, tables, rest);
        }
      },
    ),
    { numRuns: 60 },
  );
});
