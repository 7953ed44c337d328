/** Named tensors, embedding tables and the digest of meta-parameters, with worked values. */

import { createHash } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { digestOf, layoutDifferences, type DenseTensor } from '../../../shared/tensors/named-tensors.js';
import { metaParametersDigest } from '../../../shared/models/meta-parameters.js';

const tensorOf = (shape: number[], ...values: number[]): DenseTensor => ({
  shape,
  values: Float32Array.from(values),
});

describe('named tensors', () => {
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
});

describe('the digest of meta-parameters', () => {
  const table = (width: number, ...values: number[]) => ({
    rowCount: values.length / width,
    width,
    values: Float32Array.from(values),
  });
  const dense = new Map([['bias', tensorOf([1], 1)]]);

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
