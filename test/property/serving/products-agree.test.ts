/**
 * Products of matrices in the addon, on every instruction set, are those of plain TypeScript, which are held to sums
 * written out here. Seen to fail: a last column left out, a product that replaces its target, a tile of four rows with the
 * first one's values, the second matrix read as if it were not transposed, and the first one.
 */

import fc from 'fast-check';
import { beforeAll, expect, test } from 'vitest';
import { scoringAddon } from '../../../infra/bootstrap/serving/scoring-addon.mjs';
import { randomStream } from '../../../shared/base/random.js';
import {
  nativeProduct,
  plainProduct,
  type AddProduct,
} from '../../../worker/serving/dense-product.js';
import { loadScoringAddon } from '../../../worker/serving/kernel-scorer.js';

let products: AddProduct[];
beforeAll(async () => {
  await scoringAddon.install(() => undefined, { retry: true });
  const addon = loadScoringAddon(scoringAddon.path());
  products = [plainProduct, ...addon.kernels().map((_, place) => nativeProduct(addon, place))];
});

const extent = fc.integer({ min: 0, max: 37 });

test('a product is the sums that define it', () => {
  fc.assert(
    fc.property(
      fc.record({
        ...{ rows: extent, inner: extent, columns: extent, seed: fc.nat() },
        ...{ isFirstTransposed: fc.boolean(), isSecondTransposed: fc.boolean() },
      }),
      ({ rows, inner, columns, seed, isFirstTransposed, isSecondTransposed }) => {
        const random = randomStream(seed, 'products');
        const drawn = (count: number) =>
          Float64Array.from({ length: count }, () => Math.max(0, random.normal()));
        const [first, second] = [drawn(rows * inner), drawn(inner * columns)];
        const start = drawn(rows * columns);
        const expected = start.map((value, place) => {
          const [row, column] = [Math.floor(place / columns), place % columns];
          let sum = value;
          for (let k = 0; k < inner; k += 1)
            sum +=
              first[isFirstTransposed ? k * rows + row : row * inner + k]! *
              second[isSecondTransposed ? column * inner + k : k * columns + column]!;
          return sum;
        });
        for (const addProduct of products) {
          const target = start.slice();
          const extents = { rows, inner, columns, isFirstTransposed, isSecondTransposed };
          addProduct({ first, second, target, ...extents });
          for (const [place, value] of target.entries())
            expect(Math.abs(value - expected[place]!)).toBeLessThan(1e-12 * (1 + value));
        }
      },
    ),
    { numRuns: 300 },
  );
});

test('the addon refuses matrices that are shorter than their extents, or no doubles', () => {
  const native = products[1]!;
  const six = (): Float64Array => new Float64Array(6);
  const extents = { rows: 2, inner: 3, columns: 2 };
  const given = { first: six(), second: six(), target: new Float64Array(4), ...extents };
  expect(() => native(given)).not.toThrow();
  for (const short of ['first', 'second', 'target'])
    expect(() => native({ ...given, [short]: new Float64Array(3) })).toThrow(/too short/);
  const floats = new Float32Array(6) as unknown as Float64Array;
  expect(() => native({ ...given, first: floats })).toThrow(/another type/);
  expect(() => native({ ...given, rows: -1 })).toThrow(/no whole number/);
});
