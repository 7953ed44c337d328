/** When a worker takes its next job from a queue that has few. */

import { expect, it } from 'vitest';
import { jobOf } from '../../../coordinator/dispatch/dispatcher.js';
import { at } from '../../../shared/base/arrays.js';
import { blobRefOf } from '../../../shared/storage/blob-store.js';
import { jobSizeOf, WorkPace } from '../../../worker/carrying/work-pace.js';
import { ordersForTest } from '../../conformance/dispatcher.js';

it('takes it twice the latest fetch before the job under way should end', () => {
  const pace = new WorkPace();
  pace.computed(44, 1);
  pace.fetched(8);
  pace.started(1_000, 1);
  expect(pace.waitMs(1_000)).toBe(28);
  expect(pace.waitMs(1_020)).toBe(8);
  expect(pace.waitMs(1_100)).toBe(0);
});

it('bounds the time before the end', () => {
  const pace = new WorkPace();
  pace.started(0, 1);
  pace.computed(1_000, 1);
  expect(pace.waitMs(0)).toBe(900);
  pace.fetched(500);
  expect(pace.waitMs(0)).toBe(900);
  pace.fetched(0);
  // The estimate may be wrong by a tenth.
  expect(pace.waitMs(0)).toBe(900);
});

it('estimates the end of a job by its size', () => {
  const pace = new WorkPace();
  pace.fetched(0);
  for (let count = 0; count < 20; count += 1) {
    pace.computed(20, 1_000);
    pace.computed(170, 7_000);
  }
  pace.started(0, 7_000);
  expect(pace.waitMs(0)).toBeCloseTo(170 - 17);
  pace.started(0, 1_000);
  expect(pace.waitMs(0)).toBeCloseTo(20 - 5);
  pace.started(0, 3_000);
  expect(pace.waitMs(0)).toBeCloseTo(70 - 7);
});

it('expects no less of a larger job, and nothing below zero', () => {
  const pace = new WorkPace();
  pace.computed(100, 10);
  pace.computed(50, 20);
  pace.started(0, 1_000);
  expect(pace.waitMs(0)).toBeGreaterThanOrEqual(0);
  const growing = new WorkPace();
  growing.fetched(0);
  growing.computed(10, 100);
  growing.computed(100, 200);
  growing.started(0, 1);
  expect(growing.waitMs(0)).toBe(0);
});

it('forgets what jobs took long ago', () => {
  const pace = new WorkPace();
  pace.fetched(0);
  pace.computed(1_000, 1);
  for (let count = 0; count < 100; count += 1) pace.computed(10, 1);
  pace.started(0, 1);
  expect(pace.waitMs(0)).toBeCloseTo(5, 1);
});

it('takes none before the first job has ended', () => {
  const pace = new WorkPace();
  pace.started(0, 1);
  expect(pace.waitMs(60_000)).toBeGreaterThan(3_000_000);
});

it('takes the size of a job from its row pack', () => {
  const job = jobOf(at(ordersForTest(1), 0), blobRefOf);
  const rowPack = { sha256: 'a'.repeat(64), byteCount: 1_000 };
  expect(jobSizeOf({ ...job, rowPack })).toBe(1_000);
});
