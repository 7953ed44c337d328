/** The checkpoints that a search removes before its end. */

import { expect, test } from 'vitest';
import { runSweep } from '../../../coordinator/sweep/run-sweep.js';
import { rankedOnRung } from '../../../coordinator/sweep/sweep-record.js';
import { DivergenceError } from '../../../shared/base/errors.js';
import { recordOf } from '../../fixtures/evaluation/recorded-search.js';

const LOSSES: Readonly<Record<string, readonly number[]>> = {
  t01: [1, 1, 1, 1],
  t02: [],
  // As good as t01 for all that four adgroups tell, and clearly worse.
  t03: [1.5, 0.7, 1.5, 0.7],
  t04: [1.1, 1.2, 1.1, 1.2],
  t05: [1.2, 1.1, 1.2, 1.1],
};

/** The course of a search with ten minutes, of which three trials reach the last rung. */
async function courseOf(
  towers: NonNullable<Parameters<typeof recordOf>[1]>['towers'] = {},
): Promise<string[]> {
  const course: string[] = [];
  await runSweep({
    record: recordOf(
      { t01: [], t02: [], t03: [], t04: [], t05: [] },
      { budgetMinutes: 10, towers },
    ),
    ...{ concurrentTrials: 1, trialsKept: 1 },
    runTrial: (name, outerSteps) => {
      course.push(`${name} to ${outerSteps}`);
      const adgroupLosses = [...(LOSSES[name] ?? [])];
      if (adgroupLosses.length === 0)
        return Promise.reject(new DivergenceError({ kind: 'failed', what: 'no finite logit' }));
      const validationLogloss = adgroupLosses.reduce((sum, each) => sum + each, 0) / 4;
      return Promise.resolve({ validationLogloss, cell: null, metaDigest: null, adgroupLosses });
    },
    mayBegin: (record, rungIndex) => rungIndex < 2 || rankedOnRung(record, 2).length < 3,
    discard: (name) => {
      course.push(`without ${name}`);
      return Promise.resolve();
    },
    save: () => Promise.resolve(),
    sink: () => undefined,
    signal: new AbortController().signal,
  });
  return course;
}

test('are those of trials that diverged, that had no time on the last rung and that are clearly above the lowest', async () => {
  expect(await courseOf()).toEqual([
    ...['t01 to 50', 't02 to 50', 'without t02', 't03 to 50', 't04 to 50', 't05 to 50'],
    ...['t01 to 100', 't03 to 100', 't04 to 100', 't05 to 100'],
    ...['t01 to 200', 't03 to 200', 't04 to 200', 'without t04', 'without t05'],
  ]);
});

test('are not those of two networks that have an average, which have their turn after the lowest', async () => {
  const course = await courseOf({ t01: 'generated', t02: 'global', t04: 'global' });
  expect(course.slice(6)).toEqual([
    ...['t01 to 100', 't04 to 100', 't03 to 100', 't05 to 100'],
    ...['t01 to 200', 't04 to 200', 't03 to 200', 'without t05'],
  ]);
});
