/** When a worker takes its next job from a queue that has few. */

import { expect, it } from 'vitest';
import { WorkPace } from '../../../worker/carrying/work-pace.js';

it('takes it twice the latest fetch before the job under way should end', () => {
  const pace = new WorkPace();
  pace.computed(44);
  pace.fetched(8);
  pace.started(1_000);
  expect(pace.waitMs(1_000)).toBe(28);
  expect(pace.waitMs(1_020)).toBe(8);
  expect(pace.waitMs(1_100)).toBe(0);
});

it('bounds the time before the end', () => {
  const pace = new WorkPace();
  pace.started(0);
  pace.computed(1_000);
  expect(pace.waitMs(0)).toBe(900);
  pace.fetched(500);
  expect(pace.waitMs(0)).toBe(900);
  pace.fetched(0);
  expect(pace.waitMs(0)).toBe(995);
});

it('takes none before the first job has ended', () => {
  const pace = new WorkPace();
  pace.started(0);
  expect(pace.waitMs(60_000)).toBeGreaterThan(3_000_000);
});
