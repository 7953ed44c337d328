import { describe, expect, it } from 'vitest';
import { ComputePace } from '../../../../coordinator/dispatch/in-memory-dispatcher.js';

const TASKS = 1_000;

/** The pace after jobs of `TASKS` tasks that took these times. */
function paceAfter(...timesMs: readonly number[]): ComputePace {
  const pace = new ComputePace();
  for (const computeMs of timesMs) pace.note({ taskCount: TASKS, computeMs });
  return pace;
}

function times(count: number, ms: number): number[] {
  return Array.from({ length: count }, () => ms);
}

describe('executors that pay off', () => {
  it.each([
    ['short calls', times(100, 10), 1, 1],
    ['calls of 40 ms', times(20, 40), 1, 2],
    ['calls of half a second', times(8, 500), 1, 7],
    ['calls that overlap', times(20, 40), 8, 6],
    ['a first job of seconds', [3_000], 1, 19],
    ['a first job that tells too little', [1_500], 1, 1],
    ['few jobs', times(7, 200), 1, 1],
    ['work that has hardly begun', times(8, 40), 1, 1],
    ['short calls whose first jobs captured graphs', [...times(7, 100), 9], 1, 1],
    ['calls that have become short', [...times(20, 400), ...times(8, 10)], 1, 1],
  ])('%s', (_, timesMs, calls, count) => {
    expect(paceAfter(...timesMs).wantedCount(calls * TASKS)).toBe(count);
  });

  it('are not more than the tasks', () => {
    const pace = new ComputePace();
    for (const computeMs of times(8, 500)) pace.note({ taskCount: 1, computeMs });
    expect([1, 3, 100].map((taskCount) => pace.wantedCount(taskCount))).toEqual([1, 3, 79]);
  });
});
