/** How measurements become the generator's table. Seen to fail: ratios to an inaccurate peer. */

import { expect, test } from 'vitest';
import { generatorMarkdown, rowsOf } from '../../bench/generator/generator-table.js';
import type {
  Arrangement,
  CellResult,
  ContestantResult,
} from '../../bench/inner-loops/cell-results.js';

function contestant(
  name: string,
  arrangement: Arrangement,
  rates: readonly number[],
  isAccurate = true,
): ContestantResult {
  const [side, variant = ''] = name.split(' ');
  const rounds = rates.map((tasksPerSecond) => ({
    ...{ tasksPerSecond, medianMs: 25_000 / tasksPerSecond, minMs: 1, cpuMsPerStep: 1 },
    ...{ stepCount: 5, residentMiB: 100, otherCores: 0.03 },
  }));
  return { side: side === 'ours' ? 'ours' : 'torch', variant, arrangement, isAccurate, rounds };
}

const cell: CellResult = {
  ...{ cell: 'generator.25', commit: 'abc', taskCount: 25, nominalGflop: 1 },
  variants: [],
  contestants: [
    contestant('torch plain', 'two threads', [1100, 900, 1000]),
    contestant('torch plain', 'two processes', [1250]),
    contestant('torch split', 'two processes', [2000]),
    contestant('torch wrong', 'two processes', [9000], false),
    contestant('ours job', 'two processes', [4000, 5000, 4500]),
    contestant('ours job', 'two threads', [3000]),
    contestant('ours job', 'one thread', [2600]),
  ],
};

test('shows each side in its best arrangement, relative to the plain peer and to the fastest accurate one', () => {
  expect(
    rowsOf(cell, 'two cores').map((row) => [row.name, row.tasksPerSecond, row.arrangement]),
  ).toEqual([
    ['ours, job', 4500, 'two processes'],
    ['PyTorch, split', 2000, 'two processes'],
    ['PyTorch, plain', 1250, 'two processes'],
  ]);
  const [ours, ...peers] = rowsOf(cell, 'two cores');
  expect([ours?.overPlain, ours?.overBest]).toEqual([3.6, 2.25]);
  expect(peers.every(({ overPlain, overBest }) => overPlain === null && overBest === null)).toBe(
    true,
  );
  expect(rowsOf(cell, 'one thread')).toMatchObject([{ tasksPerSecond: 2600, overPlain: null }]);
});

test('the page has a row for each side, and the queue where it was measured', () => {
  const machine = {
    ...{ commit: 'abc', date: '2026-11-25', machine: 'm', loadBefore: 0.1, cpuModel: 'cpu' },
    ...{ coreCount: 2, vectorFlags: 'avx2', cacheKiB: '1', memoryMiB: 24_000, kernel: '6' },
  };
  const comparison = {
    machine,
    versions: { torch: '2' },
    roundCount: 3,
    runMs: 100,
    cells: [cell],
  };
  const page = generatorMarkdown({ ...comparison, queue: [] });
  expect(page).toContain('| ours, job | two processes | 4,500 | 3.60 | 2.25 | 0.03 |');
  expect(page).not.toContain('over the queue, two workers');
  const run = { tasksPerOuterStep: 25, tasksPerJob: 13, stepCount: 100 };
  const queue = [{ ...run, tasksPerSecond: 1234.5, medianStepMs: 20.25 }];
  expect(generatorMarkdown({ ...comparison, queue })).toContain('| 25 | 13 | 100 | 20.3 | 1,235 |');
});
