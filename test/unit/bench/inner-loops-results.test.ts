/**
 * How measurements become the results of the inner-loop benchmark: statistics, verdicts, tables.
 */

import { mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { updateError } from '../../bench/inner-loops/sides/accuracy.js';
import {
  standingsOf,
  summaryOf,
  verdictOf,
  type Arrangement,
  type CellResult,
  type ContestantResult,
  type VariantResult,
  geometricMean,
} from '../../bench/inner-loops/cell-results.js';
import { cellName, cellOfName, CELLS, nominalFlops } from '../../bench/inner-loops/sides/cells.js';
import { broughtUpToDate, earlierCells } from '../../bench/inner-loops/kept-cells.js';
import { contestantsOf, roundOf } from '../../bench/inner-loops/measure-cell.js';
import { comparisonMarkdown } from '../../bench/inner-loops/results-table.js';
import { createGrouping } from '../../bench/inner-loops/sides/row-table.js';
import type { SideName } from '../../bench/inner-loops/sides/sides.js';
import { FULL_SIZE } from '../../bench/inner-loops/sides/workload-data.js';

const timed = { kind: 'timed', minMs: 9, stepCount: 10, wallMs: 100, residentMiB: 100 } as const;

function contestant(
  side: SideName,
  variant: string,
  arrangement: Arrangement,
  tasksPerSecond: readonly number[],
  isAccurate = true,
): ContestantResult {
  const rounds = tasksPerSecond.map((rate) => ({
    tasksPerSecond: rate,
    medianMs: 32_000 / rate,
    ...{ minMs: 1, cpuMsPerStep: 1, stepCount: 5, residentMiB: 100, otherCores: 0.02 },
  }));
  return { side, variant, arrangement, isAccurate, rounds };
}

function look(
  side: SideName,
  variant: string,
  lookMs: number | null,
  isAccurate: boolean,
): VariantResult {
  return {
    ...{ side, variant, lookMs, isAccurate, relativeError: isAccurate ? 1e-7 : 0.03 },
    ...{ furthestTensor: 'weight0', versions: null, firstStepMs: 100 },
    skippedBecause: lookMs === null ? 'no compiler | none' : null,
  };
}

const cell: CellResult = {
  cell: 'W1.first.1',
  commit: 'abc',
  taskCount: 32,
  nominalGflop: 0.74,
  variants: [
    look('ours', 'rewritten', 4, true),
    look('jax', 'scatter', 3, false),
    look('torch', 'compile', null, false),
  ],
  contestants: [
    contestant('ours', 'rewritten', 'one thread', [3000, 9000, 3200]),
    contestant('jax', 'unique', 'one thread', [1600, 1500, 1700]),
    contestant('jax', 'scatter', 'one thread', [4000, 4000, 4000], false),
    contestant('ours', 'rewritten', 'two threads', [4000]),
    contestant('ours', 'rewritten', 'two processes', [6000]),
    contestant('torch', 'vmap', 'two threads', [2000]),
  ],
};

describe('statistics', () => {
  test('the geometric mean of a ratio and its inverse is 1', () => {
    expect(geometricMean([4, 0.25])).toBeCloseTo(1, 12);
  });
});

describe('accuracy of an update', () => {
  test('tolerates the rounding of the stored value, and no more', () => {
    const before = Float32Array.of(1, 1);
    const update = Float64Array.of(1e-3, 2e-3);
    const exact = before.map((value, index) => value + (update[index] ?? 0));
    expect(updateError(before, exact, update)).toBe(0);
    const wrong = Float32Array.of(1.001, 1.0021);
    expect(updateError(before, wrong, update)).toBeCloseTo(0.05, 3);
    expect(updateError(before, Float32Array.of(1.001, NaN), update)).toBe(Infinity);
  });
});

describe('verdicts', () => {
  test('medians over rounds decide, against the fastest accurate peer and the fastest of all', () => {
    const verdict = verdictOf(cell, 'one thread');
    expect(verdict?.ours.tasksPerSecond).toBe(3200);
    expect(verdict?.fastestAccuratePeer?.variant).toBe('unique');
    expect(verdict?.ratioToAccurate).toBe(2);
    expect(verdict?.ratioToAny).toBe(0.8);
  });

  test('on two cores each side uses its best arrangement', () => {
    expect(standingsOf(cell, 'two cores')[0]?.arrangement).toBe('two processes');
    expect(verdictOf(cell, 'two cores')?.ratioToAccurate).toBe(3);
    const summary = summaryOf([cell], 'two cores');
    expect(summary?.mean).toBeCloseTo(3, 12);
    expect(summary?.least).toBe(3);
    expect(summary?.cellCount).toBe(1);
  });

  test('a cell that our side did not measure has no verdict', () => {
    expect(verdictOf({ ...cell, contestants: [] }, 'one thread')).toBeNull();
    expect(summaryOf([], 'one thread')).toBeNull();
  });

  test('the throughput of concurrent processes is summed', () => {
    const round = roundOf(
      [
        { ...timed, medianMs: 10, cpuMs: 100 },
        { ...timed, medianMs: 20, cpuMs: 200 },
      ],
      32,
      0,
    );
    expect(round.tasksPerSecond).toBe(4800);
    expect(round.cpuMsPerStep).toBe(15);
  });

  test('the fastest accurate variant is measured, however many inaccurate ones are faster', () => {
    const variants = [
      look('jax', 'a', 1, false),
      look('jax', 'b', 2, false),
      look('jax', 'c', 3, false),
      look('jax', 'd', 4, true),
      look('jax', 'e', 9, true),
      look('torch', 'f', null, true),
    ];
    const names = contestantsOf(variants, 'jax').map(({ variant }) => variant);
    expect(names).toEqual(['a', 'b', 'd']);
    expect(contestantsOf(variants, 'torch')).toEqual([]);
  });
});

describe('tables', () => {
  const machine = {
    ...{
      commit: 'abc',
      date: '2026-01-01',
      machine: 'm',
      loadBefore: 0,
      cpuModel: 'c',
      coreCount: 2,
    },
    ...{ vectorFlags: 'avx2', cacheKiB: '1', memoryMiB: 8000, kernel: '6' },
  };
  const comparison = {
    ...{ machine, versions: { jax: '1' }, roundCount: 3, runMs: 100, cells: [cell] },
  };

  test('the comparison lists ratios, marks inaccurate peers and says what was left out', () => {
    const text = comparisonMarkdown(comparison);
    expect(text).toContain(
      '| W1.first.1 | 3,200 (rewritten) | 1,600 (unique); 4,000* (scatter) |  | 2.00 | 0.80 |',
    );
    expect(text).toContain('6,000 (rewritten, two processes)');
    expect(text).toContain('no compiler / none');
  });

  test('cells kept from an earlier run name its commit', () => {
    const earlier = { ...cell, cell: 'W2.second.5', commit: 'def' };
    const cells = broughtUpToDate([earlier, { ...cell, commit: 'def' }], [cell]);
    expect(cells).toEqual([cell, earlier]);
    const text = comparisonMarkdown({ ...comparison, cells });
    expect(text).toContain('Measured at commit def on the same kind of machine: W2.second.5.');
    expect(comparisonMarkdown(comparison)).not.toContain('Measured at commit');
  });

  test('results of another kind of machine are discarded', () => {
    const path = join(mkdtempSync(join(tmpdir(), 'qianmo-kept-')), 'inner-loops.json');
    expect(earlierCells(path, machine)).toEqual([]);
    writeFileSync(path, JSON.stringify(comparison));
    expect(earlierCells(path, machine)).toEqual([cell]);
    expect(earlierCells(path, { ...machine, cpuModel: 'other' })).toEqual([]);
  });
});

describe('cells', () => {
  test('names can be parsed back to cells', () => {
    expect(CELLS).toHaveLength(8);
    for (const one of CELLS) expect(cellOfName(cellName(one))).toEqual(one);
    expect(() => cellOfName('W3.first.1')).toThrow('W3');
  });

  test('one first-order step of W1 takes 23 MFLOP per task', () => {
    const flops = nominalFlops(FULL_SIZE.W1, cellOfName('W1.first.1'));
    expect(Math.round(flops / 32 / 1e6)).toBe(23);
  });
});

describe('occurrences of ids', () => {
  test('ids are found in ascending order, with their places, in every call', () => {
    const groupsOf = createGrouping(70);
    for (let repeat = 0; repeat < 2; repeat += 1) {
      const groups = groupsOf([Int32Array.of(63, 1, 63), Int32Array.of(1, 64, 0)]);
      expect([...groups.ids]).toEqual([0, 1, 63, 64]);
      expect([...groups.places]).toEqual([2, 1, 2, 1, 3, 0]);
    }
  });
});
