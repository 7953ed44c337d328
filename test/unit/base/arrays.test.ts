// Checked array access, the median, JSON text that depends only on the value, and lists of numbers checked in one loop.
// Seen to fail: a loop that takes empty lists, infinite weights, fractions of an index.

import fc from 'fast-check';
import { describe, expect, it, test } from 'vitest';
import { z } from 'zod';
import {
  float32At,
  float64At,
  int32At,
  numberAt,
  uint32At,
  uint8At,
} from '../../../shared/base/arrays.js';
import { canonicalJson } from '../../../shared/base/canonical-json.js';
import { isIndex, isWeight, quickNumberList } from '../../../shared/queue/protocol.js';

describe.each<[string, (index: number) => number]>([
  ['float32At', (index) => float32At(Float32Array.of(0, 7), index)],
  ['float64At', (index) => float64At(Float64Array.of(0, 7), index)],
  ['int32At', (index) => int32At(Int32Array.of(0, 7), index)],
  ['uint32At', (index) => uint32At(Uint32Array.of(0, 7), index)],
  ['uint8At', (index) => uint8At(Uint8Array.of(0, 7), index)],
  ['numberAt', (index) => numberAt([0, 7], index)],
])('%s', (_, read) => {
  test('returns the element, even if it is 0', () => {
    expect([0, 1].map(read)).toEqual([0, 7]);
  });

  test.each([-1, 2, 0.5, NaN])('refuses index %s of two', (index) => {
    expect(() => read(index)).toThrow(`no element ${index} among 2`);
  });
});

test('canonical JSON ignores the order of keys at any depth', () => {
  const one = canonicalJson({ b: [{ y: 1, x: 'é' }], a: null });
  expect(one).toBe('{"a":null,"b":[{"x":"é","y":1}]}');
  expect(canonicalJson({ a: null, b: [{ x: 'é', y: 1 }] })).toBe(one);
});

const weights = z.array(z.number().nonnegative());
const indices = z.array(z.int().nonnegative()).min(1);
const anything = fc.oneof(
  { weight: 8, arbitrary: fc.nat(1_000) },
  fc.double(),
  fc.constantFrom(NaN, Infinity, -Infinity, -0, -1, 0.5, 2 ** 53, '1', null, undefined, [1]),
);

it.each([
  ['weights', weights, isWeight],
  ['indices', indices, isIndex],
] as const)('%s are taken and refused as one by one', (_, schema, isGood) => {
  const quick = quickNumberList(schema, isGood);
  fc.assert(
    fc.property(fc.oneof(fc.array(anything, { maxLength: 6 }), fc.anything()), (list) => {
      const [expected, found] = [schema.safeParse(list), quick.safeParse(list)];
      expect(found.data).toEqual(expected.data);
      expect(found.error?.issues.map(({ path, message }) => ({ path, message }))).toEqual(
        expected.error?.issues.map(({ path, message }) => ({ path, message })),
      );
    }),
    { numRuns: 500 },
  );
});
