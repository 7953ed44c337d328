/**
 * Memory of blobs that is read into again.
 * Seen to fail: memory that is taken back twice, memory of others, and memory without a bound.
 */

import { expect, test } from 'vitest';
import { SpareBuffers } from '../../../shared/storage/spare-buffers.js';

const MIB = 1024 * 1024;

test('memory that is back serves bytes of a like size', () => {
  const spares = new SpareBuffers();
  const bytes = spares.lend(100);
  expect(bytes.byteLength).toBe(100);
  spares.takeBack(bytes);
  expect(spares.lend(49).buffer).not.toBe(bytes.buffer);
  expect(spares.lend(101).buffer).not.toBe(bytes.buffer);
  const shorter = spares.lend(50);
  expect(shorter.buffer).toBe(bytes.buffer);
  expect(shorter.byteLength).toBe(50);
  spares.takeBack(shorter);
  expect(spares.lend(100).buffer).toBe(bytes.buffer);
});

test('memory is taken back once, from a view on it as well', () => {
  const spares = new SpareBuffers();
  const bytes = spares.lend(64);
  spares.takeBack(bytes.subarray(8));
  spares.takeBack(bytes);
  const first = spares.lend(64);
  expect(first.buffer).toBe(bytes.buffer);
  expect(spares.lend(64).buffer).not.toBe(bytes.buffer);
});

test('memory that was never lent is left alone', () => {
  const spares = new SpareBuffers();
  const others = new Uint8Array(64);
  spares.takeBack(others);
  spares.takeBack(new Uint8Array(new SharedArrayBuffer(64)));
  expect(spares.lend(64).buffer).not.toBe(others.buffer);
});

test('no more than 64 MiB are kept, the latest ones', () => {
  const spares = new SpareBuffers();
  const lent = [1, 2, 3].map((place) => spares.lend(place * 16 * MIB));
  for (const bytes of lent) spares.takeBack(bytes);
  const kept = [3, 2, 1].map((place) => spares.lend(place * 16 * MIB).buffer);
  expect(kept.map((buffer) => lent.findIndex((bytes) => bytes.buffer === buffer))).toEqual([
    2, -1, -1,
  ]);
});
