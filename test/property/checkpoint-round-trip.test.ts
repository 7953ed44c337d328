/** Any state is restored bit for bit, from any store, with any size of the pieces. */

import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { join } from 'node:path';
import type { TrainingState } from '../../coordinator/checkpoints/checkpoint-manifest.js';
import type { ModelSpec } from '../../shared/models/model-spec.js';
import { FileObjectStore } from '../../shared/storage/file-object-store.js';
import { MemoryObjectStore } from '../../shared/storage/memory-object-store.js';
import type { ObjectStore } from '../../shared/storage/object-store.js';
import type { EmbeddingTable, DenseTensor } from '../../shared/tensors/named-tensors.js';
import { openedOnce } from '../fixtures/opened.js';
import { checkpointsIn } from '../fixtures/stores/checkpoint-stores.js';
import { temporaryFolder } from '../fixtures/temporary-folder.js';
import { bitsOf, tinySpec } from '../fixtures/training-states.js';

/** Only the canonical NaN is used, because JavaScript may change a payload whenever it moves one. */
const float = fc.oneof(
  fc.float(),
  fc.constantFrom(NaN, -0, 0, 1e-45, -1e-42, 3.4028234663852886e38, Infinity, -Infinity),
);
const name = fc.oneof(
  fc.string({ minLength: 1, maxLength: 8, unit: 'binary' }),
  fc.constantFrom('7', '0', 'a/b', 'meta/x', '__metadata__', '__proto__', 'constructor', 'ä é'),
);

const values = (count: number): fc.Arbitrary<Float32Array> =>
  fc.array(float, { minLength: count, maxLength: count }).map((list) => Float32Array.from(list));
const tensor: fc.Arbitrary<DenseTensor> = fc
  .array(fc.nat({ max: 3 }), { maxLength: 3 })
  .chain((shape) =>
    values(shape.reduce((product, extent) => product * extent, 1)).map((v) => ({
      shape,
      values: v,
    })),
  );
const tableOf = (rowCount: number, width: number): fc.Arbitrary<EmbeddingTable> =>
  values(rowCount * width).map((v) => ({ rowCount, width, values: v }));
const table = fc
  .tuple(fc.nat({ max: 9 }), fc.nat({ max: 4 }))
  .chain(([rowCount, width]) => tableOf(rowCount, width));
const mapOf = <Value>(value: fc.Arbitrary<Value>): fc.Arbitrary<Map<string, Value>> =>
  fc
    .uniqueArray(fc.tuple(name, value), { maxLength: 4, selector: ([key]) => key })
    .map((entries) => new Map(entries));

interface Case {
  readonly spec: ModelSpec;
  readonly state: TrainingState;
  readonly pieceByteCountMax: number;
}

const cases: fc.Arbitrary<Case> = fc
  .record({
    dense: mapOf(tensor),
    rowCounts: mapOf(fc.nat({ max: 9 })),
    width: fc.nat({ max: 4 }),
    optimizerDense: mapOf(tensor),
    remainders: mapOf(tensor),
    optimizerTables: mapOf(table),
    scalars: fc.dictionary(fc.constantFrom('a', 'b.c', '7'), fc.double()),
    outerStep: fc.nat({ max: 10_000_000 }),
    pieceByteCountMax: fc.integer({ min: 1, max: 200 }),
  })
  .chain(({ dense, rowCounts, width, optimizerDense, optimizerTables, remainders, ...rest }) =>
    fc
      .tuple(...[...rowCounts.values()].map((rowCount) => tableOf(rowCount, width)))
      .map((tables): Case => ({
        pieceByteCountMax: rest.pieceByteCountMax,
        spec: {
          ...tinySpec(),
          tableRowWidth: width,
          variables: [...dense].map(([variable, { shape }]) => ({
            name: variable,
            shape,
            block: 'trunk',
            initial: { kind: 'zeros' },
          })),
          tables: [...rowCounts].map(([feature, rowCount]) => ({
            name: feature,
            rowCount,
            initial: { kind: 'zeros' },
          })),
        },
        state: {
          outerStep: rest.outerStep,
          metaParameters: {
            dense,
            tables: new Map([...rowCounts.keys()].map((key, index) => [key, tables[index]!])),
          },
          optimizer: { dense: optimizerDense, tables: optimizerTables, scalars: rest.scalars },
          computedOn: [{ outerStep: 0, fingerprint: 'test-01234567' }],
          ...(remainders.size === 0 ? {} : { remainders }),
        },
      })),
  );

async function expectRoundTrip(
  store: ObjectStore,
  { spec, state, pieceByteCountMax }: Case,
): Promise<void> {
  const { digest } = await checkpointsIn(store, { spec, pieceByteCountMax }).write(state);
  const reader = checkpointsIn(store, { spec });
  const found = (await reader.latest())!;
  expect(reader.warnings).toEqual([]);
  expect(bitsOf(found)).toEqual(bitsOf(state));
  expect((await reader.write(found)).digest).toBe(digest);
}

describe('a checkpoint', () => {
  const folder = openedOnce(temporaryFolder);

  it('restores any state from memory', async () => {
    await fc.assert(
      fc.asyncProperty(cases, (given) => expectRoundTrip(new MemoryObjectStore(), given)),
      { numRuns: 120 },
    );
  });

  it('restores any state from a folder', async () => {
    let runCount = 0;
    await fc.assert(
      fc.asyncProperty(cases, (given) => {
        runCount += 1;
        const store = new FileObjectStore({ folder: join(folder.path, `run-${runCount}`) });
        return expectRoundTrip(store, given);
      }),
      { numRuns: 15 },
    );
  });
});
