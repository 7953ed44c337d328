// Arrays that bundles have one after the other in memory that threads share.

import { expect, test } from 'vitest';
import { sharedCopyOf, SharedParts } from '../../../worker/serving/loading/loader-thread.js';

const partsOf = (scale: number) => ({
  order: Int32Array.of(scale, 2 * scale),
  lists: [new Float64Array(3).fill(scale), new Uint8Array(70_000).fill(scale)],
  none: null,
  seed: scale,
});

test('parts are copied, and have the memory of a load that was given back', () => {
  const shared = new SharedParts();
  const first = sharedCopyOf(partsOf(1), shared.makerFor(0));
  const second = sharedCopyOf(partsOf(2), shared.makerFor(1));
  expect(first).toEqual(partsOf(1));
  expect(second).toEqual(partsOf(2));
  expect(first.order.buffer).toBeInstanceOf(SharedArrayBuffer);
  shared.giveBack(0);
  const third = sharedCopyOf(partsOf(3), shared.makerFor(2));
  expect(third).toEqual(partsOf(3));
  expect(second).toEqual(partsOf(2));
  const before = [first.order, ...first.lists].map(({ buffer }) => buffer);
  const now = [third.order, ...third.lists].map(({ buffer }) => buffer);
  expect(new Set([...before, ...now]).size).toBe(before.length);
});

test('an array that a load makes is of zeros, and stays where it is in the parts that are handed over', () => {
  const shared = new SharedParts();
  shared.makerFor(0)(Float64Array, 4).fill(7);
  shared.giveBack(0);
  const make = shared.makerFor(1);
  const made = make(Float64Array, 4);
  expect(made).toEqual(new Float64Array(4));
  expect(sharedCopyOf({ made }, make).made).toBe(made);
});
