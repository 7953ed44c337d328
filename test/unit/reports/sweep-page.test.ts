/** The page of a search. */

import { asPage } from '../../../coordinator/reports/document/as-page.js';
import { sweepDocument } from '../../../coordinator/reports/sweep-document.js';
import { expect, test } from 'vitest';
import type { TrialRecord } from '../../../coordinator/sweep/sweep-record.js';
import { recordOf } from '../../fixtures/evaluation/recorded-search.js';

const DIAMOND = /<path d="M0 -1L1 0L0 1L-1 0Z" transform="matrix\([\d.,]+?,([\d.]+),[\d.]+\)"/g;
const CIRCLE = /<path d="M1 0A1 [^"]*" transform="matrix\([\d.,]+?,([\d.]+),[\d.]+\)"/g;

test('draws averages and the shifted trial where training ends, apart from the dots of rungs', () => {
  const record = recordOf(
    { t01: [[4], [3], [2]], t02: [[4.2], [3.2], [2.2]], a01: [[1.9]], s01: [[1.8]] },
    { impressions: [1], averages: { a01: ['t01', 't02'] }, shifts: { s01: 'a01' } },
  );
  const isMade = ({ name }: Pick<TrialRecord, 'name'>): boolean => /^[as]/.test(name);
  const trials = record.trials.map((trial) => ({
    ...trial,
    scores: trial.scores.map((score) => ({
      ...score,
      ...(isMade(trial)
        ? { rungIndex: 2, outerSteps: 0 }
        : { outerSteps: record.rungs[score.rungIndex]!.outerSteps }),
    })),
  }));
  const placesOf = (mark: RegExp, html: string): number[] =>
    [...html.matchAll(mark)].map(([, x]) => Number(x));
  const html = asPage(sweepDocument({ ...record, trials }));
  const dots = placesOf(CIRCLE, html);
  expect(dots).toHaveLength(6);
  const end = Math.max(...dots);
  expect(placesOf(DIAMOND, html)).toEqual([end, end]);
  expect(html).toContain('A diamond is a trial that was made of others at the end.');
  const plain = asPage(
    sweepDocument({ ...record, trials: trials.filter((trial) => !isMade(trial)) }),
  );
  expect(placesOf(DIAMOND, plain)).toEqual([]);
  expect(plain).not.toContain('A diamond');
});
