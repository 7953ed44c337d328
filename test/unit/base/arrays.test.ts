// Checked array access, the median, and JSON text that depends only on the value.

import { describe, expect, test } from 'vitest';
import {
  at,
  float32At,
  float64At,
  int32At,
  median,
  numberAt,
  spanAt,
  uint32At,
  uint8At,
} from '../../../shared/base/arrays.js';
import { canonicalJson } from '../../../shared/base/canonical-json.js';

describe('checked access', () => {
  test('returns the element, even if it is undefined', () => {
    expect(at([3, 4], 1)).toBe(4);
    expect(at(Float32Array.of(0.5), 0)).toBe(0.5);
    const unknown: (number | undefined)[] = [undefined];
    expect(at(unknown, 0)).toBeUndefined();
  });

  test.each([-1, 2, 0.5, NaN])('refuses index %s of two', (index) => {
    expect(() => at([3, 4], index)).toThrow(`no element ${index} among 2`);
  });
});

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

describe('median', () => {
  test('is the middle value, or the mean of the middle two', () => {
    expect(median([3, 1, 20])).toBe(3);
    expect(median([4, 1, 20, 2])).toBe(3);
  });
});

describe('canonical JSON', () => {
  test('ignores the order of keys at any depth', () => {
    const one = canonicalJson({ b: [{ y: 1, x: 'é' }], a: null });
    expect(one).toBe('{"a":null,"b":[{"x":"é","y":1}]}');
    expect(canonicalJson({ a: null, b: [{ x: 'é', y: 1 }] })).toBe(one);
  });

  test('omits keys without a value but keeps positions in a list', () => {
    expect(canonicalJson({ a: undefined, b: [undefined, 1] })).toBe('{"b":[null,1]}');
  });
});

describe('consecutive parts', () => {
  test('span from the start of the first to the end of the last', () => {
    const starts = Int32Array.of(0, 2, 2, 5);
    expect([0, 1, 2].map((part) => spanAt(starts, part))).toEqual([
      [0, 2],
      [2, 2],
      [2, 5],
    ]);
    expect(() => spanAt(starts, 3)).toThrow('no element 4 among 4');
  });
});
