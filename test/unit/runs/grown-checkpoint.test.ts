/**
 * Checkpoints of a store that logs were appended to since: what is read is the state on the grown store, and it
 * says which stores it was trained on.
 */

import { describe, expect, it } from 'vitest';
import {
  openCheckpoints,
  type Checkpoints,
} from '../../../coordinator/checkpoints/checkpoint-writer.js';
import {
  grownState,
  type CheckpointIdentity,
} from '../../../coordinator/checkpoints/checkpoint-reader.js';
import {
  latestManifestOf,
  type TrainingState,
} from '../../../coordinator/checkpoints/checkpoint-manifest.js';
import { refreshedLengthOf } from '../../../coordinator/runs/export-run.js';
import { train } from '../../../coordinator/training/outer-loop.js';
import { modelSpecOf, type ModelSpec } from '../../../shared/models/model-spec.js';
import { MemoryObjectStore } from '../../../shared/storage/memory-object-store.js';
import { storeAt } from '../../fixtures/bundle/grown-stores.js';
import { instantClock } from '../../fixtures/clocks/instant-clock.js';
import { logisticConfig, stateDigest, tinyRun } from '../../fixtures/training/training-run.js';

type StoreGrowth = NonNullable<CheckpointIdentity['growth']>;

const config = logisticConfig({
  outerSteps: 4,
  tasksPerOuterStep: 6,
  leavesPerOuterStepMin: 3,
  checkpointEveryOuterSteps: 1,
  optimizer: { kind: 'adam', rate: 0.05 },
});

/** A logistic model with one table of one value a row. */
function specWith(rowCount: number): ModelSpec {
  const feature = {
    name: 'site',
    kind: 'category',
    rowCount,
    encoding: { by: 'dictionary', countMin: 1 },
  } as const;
  return modelSpecOf(config.model, [feature], config.method);
}

function stateWith(values: readonly number[]): TrainingState {
  const table = { rowCount: values.length, width: 1, values: Float32Array.from(values) };
  const moments = { ...table, values: new Float32Array(values.length).fill(9) };
  const dense = new Map(
    specWith(values.length).variables.map(({ name, shape }) => [
      name,
      { shape, values: new Float32Array(shape.reduce((product, size) => product * size, 1)) },
    ]),
  );
  return {
    outerStep: 7,
    metaParameters: { dense, tables: new Map([['site', table]]) },
    optimizer: {
      dense: new Map(),
      tables: new Map([['adam.firstMoment/site', moments]]),
      scalars: {},
    },
    computedOn: [],
  };
}

it('a state on a grown store has rows like that of unknown values, without moments', () => {
  const grown = grownState(stateWith([5, 6, 7]), 'first', specWith(5));
  expect([...(grown.metaParameters.tables.get('site')?.values ?? [])]).toEqual([5, 6, 7, 5, 5]);
  const moments = grown.optimizer.tables.get('adam.firstMoment/site');
  expect([...(moments?.values ?? [])]).toEqual([9, 9, 9, 0, 0]);
  expect(grown.earlierStores).toEqual([{ outerStep: 7, storeDigest: 'first' }]);
});

const [FIRST, SECOND] = [storeAt(1), storeAt(2)] as const;
const specOn = ({ manifest }: typeof FIRST): ModelSpec =>
  modelSpecOf(config.model, manifest.features);
const GROWTH: StoreGrowth = {
  specAt: (digest) => (digest === FIRST.digest ? specOn(FIRST) : null),
};

function checkpointsOn(objects: MemoryObjectStore, store: typeof FIRST): Checkpoints {
  return openCheckpoints({
    ...{ store: objects, runName: 'tiny-run', configHash: 'hash', deciding: {}, growth: GROWTH },
    ...{ storeDigest: store.digest, spec: specOn(store), kept: 9, clock: instantClock() },
    sink: () => undefined,
  });
}

function trainedOn(
  objects: MemoryObjectStore,
  store: typeof FIRST,
  { extendTo, stopAt }: { readonly extendTo?: number; readonly stopAt?: number } = {},
) {
  const { options } = tinyRun(
    config,
    {
      checkpoints: checkpointsOn(objects, store),
      ...(stopAt === undefined ? {} : { stopAtOuterStep: stopAt }),
    },
    store,
  );
  return train({
    ...options,
    start: { resume: true, ...(extendTo === undefined ? {} : { extendTo }) },
  });
}

describe('training that goes on with a grown store', () => {
  it('begins with the checkpoint, trains new rows and records both stores', async () => {
    const objects = new MemoryObjectStore();
    const before = await trainedOn(objects, FIRST, { stopAt: 2 });
    const after = await trainedOn(objects, SECOND);
    expect([before.outerSteps, after.outerSteps]).toEqual([2, 4]);
    const manifest = await latestManifestOf(objects);
    expect(manifest?.storeDigest).toBe(SECOND.digest);
    expect(manifest?.earlierStores).toEqual([{ outerStep: 2, storeDigest: FIRST.digest }]);
    const table = after.state.metaParameters.tables.get('category0');
    const earlierRowCount = before.state.metaParameters.tables.get('category0')?.rowCount ?? 0;
    expect(table?.rowCount).toBe(earlierRowCount + 5);
  });

  it('has the same bits when it is stopped between, and is read back as it was', async () => {
    const [whole, stopped] = [new MemoryObjectStore(), new MemoryObjectStore()];
    for (const objects of [whole, stopped]) await trainedOn(objects, FIRST);
    const expected = await trainedOn(whole, SECOND, { extendTo: 7 });
    await trainedOn(stopped, SECOND, { extendTo: 7, stopAt: 5 });
    const manifest = await latestManifestOf(stopped);
    expect(manifest).toMatchObject({ outerStep: 5, extendedOuterSteps: 7 });
    const found = await trainedOn(stopped, SECOND);
    expect(found.outerSteps).toBe(7);
    expect(stateDigest(found.state)).toEqual(stateDigest(expected.state));
  });
});

describe('the length that a refresh trains to', () => {
  const store = {
    digest: 'new',
    manifest: {
      ...SECOND.manifest,
      appends: [
        {
          ...{ earlierDigest: 'old', earlierRowCounts: {}, logDigests: [], firstRow: 1 },
          ...{ logRowCount: 1, changedTaskCount: 1, newTaskCount: 0 },
        },
      ],
    },
  };
  const lengthOf = (
    manifest: Partial<Parameters<typeof refreshedLengthOf>[0]>,
    training: Partial<typeof config.training> = {},
  ) =>
    refreshedLengthOf(
      { outerStep: 4, storeDigest: 'old', ...manifest },
      {
        ...{ store, outerSteps: 3 },
        config: { ...config, training: { ...config.training, ...training } },
      },
    );

  it('is counted from the end of the run, and kept once it has begun', () => {
    expect(lengthOf({})).toBe(7);
    const begun = { storeDigest: 'new', earlierStores: [{ outerStep: 4, storeDigest: 'old' }] };
    expect(lengthOf({ ...begun, outerStep: 5, extendedOuterSteps: 6 })).toBe(6);
    expect(lengthOf({ ...begun, outerStep: 6, extendedOuterSteps: 6 })).toBeNull();
  });

  it('is none where nothing was appended, and refused where it has no meaning', () => {
    expect(lengthOf({ storeDigest: 'new' })).toBeNull();
    expect(() => lengthOf({ outerStep: 3 })).toThrow(/not been trained to its end/);
    expect(() => lengthOf({ storeDigest: 'other' })).toThrow(/another task store/);
  });

  it('is counted from where a run stopped early, which is its end', () => {
    const earlyStopping = { everyOuterSteps: 1, patience: 2, tasksMax: 100 };
    const validated = [0.3, 0.4, 0.5].map((loss, place) => ({ outerStep: place + 1, loss }));
    expect(lengthOf({ outerStep: 3, validated }, { earlyStopping })).toBe(6);
    const begun = { storeDigest: 'new', earlierStores: [{ outerStep: 1, storeDigest: 'old' }] };
    const ofGrown = { ...begun, outerStep: 3, extendedOuterSteps: 5 };
    expect(lengthOf({ ...ofGrown, validated }, { earlyStopping })).toBeNull();
    expect(lengthOf({ ...ofGrown, validated: validated.slice(1) }, { earlyStopping })).toBe(5);
  });
});
