// The loops of the native addon give the bits of those in TypeScript, for tables of any width, and refuse what does
// not fit before they write. Seen to fail: a product contracted with its sum, a row fetched at the place of its
// neighbour, the correction of the other moment.

import fc from 'fast-check';
import { afterEach, beforeAll, describe, expect, test } from 'vitest';
import { rowAddon } from '../../../infra/bootstrap/native-addons.mjs';
import { randomStream, type RandomStream } from '../../../shared/base/random.js';
import { joinNodes, type GradientNode } from '../../../shared/sums/gradient-node.js';
import { uniqueIdsOf } from '../../../shared/tasks/row-pack.js';
import { gatherRows } from '../../../shared/tensors/named-tensors.js';
import {
  loadNativeRows,
  nativeRows,
  unloadNativeRows,
} from '../../../shared/tensors/native-rows.js';
import {
  chain,
  clipByGlobalNorm,
  addDecoupledWeightDecay,
  takeDirections,
  steppedState,
} from '../../../coordinator/training/meta-optimizer.js';
import { tinySpec, tinyState } from '../../fixtures/training-states.js';

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

const cases = fc
  .record({
    seed: fc.nat(),
    rowCount: fc.integer({ min: 1, max: 60 }),
    width: fc.integer({ min: 1, max: 40 }),
  })
  .map(({ seed, rowCount, width }) => () => {
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
        expectSameBits([second], [first]);
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
          takeDirections({ ...step, ...corrections }, { ids, values }, table, squares);
          return [values, table.values, squares.values];
        });
        expectSameBits(second, first);
      }),
    );
  });

  test('clip updates, decay rows and add updates to them', () => {
    fc.assert(
      fc.property(cases, (make) => {
        const [first, second] = bothWays(() => {
          const { random, table, ids } = make();
          const metaParameters = { dense: new Map(), tables: new Map([['t', table]]) };
          const updates = valuesOf(random, ids.length * table.width);
          const state = { ...tinyState(tinySpec(), 0), metaParameters };
          const gradient = { dense: new Map(), rows: new Map([['t', { ids, values: updates }]]) };
          const stages = [clipByGlobalNorm(1), addDecoupledWeightDecay(0.013, [])];
          steppedState(chain(...stages), state, gradient);
          return [updates, table.values];
        });
        expectSameBits(second, first);
      }),
    );
  });

  test('join the sums of the tree', () => {
    const idsOfTable = fc.uniqueArray(fc.nat(40), { maxLength: 12 });
    const leaves = fc.array(fc.record({ colour: idsOfTable, shape: idsOfTable }), {
      minLength: 1,
      maxLength: 6,
    });
    fc.assert(
      fc.property(leaves, fc.integer({ min: 1, max: 40 }), fc.nat(), (drawn, width, seed) => {
        const [first, second] = bothWays(() => {
          const random = randomStream(seed, 'native sums');
          return drawn
            .map(({ colour, shape }) => nodeOf(random, [colour, shape], width))
            .reduce((left, right) => joinNodes(left, right, width));
        });
        expect(second.idsByTable).toEqual(first.idsByTable);
        expectSameBits([second.dense, second.rows], [first.dense, first.rows]);
      }),
    );
  });

  test('list distinct ids', () => {
    const ID_MAX = 2 ** 31 - 1;
    // Near ids are marked in a set of bits, and others are sorted.
    const ids = fc.oneof(
      fc.array(fc.integer({ min: -1, max: 200 })),
      fc.array(fc.integer({ min: -5, max: ID_MAX }), { maxLength: 10 }),
      fc.array(fc.constantFrom(-1, 0, 63, 64, ID_MAX), { maxLength: 10 }),
    );
    fc.assert(
      fc.property(fc.array(ids, { maxLength: 4 }), (lists) => {
        const [first, second] = bothWays(() =>
          uniqueIdsOf(lists.map((list) => Int32Array.of(...list))),
        );
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
    expect(() => native.addAll(new Float32Array(2), table)).toThrow('differ in size');
    const merge =
      (left: number[], right: number[], rows = table) =>
      (): void =>
        native.merge(target, 2, Int32Array.from(left), rows, Int32Array.from(right), table);
    // Both lists are two rows, and the target has place for two rows.
    for (const [left, right] of [
      [
        [0, 0],
        [0, 1],
      ],
      [
        [1, 0],
        [0, 1],
      ],
      [
        [0, 1],
        [1, 1],
      ],
    ] as const)
      expect(merge([...left], [...right])).toThrow('ids do not ascend');
    expect(merge([0, 1], [0, 2])).toThrow('do not fit');
    expect(merge([0, 1], [0, 1], table.subarray(1))).toThrow('do not fit');
    expect([...target]).toEqual([0, 0, 0, 0]);
    merge([0, 1], [0, 1])();
    expect([...target]).toEqual([2, 4, 6, 8]);
  });

  test('a file that is no addon leaves the loops of TypeScript', () => {
    loadNativeRows('/nowhere/rows.node');
    loadNativeRows(new URL(import.meta.url).pathname);
    expect(nativeRows()).toBeNull();
  });
});

/** Not all that a gradient may hold is finite, and a sum with -0 or NaN is none with 0. */
function nodeOf(random: RandomStream, ids: readonly number[][], width: number): GradientNode {
  const special = [-0, 0, NaN, Infinity, -Infinity, 1e-45, 3e38];
  const values = (count: number): Float32Array =>
    valuesOf(random, count).map((value) =>
      random.below(4) === 0 ? (special[random.below(special.length)] ?? value) : value,
    );
  const idsByTable = ids.map((ofTable) => Int32Array.from([...ofTable].sort((a, b) => a - b)));
  const rowCount = idsByTable.reduce((sum, { length }) => sum + length, 0);
  return { dense: values(5), idsByTable, rows: values(rowCount * width) };
}

/** A matcher would take longer for these arrays than both computations. */
function expectSameBits(found: readonly Float32Array[], expected: readonly Float32Array[]): void {
  // NaN has one pattern here: which of two is kept depends on the processor.
  const bitsOf = (arrays: readonly Float32Array[]): string =>
    arrays
      .map((values) => hexOf(values.map((value) => (Number.isNaN(value) ? NaN : value))))
      .join();
  expect(bitsOf(found)).toBe(bitsOf(expected));
}

const hexOf = ({ buffer }: Float32Array): string => Buffer.from(buffer).toString('hex');
