/** How measurements become the verdicts of the inner-loop benchmark. */

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
} from '../../bench/inner-loops/cell-results.js';
import { contestantsOf } from '../../bench/inner-loops/measure-cell.js';
import type { SideName } from '../../bench/inner-loops/sides/sides.js';

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

test('the accuracy of an update tolerates the rounding of the stored value, and no more', () => {
  const before = Float32Array.of(1, 1);
  const update = Float64Array.of(1e-3, 2e-3);
  const exact = before.map((value, index) => value + (update[index] ?? 0));
  expect(updateError(before, exact, update)).toBe(0);
  const wrong = Float32Array.of(1.001, 1.0021);
  expect(updateError(before, wrong, update)).toBeCloseTo(0.05, 3);
  expect(updateError(before, Float32Array.of(1.001, NaN), update)).toBe(Infinity);
});

describe('verdicts', () => {
  test('medians over rounds decide, against the fastest accurate peer and the fastest of all', () => {
    const verdict = verdictOf(cell, 'one thread');
    expect(verdict?.ours.tasksPerSecond).toBe(3200);
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
