/**
 * The division of rows and the scores of the bench of real sets, by hand and beside the peers' own Python. Seen to fail: roles
 * that put a task into two splits, support rows that are not the first, an AUC without ties, and a difference that is not paired.
 */

import { execFileSync } from 'node:child_process';
import { expect, test } from 'vitest';
import { packageRoot } from '../../../infra/library/package-root.js';
import { systemCodeOf } from '../../../shared/base/system-errors.js';
import { meanOver } from '../../bench/real/real-means.js';
import { realPage } from '../../bench/real/real-page.js';
import { readRecord } from '../../bench/real/real-record.js';
import { rolesOf, splitCsvOf } from '../../bench/real/row-roles.js';
import { pairedDifference, scoredArm } from '../../bench/real/scored-arms.js';
import { requireAgreement } from '../../bench/real/recorded-cell.js';

const METRICS = new URL('test/bench/real/peers/metrics.py', packageRoot).pathname;

const TEST_ROWS = {
  rows: [3, 4, 7, 9, 12],
  tasks: [0, 0, 1, 1, 2],
  taskCount: 3,
  clicks: Float64Array.of(1, 0, 2, 0, 1),
  impressions: Float64Array.of(1, 1, 5, 2, 1),
};
const PROBABILITIES = [0.7, 0.3, 0.3, 0.1, 0.9];
const LOGITS = Float64Array.from(PROBABILITIES, (p) => Math.log(p / (1 - p)));

const DIVISION = { seed: 1, queryRowsMin: 2, heldOutQueryRowsMax: 3 } as const;

/** Twenty tasks of six rows each, one after another in time, and one task of two rows. */
const TASKS = [...Array.from({ length: 120 }, (_, row) => `t${row % 20}`), 'small', 'small'];
const TIMES = TASKS.map((_, row) => row);

test('puts the first rows of a task into its support, a task into one split, and small tasks beside them', () => {
  const roled = rolesOf(TASKS, TIMES, { ...DIVISION, rule: { by: 'rows', count: 2 } });
  const splitsOf = new Map<string, Set<string>>();
  const supportOf = new Map<string, number[]>();
  for (const { row, task, role } of roled) {
    const [split = '', part] = role.split('-');
    splitsOf.set(task, (splitsOf.get(task) ?? new Set()).add(split));
    if (part === 'support') supportOf.set(task, [...(supportOf.get(task) ?? []), row]);
  }
  expect([...splitsOf.values()].every((splits) => splits.size === 1)).toBe(true);
  expect([...splitsOf.values()].filter((splits) => splits.has('test'))).toHaveLength(5);
  expect([...splitsOf.values()].filter((splits) => splits.has('validation'))).toHaveLength(3);
  expect(supportOf.get('t7')).toEqual([7, 27]);
  expect(roled.filter(({ task }) => task === 'small').map(({ role }) => role)).toEqual([
    'train',
    'train',
  ]);
  // 12 training tasks with all six rows, 8 held-out ones with two and three, and two rows of the small one.
  expect(roled).toHaveLength(12 * 6 + 8 * 5 + 2);
  expect(splitCsvOf(roled.slice(0, 1))).toBe(`row,task,role\n0,t0,${roled[0]?.role}\n`);
});

test('takes the rows of the first days as support', () => {
  const days = [5, 5, 5, 6, 9, 9];
  const roled = rolesOf(
    days.map(() => 'one'),
    days,
    { ...DIVISION, rule: { by: 'days', count: 2 } },
  );
  const support = roled.filter(({ role }) => role.endsWith('support'));
  expect(support.map(({ row }) => row)).toEqual([0, 1, 2, 3]);
});

test('scores counted rows as the peers do', ({ skip }) => {
  const score = scoredArm(LOGITS, TEST_ROWS);
  const columns = { clicks: [...TEST_ROWS.clicks], impressions: [...TEST_ROWS.impressions] };
  let printed = '';
  try {
    printed = execFileSync('python3', ['-B', METRICS], {
      input: JSON.stringify({ ...columns, probabilities: PROBABILITIES }),
      encoding: 'utf8',
    });
  } catch (error) {
    if (systemCodeOf(error) === 'ENOENT') skip('there is no python3 on this machine');
    throw error;
  }
  // -(5 ln 0.7 + 2 ln 0.3 + 3 ln 0.9) / 10. Four clicks and six others, of which two clicks and four others share a score.
  expect(score.logloss).toBeCloseTo(0.4507402, 7);
  expect(score.auc).toBeCloseTo((6 + 6 + 2 * (2 + 4 / 2)) / 24, 12);
  const parsed = JSON.parse(printed) as { logloss: number; auc: number };
  expect(parsed.logloss).toBeCloseTo(score.logloss, 12);
  expect(parsed.auc).toBeCloseTo(score.auc ?? NaN, 12);
  expect(() => requireAgreement('same', score, parsed)).not.toThrow();
  expect(() => requireAgreement('other', score, { ...parsed, auc: 0.5 })).toThrow('says auc 0.5');
});

test('compares two arms on the same drawn tasks', () => {
  const score = scoredArm(LOGITS, TEST_ROWS);
  // The other loses 0.1 more by impression in every task, so that every draw differs by as much.
  const shown = [2, 7, 1];
  const taskLosses = score.taskLosses.map((loss, task) => loss + 0.1 * (shown[task] ?? NaN));
  const difference = pairedDifference(score, { ...score, taskLosses }, TEST_ROWS, 1);
  for (const value of Object.values(difference)) expect(value).toBeCloseTo(-0.1, 12);
});

test('says of a cell whether minutes or trials limited its search', () => {
  const [[key, cell] = []] = Object.entries(readRecord().cells);
  if (key === undefined || cell === undefined) throw new Error('the record has no cells');
  const pageWith = (trialsMax: number | null): string =>
    realPage({ cells: { [key]: { ...cell, budgetMinutes: 3, trialsMax } } });
  expect(pageWith(2)).toContain('; 3 min for each peer, 2 trials of auto)');
  expect(pageWith(1)).toContain('; 3 min for each peer, 1 trial of auto)');
  expect(pageWith(null)).toContain('; 3 min for each search, in which auto began');
});

test('adds the distances of intervals over seeds by their squares, on either side', () => {
  // Below: sqrt(0.3^2 + 0.4^2) / 2 = 0.25; above: sqrt(0.6^2 + 0.8^2) / 2 = 0.5.
  const mean = meanOver([
    { value: 1, low: 0.7, high: 1.6 },
    { value: 3, low: 2.6, high: 3.8 },
    null,
  ]);
  expect(mean?.value).toBeCloseTo(2, 12);
  expect(mean?.low).toBeCloseTo(1.75, 12);
  expect(mean?.high).toBeCloseTo(2.5, 12);
  expect(meanOver([null])).toBeNull();
});

test('shows the means of a set, and its worst seed', () => {
  const [cell] = Object.values(readRecord().cells);
  if (cell === undefined) throw new Error('the record has no cells');
  const withSeed = (seed: number, hindsight: number): typeof cell => {
    const from = { arm: 'ours', from: 'theirs', low: hindsight - 0.003, high: hindsight + 0.004 };
    const chosen = { ...from, value: -0.004, low: -0.007, high: -0.001 };
    const differences = { chosen, hindsight: { ...from, value: hindsight }, plain: null };
    return { ...cell, set: 'shop', support: '10 rows', seed, differences };
  };
  const page = realPage({ cells: { a: withSeed(1, 0.001), b: withSeed(2, 0.002) } });
  // 0.003 / sqrt 2 = 0.0021 on both sides; 0.003 and 0.004 / sqrt 2 = 0.0021 and 0.0028.
  expect(page).toContain(
    '| shop | 10 rows | 2 | -0.0040 [-0.0061, -0.0019] | better | 0.0015 [-0.0006, 0.0043] | 2, 0.0020 |',
  );
});
