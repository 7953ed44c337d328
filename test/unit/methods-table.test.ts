// The table of the methods' world: gap closed and pooled differences by worked numbers.

import { expect, test } from 'vitest';
import { merged, type CellComparison } from '../bench/methods-world/method-runs.js';
import {
  methodRows,
  methodsTable,
  type ComparedCell,
} from '../bench/methods-world/methods-table.js';

/** Loglosses of finetuned, constant, global, global-shift, oracle and the method, in that order. */
function cellOf(
  seed: number,
  loglosses: readonly number[],
  difference: readonly [number, number, number],
): ComparedCell {
  const [value, low, high] = difference;
  const runs = loglosses.map((logloss, place) => ({
    metrics: { logloss },
    differences: place === 0 ? null : { logloss: { value, low, high } },
  }));
  // The table reads these fields alone.
  const report = { slices: [{ name: 'all', runs }] } as unknown as CellComparison;
  return { cell: { setting: 'strong', clickRate: 0.1, seed }, report };
}

const cells = [
  cellOf(1, [0.28, 0.33, 0.3, 0.275, 0.2, 0.27], [-0.01, -0.013, -0.007]),
  cellOf(2, [0.26, 0.33, 0.3, 0.265, 0.2, 0.25], [-0.02, -0.024, -0.016]),
];

test('gap closed is (global - arm) / (global - oracle), mean over seeds', () => {
  const rows = methodRows(cells, ['shrinkage']);
  const gapOf = (name: string): number => rows.find((row) => row.name === name)!.gapsClosed[0]!;
  expect(gapOf('global')).toBeCloseTo(0);
  expect(gapOf('oracle')).toBeCloseTo(1);
  expect(gapOf('finetuned')).toBeCloseTo((0.2 + 0.4) / 2);
  expect(gapOf('shrinkage')).toBeCloseTo((0.3 + 0.5) / 2);
});

test('differences to finetuning are pooled over independent seeds', () => {
  const { difference } = methodRows(cells, ['shrinkage']).at(-1)!;
  expect(difference.value).toBeCloseTo(-0.015);
  // Half widths 0.003 and 0.004: sqrt(9 + 16) / 2 thousandths.
  expect(difference.low).toBeCloseTo(-0.0175);
  expect(difference.high).toBeCloseTo(-0.0125);
});

test('the table has a line for each arm and method, and says nothing of finetuning against itself', () => {
  const table = methodsTable(['Header.'], new Map([['strong, 10 %', cells]]), ['shrinkage']);
  expect(table).toContain('| finetuned | 0.2700 |  | 30.0 % |');
  expect(table).toContain('| shrinkage | 0.2600 | -0.01500 [-0.01750, -0.01250] | 40.0 % |');
});

test('parts of a comparison are put together behind their common first run', () => {
  const [{ report: one }, { report: other }] = cells as [ComparedCell, ComparedCell];
  const { slices } = merged([one, other]);
  const loglosses = slices[0]!.runs.map(({ metrics }) => metrics.logloss);
  expect(loglosses).toEqual([0.28, 0.33, 0.3, 0.275, 0.2, 0.27, 0.33, 0.3, 0.265, 0.2, 0.25]);
});
