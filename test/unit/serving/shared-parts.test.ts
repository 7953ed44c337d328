// Arrays that bundles have one after the other in memory that threads share.

import { expect, test } from 'vitest';
import { SharedParts } from '../../../worker/serving/loading/shared-parts.js';

const partsOf = (scale: number) => ({
  order: Int32Array.of(scale, 2 * scale),
  lists: [new Float64Array(3).fill(scale), new Uint8Array(70_000).fill(scale)],
  none: null,
  seed: scale,
});

test('parts are copied, and have the memory of a load that was given back', () => {
  const shared = new SharedParts();
  const first = shared.copyFor(0, partsOf(1));
  const second = shared.copyFor(1, partsOf(2));
  expect(first).toEqual(partsOf(1));
  expect(second).toEqual(partsOf(2));
  expect(first.order.buffer).toBeInstanceOf(SharedArrayBuffer);
  shared.giveBack(0);
  const third = shared.copyFor(2, partsOf(3));
  expect(third).toEqual(partsOf(3));
  expect(second).toEqual(partsOf(2));
  const before = [first.order, ...first.lists].map(({ buffer }) => buffer);
  const now = [third.order, ...third.lists].map(({ buffer }) => buffer);
  expect(new Set([...before, ...now]).size).toBe(before.length);
});
