/**
 * Tables on row servers have the bits of tables in one process: for every optimizer, whatever rows are
 * touched, and with other servers and other pieces after a checkpoint.
 */

import fc from 'fast-check';
import { expect, it } from 'vitest';
import type { TrainingState } from '../../../coordinator/checkpoints/training-state.js';
import { parseManifest } from '../../../coordinator/checkpoints/checkpoint-manifest.js';
import { RowHost } from '../../../coordinator/tables/row-host.js';
import { localTables, type RunTables } from '../../../coordinator/tables/run-tables.js';
import { ServedTables } from '../../../coordinator/tables/served-tables.js';
import type { MetaGradient } from '../../../coordinator/training/meta-optimizer/meta-gradient.js';
import { metaOptimizerOf } from '../../../coordinator/training/meta-optimizer/meta-optimizer.js';
import {
  servedStateFrom,
  stateFrom,
  type StartFrom,
} from '../../../coordinator/training/start-from.js';
import { randomStream } from '../../../shared/base/random.js';
import {
  TrainingConfigSchema,
  type TrainingConfig,
} from '../../../shared/config/training-config.js';
import { initialMetaParameters } from '../../../shared/models/initial-values.js';
import { MemoryObjectStore } from '../../../shared/storage/memory-object-store.js';
import { layoutOf } from '../../fixtures/gradient-results.js';
import { checkpointsIn } from '../../fixtures/stores/checkpoint-stores.js';
import { bitsOf, tinySpec } from '../../fixtures/training-states.js';

const SEED = 3;
const OUTER_STEPS = 8;
const ROW_COUNTS = [23, 0, 7];
const spec = tinySpec(ROW_COUNTS);

const trainings: fc.Arbitrary<TrainingConfig> = fc
  .record({
    optimizer: fc.constantFrom(
      { kind: 'adam', rate: 0.1 },
      { kind: 'adam', rate: 0.1, lazy: false, epsilonOn: 'raw' },
      { kind: 'sgd', rate: 0.1 },
      { kind: 'sgd', rate: 0.1, momentum: 0.9 },
    ),
    weightDecay: fc.constantFrom(0, 0.2),
    gradientNormMax: fc.constantFrom(0.5, 1000),
    trainable: fc.constantFrom(undefined, ['bias', 'category 2/ä']),
    schedule: fc.constantFrom({}, { warmupOuterSteps: 3, decay: 'cosine', finalShare: 0.1 }),
  })
  .map(({ trainable, ...rest }) =>
    TrainingConfigSchema.parse({
      ...rest,
      outerSteps: OUTER_STEPS,
      ...(trainable === undefined ? {} : { trainable }),
    }),
  );

/** The touched ids of each table. */
const touched = fc.tuple(
  ...ROW_COUNTS.map((rowCount) =>
    fc
      .uniqueArray(fc.nat({ max: Math.max(0, rowCount - 1) }), { maxLength: rowCount })
      .map((ids) => ids.sort((a, b) => a - b)),
  ),
);

const cases = fc.record({
  training: trainings,
  steps: fc.array(touched, { minLength: OUTER_STEPS, maxLength: OUTER_STEPS }),
  checkpointAfter: fc.integer({ min: 0, max: OUTER_STEPS - 1 }),
  serverCounts: fc.tuple(fc.integer({ min: 1, max: 4 }), fc.integer({ min: 1, max: 4 })),
  pieceByteCounts: fc.tuple(fc.constantFrom(1, 24, 60, 1000), fc.constantFrom(1, 24, 60, 1000)),
});

function gradientOf(idsByTable: readonly number[][], step: number): MetaGradient {
  const stream = randomStream(SEED, 'gradient', step);
  const draws = (count: number): Float32Array =>
    Float32Array.from({ length: count }, () => stream.normal());
  const dense = spec.variables.map(({ name, shape }) => {
    const count = shape.reduce((product, extent) => product * extent, 1);
    return [name, { shape, values: draws(count) }] as const;
  });
  const rows = spec.tables.map(({ name }, index) => {
    const ids = Int32Array.from(idsByTable[index] ?? []);
    return [name, { ids, values: draws(ids.length * spec.tableRowWidth) }] as const;
  });
  return { dense: new Map(dense), rows: new Map(rows) };
}

async function packsOf(tables: RunTables, idsByTable: readonly number[][]): Promise<string[]> {
  const other = idsByTable.map((ids) => ids.filter((id) => id % 2 === 0));
  const layouts = [layoutOf(...idsByTable), layoutOf(...other)];
  const packOf = await tables.gather(layouts);
  return layouts.map((_, jobIndex) => Buffer.from(packOf(jobIndex)).toString('hex'));
}

it('holds for a run that starts from another, which may lack a table', async () => {
  await fc.assert(
    fc.asyncProperty(
      cases,
      fc.nat({ max: 9_000 }),
      fc.constantFrom(...ROW_COUNTS.keys(), null),
      async ({ training, steps, serverCounts, pieceByteCounts }, baseSeed, lacking) => {
        const base = new MemoryObjectStore();
        const known = initialMetaParameters(spec, baseSeed);
        const baseState: TrainingState = {
          ...{ outerStep: 7, metaParameters: known, computedOn: [] },
          optimizer: metaOptimizerOf(training, spec.variables).init(known),
        };
        const [basePieces, ownPieces] = pieceByteCounts;
        await checkpointsIn(base, { spec, pieceByteCountMax: basePieces }).write(baseState);
        const [key = ''] = await base.list('manifests/');
        const manifest = parseManifest((await base.get(key))?.bytes ?? new Uint8Array(), key);
        const lacked = lacking === null ? undefined : spec.tables[lacking]?.name;
        const start = (tables: typeof known.tables): StartFrom => ({
          metaParameters: { dense: known.dense, tables },
        });

        const optimizer = metaOptimizerOf(training, spec.variables);
        const had = [...known.tables].filter(([name]) => name !== lacked);
        const local = stateFrom(start(new Map(had)), spec, SEED, optimizer);
        const inProcess = localTables(local, spec, training);

        const own = new MemoryObjectStore();
        const [serverCount] = serverCounts;
        const hosts = Array.from({ length: serverCount }, (_, server) => {
          const plan = { frame: spec, training, server, serverCount, pieceByteCountMax: ownPieces };
          return new RowHost(plan, own, () => base);
        });
        const served = new ServedTables(hosts, { spec, training, pieceByteCountMax: ownPieces });
        const tables = manifest.tables.filter(({ name }) => name !== lacked);
        const from = { ...start(new Map()), tables: { address: base.address, tables } };
        const state = await servedStateFrom(from, served, spec, SEED);

        const ids = steps[0] ?? [];
        expect(await packsOf(served, ids)).toEqual(await packsOf(inProcess, ids));
        const expected = await inProcess.step(local, gradientOf(ids, 0));
        const found = await served.step(state, gradientOf(ids, 0));
        await checkpointsIn(own, { spec }).write(found, served.snapshot());
        expect(bitsOf((await checkpointsIn(own, { spec }).latest())!)).toEqual(bitsOf(expected));
      },
    ),
    { numRuns: 60 },
  );
});

it('holds', async () => {
  await fc.assert(
    fc.asyncProperty(cases, async (given) => {
      const { training, steps, checkpointAfter, serverCounts, pieceByteCounts } = given;
      const store = new MemoryObjectStore();
      const serve = (serverCount: number, pieceByteCountMax: number): ServedTables => {
        const hosts = Array.from({ length: serverCount }, (_, server) => {
          const plan = { frame: spec, training, server, serverCount, pieceByteCountMax };
          return new RowHost(plan, store, () => store);
        });
        return new ServedTables(hosts, { spec, training, pieceByteCountMax });
      };
      const metaParameters = initialMetaParameters(spec, SEED);
      let local: TrainingState = {
        ...{ outerStep: 0, metaParameters, computedOn: [] },
        optimizer: metaOptimizerOf(training, spec.variables).init(metaParameters),
      };
      const inProcess = localTables(local, spec, training);
      let tables = serve(serverCounts[0], pieceByteCounts[0]);
      let served = await tables.fresh(SEED);
      const resumed = checkpointsIn(store, { spec, tableDigest: 'pieces' });
      for (const [step, ids] of steps.entries()) {
        expect(await packsOf(tables, ids)).toEqual(await packsOf(inProcess, ids));
        const pending =
          step === checkpointAfter
            ? checkpointsIn(store, { spec }).write(served, tables.snapshot())
            : null;
        local = await inProcess.step(local, gradientOf(ids, step));
        served = await tables.step(served, gradientOf(ids, step));
        await pending;
        if (pending === null) continue;
        // The others resume from the checkpoint and take the step again.
        tables = serve(serverCounts[1], pieceByteCounts[1]);
        served = (await resumed.latest(tables))!;
        expect(served.outerStep).toBe(step);
        served = await tables.step(served, gradientOf(ids, step));
      }
      const { digest } = await resumed.write(served, tables.snapshot());
      expect((await resumed.write(served, tables.snapshot())).digest).toBe(digest);
      expect(bitsOf((await checkpointsIn(store, { spec }).latest())!)).toEqual(bitsOf(local));
    }),
    { numRuns: 60 },
  );
});
