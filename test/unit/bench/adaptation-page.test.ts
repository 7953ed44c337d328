import { expect, it } from 'vitest';
import { adaptationPage } from '../../bench/adaptation/adaptation-page.js';
import type { AdaptationArm, AdaptationCell } from '../../bench/adaptation/adaptation-record.js';

const interval = (value: number, halfWidth: number) => ({
  value,
  low: value - halfWidth,
  high: value + halfWidth,
});

function armOf(
  way: AdaptationArm['way'],
  logloss: number,
  fromShift: number | null,
): AdaptationArm {
  return {
    ...{ inputs: 'rate', way, logloss, validationLogloss: null, seconds: 1 },
    fromNothing: way === 'nothing' ? null : interval(logloss - 0.5, 0.01),
    fromShift: fromShift === null ? null : interval(fromShift, 0.01),
  };
}

function cellOf(set: string, seed: number, arms: AdaptationArm[]): AdaptationCell {
  return {
    ...{
      set,
      support: '10 rows',
      seed,
      commit: 'abcdef12',
      date: '2026-11-29',
      machine: 'a machine',
    },
    ...{ loadBefore: 0, taskCounts: { train: 7, validation: 2, test: 3 }, testRowCount: 9, arms },
  };
}

it('means the differences of a way over seeds, and counts the sets on which it is better than a shift', () => {
  const [shift, nothing] = [armOf('shift', 0.45, null), armOf('nothing', 0.5, 0.05)];
  const cells = [
    cellOf('books', 1, [nothing, shift, armOf('gates', 0.42, -0.03)]),
    cellOf('books', 2, [nothing, shift, armOf('gates', 0.44, -0.01)]),
    cellOf('films', 1, [nothing, shift, armOf('gates', 0.45, 0)]),
  ];
  const named = Object.fromEntries(cells.map((cell) => [`${cell.set}/${cell.seed}`, cell]));
  const page = adaptationPage({ cells: named });
  // 0.02 better, with the half width of two independent means: 0.01 / sqrt(2).
  expect(page).toContain(
    '| gates | 0.4300 | -0.0700 [-0.0771, -0.0629] | -0.0200 [-0.0271, -0.0129] | better |',
  );
  expect(page).toContain(
    '| gates | 0.4500 | -0.0500 [-0.0600, -0.0400] | 0.0000 [-0.0100, 0.0100] | level |',
  );
  expect(page).toContain('| shift | 0.4500 | -0.0500 [-0.0571, -0.0429] |  |  |');
  expect(page).toContain('| gates | 0 better, 0 level, 0 worse | 1 better, 1 level, 0 worse |');
  expect(page).toContain('seed 2 (commit abcdef12; 7, 2 and 3 tasks to train, validate and test).');
});
