/** Named tensors, embedding tables and the digest of meta-parameters, with worked values. */

import { createHash } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { metaParametersDigest } from '../../../shared/models/meta-parameters.js';
import { gatherRows, digestOf, elementCountOf, layoutDifferences, type DenseTensor } from '../../../shared/tensors/named-tensors.js';

const tensorOf = (shape: number[], ...values: number[]): DenseTensor => ({
  shape,
  values: Float32Array.from(values),
});

describe('named tensors', () => {
  it('count elements: a scalar has one, an empty dimension none', () => {
    expect([elementCountOf([]), elementCountOf([2, 3]), elementCountOf([4, 0])]).toEqual([1, 6, 0]);
  });

  it('layoutDifferences names missing, differently shaped and unknown tensors', () => {
    const expected = new Map([
      ['same', tensorOf([1], 0)],
      ['missing', tensorOf([1], 0)],
      ['shape', tensorOf([2, 1], 0, 0)],
    ]);
    const found = new Map([
      ['same', tensorOf([1], 9)],
      ['shape', tensorOf([1, 2], 0, 0)],
      ['extra', tensorOf([1], 0)],
    ]);
    expect(layoutDifferences(found, expected)).toEqual([
      'missing is missing',
      'shape is [1, 2], not [2, 1]',
      'extra is unknown',
    ]);
    expect(layoutDifferences(expected, expected)).toEqual([]);
  });

  it('digestOf is the SHA-256 of name, shape and bytes in name order', () => {
    const a = tensorOf([1], 1);
    const b = tensorOf([], 2);
    const expected = createHash('sha256')
      .update('a[1]\n')
      .update(Uint8Array.of(0, 0, 0x80, 0x3f))
      .update('b[]\n')
      .update(Uint8Array.of(0, 0, 0, 0x40))
      .digest('hex');
    expect(
      digestOf(
        new Map([
          ['a', a],
          ['b', b],
        ]),
      ),
    ).toBe(expected);
    expect(
      digestOf(
        new Map([
          ['b', b],
          ['a', a],
        ]),
      ),
    ).toBe(expected);
  });

  it('digestOf distinguishes one bit, a sign of zero, a shape and a name', () => {
    const digests = [
      new Map([['a', tensorOf([2], 0, 1)]]),
      new Map([['a', tensorOf([2], -0, 1)]]),
      new Map([['a', tensorOf([2], 0, 1 + 2 ** -23)]]),
      new Map([['a', tensorOf([1, 2], 0, 1)]]),
      new Map([['b', tensorOf([2], 0, 1)]]),
    ].map(digestOf);
    expect(new Set(digests).size).toBe(digests.length);
  });

  it('digestOf hashes a view without the surrounding bytes', () => {
    const view = { shape: [1], values: Float32Array.of(9, 1, 9).subarray(1, 2) };
    expect(digestOf(new Map([['a', view]]))).toBe(digestOf(new Map([['a', tensorOf([1], 1)]])));
  });
});

describe('the digest of meta-parameters', () => {
  const table = (width: number, ...values: number[]) => ({
    rowCount: values.length / width,
    width,
    values: Float32Array.from(values),
  });
  const dense = new Map([['bias', tensorOf([1], 1)]]);

  it('does not depend on the order of tables', () => {
    const [x, y] = [table(2, 1, 2), table(1, 3)];
    expect(
      metaParametersDigest({
        dense,
        tables: new Map([
          ['x', x],
          ['y', y],
        ]),
      }),
    ).toBe(
      metaParametersDigest({
        dense,
        tables: new Map([
          ['y', y],
          ['x', x],
        ]),
      }),
    );
  });

  it('distinguishes a bit of a table, its shape, its name and the dense part', () => {
    const digests = [
      { dense, tables: new Map([['x', table(2, 1, 2)]]) },
      { dense, tables: new Map([['x', table(2, 1, 2 + 2 ** -22)]]) },
      { dense, tables: new Map([['x', table(1, 1, 2)]]) },
      { dense, tables: new Map([['y', table(2, 1, 2)]]) },
      { dense, tables: new Map() },
      { dense: new Map([['bias', tensorOf([1], 2)]]), tables: new Map([['x', table(2, 1, 2)]]) },
    ].map(metaParametersDigest);
    expect(new Set(digests).size).toBe(digests.length);
  });
});

describe('embedding table', () => {
  const fresh = () => ({ rowCount: 3, width: 2, values: Float32Array.of(0, 1, 10, 11, 20, 21) });

  it('gathers rows in the order of ids, including repeated ones, starting at the given row', () => {
    const target = new Float32Array(8).fill(-1);
    gatherRows(fresh(), Int32Array.of(2, 0, 2), target, 1);
    expect([...target]).toEqual([-1, -1, 20, 21, 0, 1, 20, 21]);
  });
});
