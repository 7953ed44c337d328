import { describe, expect, it } from 'vitest';
import { jobEndsOf, TASKS_PER_JOB_MAX } from '../../../coordinator/evaluation/task-jobs.js';

describe('jobs over a list of tasks', () => {
  it.each([
    ['no tasks', [], []],
    ['tasks whose rows fit together', [3, 3, 4], [3]],
    ['a task that does not fit any more', [3, 4, 4, 6], [2, 4]],
    ['a task that is too large for any job', [2, 11, 2], [1, 2, 3]],
    ['tasks without rows', [0, 10, 0, 1], [3, 4]],
  ])('end before %s', (_, rowCounts, ends) => {
    expect(jobEndsOf(rowCounts, 10)).toEqual(ends);
  });

  it('end at every multiple of the most tasks, so a list that is cut there has the same jobs', () => {
    const rowCounts = Array.from({ length: 2 * TASKS_PER_JOB_MAX + 9 }, (_, task) => task % 3);
    const whole = jobEndsOf(rowCounts, 700);
    const parts = [0, TASKS_PER_JOB_MAX, 2 * TASKS_PER_JOB_MAX].flatMap((start) =>
      jobEndsOf(rowCounts.slice(start, start + TASKS_PER_JOB_MAX), 700).map((end) => start + end),
    );
    expect(whole).toEqual(parts);
    expect(whole).toContain(TASKS_PER_JOB_MAX);
    expect(jobEndsOf(rowCounts, Infinity)).toEqual([512, 1024, 1033]);
  });
});
