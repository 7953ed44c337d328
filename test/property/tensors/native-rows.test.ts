// The loops of the native addon give the bits of those in TypeScript, for tables of any width, and refuse what does
// not fit before they write. Seen to fail: a product contracted with its sum, a row fetched at the place of its
// neighbour, the correction of the other moment.

import fc from 'fast-check';
import { afterEach, beforeAll, describe, expect, test } from 'vitest';
import { rowAddon } from '../../../infra/bootstrap/tables/row-addon.mjs';
import { randomStream, type RandomStream } from '../../../shared/base/random.js';
import { gatherRows, type EmbeddingTable } from '../../../shared/tensors/embedding-table.js';
import {
  loadNativeRows,
  nativeRows,
  unloadNativeRows,
} from '../../../shared/tensors/native-rows.js';
import { sketchOf } from '../../../shared/tensors/sketch.js';
import { MetaGradientSum } from '../../../coordinator/training/meta-gradient-sum.js';
import { touchedRows } from '../../../coordinator/training/meta-optimizer/adam-rows.js';
import { chain } from '../../../coordinator/training/meta-optimizer/chain.js';
import { addDecoupledWeightDecay } from '../../../coordinator/training/meta-optimizer/decoupled-weight-decay.js';
import { steppedState } from '../../../coordinator/training/meta-optimizer/meta-optimizer.js';
import { gradientReader } from '../../../coordinator/training/gradients/job-gradient.js';
import { tinySpec, tinyState } from '../../fixtures/training-states.js';
import { deliveredOf, layoutOf, shapesFor, tensorsOf } from '../../fixtures/gradient-results.js';

beforeAll(async () => {
  await rowAddon.install(() => undefined, { retry: true });
});
afterEach(unloadNativeRows);

/** What a computation gives in TypeScript, and with the addon. */
function bothWays<Value>(compute: () => Value): [Value, Value] {
  unloadNativeRows();
  const inTypeScript = compute();
  loadNativeRows(rowAddon.path());
  expect(nativeRows()).not.toBeNull();
  return [inTypeScript, compute()];
}

/** Ordinary values, zeros, and some that are very small or large. */
function valuesOf(random: RandomStream, count: number): Float32Array {
  const scales = [1, 1, 1, 0, 1e-30, 1e30];
  return Float32Array.from(
    { length: count },
    () => random.normal() * (scales[random.below(6)] ?? 1),
  );
}

interface Case {
  readonly random: RandomStream;
  readonly table: EmbeddingTable;
  readonly ids: Int32Array;
}

const cases = fc
  .record({
    seed: fc.nat(),
    rowCount: fc.integer({ min: 1, max: 60 }),
    width: fc.integer({ min: 1, max: 40 }),
  })
  .map(({ seed, rowCount, width }) => (): Case => {
    const random = randomStream(seed, 'native rows');
    const table = { rowCount, width, values: valuesOf(random, rowCount * width) };
    const ids = [...Array(rowCount).keys()].filter(() => random.below(3) > 0);
    return { random, table, ids: Int32Array.from(ids) };
  });

describe('the native loops', () => {
  test('gather rows', () => {
    fc.assert(
      fc.property(cases, (make) => {
        const [first, second] = bothWays(() => {
          const { table, ids } = make();
          const target = new Float32Array((ids.length + 2) * table.width);
          gatherRows(table, ids, target, 1);
          return target;
        });
        expect(second).toEqual(first);
      }),
    );
  });

  test('sketch bytes of any number, wherever they lie', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 300 }), fc.nat({ max: 5 }), (bytes, offset) => {
        const [first, second] = bothWays(() => sketchOf(bytes.subarray(offset)));
        expect(second).toEqual(first);
      }),
    );
  });

  test('take a step of Adam', () => {
    const step = { firstMomentDecay: 0.9, secondMomentDecay: 0.999, epsilon: 1e-8 };
    fc.assert(
      fc.property(cases, fc.integer({ min: 1, max: 500 }), (make, outerStep) => {
        const corrections = {
          firstCorrection: 1 - 0.9 ** outerStep,
          secondCorrection: 1 - 0.999 ** outerStep,
        };
        const [first, second] = bothWays(() => {
          const { random, table, ids } = make();
          const squares = { ...table, values: table.values.map((value) => value * value) };
          const values = valuesOf(random, ids.length * table.width);
          const moments = { first: table, second: squares };
          const directions = touchedRows({ ...step, ...corrections }, { ids, values }, moments);
          return [directions, table.values, squares.values];
        });
        expect(second).toEqual(first);
      }),
    );
  });

  test('decay rows and add updates to them', () => {
    fc.assert(
      fc.property(cases, (make) => {
        const [first, second] = bothWays(() => {
          const { random, table, ids } = make();
          const metaParameters = { dense: new Map(), tables: new Map([['t', table]]) };
          const updates = valuesOf(random, ids.length * table.width);
          const state = { ...tinyState(tinySpec(), 0), metaParameters };
          const gradient = { dense: new Map(), rows: new Map([['t', { ids, values: updates }]]) };
          steppedState(chain(addDecoupledWeightDecay(0.013, [])), state, gradient);
          return [updates, table.values];
        });
        expect(second).toEqual(first);
      }),
    );
  });

  test('sum the gradients of jobs', () => {
    const idsOfJob = fc.uniqueArray(fc.nat(40), { maxLength: 12 });
    const jobs = fc.array(fc.record({ colour: idsOfJob, shape: idsOfJob }), {
      minLength: 1,
      maxLength: 6,
    });
    fc.assert(
      fc.property(jobs, fc.nat(), (drawn, seed) => {
        const [first, second] = bothWays(() => {
          const random = randomStream(seed, 'native sums');
          const layouts = drawn.map(({ colour, shape }) =>
            layoutOf(ascending(colour), ascending(shape)),
          );
          const shapes = shapesFor(layouts);
          const [read, sum] = [gradientReader(shapes), new MetaGradientSum(shapes.spec)];
          sum.begin(layouts);
          for (const [jobIndex, { rowCount }] of layouts.entries()) {
            const rows = [...valuesOf(random, rowCount)];
            const gradient = read(deliveredOf(jobIndex, tensorsOf([random.normal(), 1e20], rows)));
            if (typeof gradient === 'string') throw new Error(gradient);
            sum.add(gradient);
          }
          return structuredClone(sum.metaGradient());
        });
        expect(second).toEqual(first);
      }),
    );
  });

  test('refuse ids and arrays that do not fit, and leave all as it was', () => {
    loadNativeRows(rowAddon.path());
    const native = nativeRows();
    if (native === null) throw new Error('the addon is not loaded');
    const table = Float32Array.of(1, 2, 3, 4);
    const target = new Float32Array(4);
    for (const id of [2, -1, 2 ** 31 - 1])
      expect(() => native.gather(table, 2, Int32Array.of(0, id), target, 0)).toThrow(
        'no row of an id',
      );
    expect(() => native.gather(table, 2, Int32Array.of(0, 1), target, 1)).toThrow('do not fit');
    expect(() => native.add(table, 2, Int32Array.of(0), new Float32Array(1))).toThrow('do not fit');
    expect(() => native.gather(table, 1.5, Int32Array.of(0), target, 0)).toThrow('no whole number');
    expect(() => native.sumAll(new Float64Array(2), table)).toThrow('differ in size');
    expect(() => native.sketch(new Uint8Array(63), new Uint32Array(32))).toThrow('cut off');
    expect(() => native.sketch(new Uint8Array(64), new Uint32Array(31))).toThrow('32 words');
    const sums = new Float64Array(2);
    const absent = () => native.sum(sums, 2, Int32Array.of(4), Int32Array.of(4, 5), table, 0);
    expect(absent).toThrow('does not touch a row');
    expect([...sums, ...target]).toEqual([0, 0, 0, 0, 0, 0]);
  });

  test('a file that is no addon leaves the loops of TypeScript', () => {
    loadNativeRows('/nowhere/rows.node');
    loadNativeRows(new URL(import.meta.url).pathname);
    expect(nativeRows()).toBeNull();
  });
});

function ascending(ids: readonly number[]): number[] {
  return [...ids].sort((a, b) => a - b);
}
