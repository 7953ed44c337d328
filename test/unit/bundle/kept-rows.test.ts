/** The self-check rows of a delta, joined with those of the bundle below, by worked numbers. */

import { describe, expect, test } from 'vitest';
import { joinedSelfCheck } from '../../../shared/bundle/delta/kept-rows.js';
import type { SelfCheck } from '../../../shared/bundle/read-bundle.js';

/** Rows of one category, one bag of two places and one number, told apart by their logits. */
function rowsOf(blocks: readonly number[], logits: readonly number[]): SelfCheck {
  return {
    blocks: Int32Array.from(blocks),
    logits: Float32Array.from(logits),
    rows: {
      rowCount: blocks.length,
      categoryIds: [Int32Array.from(logits, (logit) => 10 * logit)],
      bagIds: [Int32Array.from(logits.flatMap((logit) => [100 * logit, -1]))],
      numbers: [Float32Array.from(logits, (logit) => -logit)],
    },
  };
}

/** Block 0 for one row, then adgroups 1, 2 and 3. */
const BELOW = rowsOf([0, 1, 1, 2, 3], [1, 2, 3, 4, 5]);
/** The adgroup in place 2 has changed, and its block is number 8 now. */
const MERGED = { order: Int32Array.of(0, 1, 8, 3), replaced: new Set([2]) };
const OWN = rowsOf([2, 2], [6, 7]);

const joined = (runs: readonly number[] | null): SelfCheck =>
  joinedSelfCheck(
    BELOW,
    { runs: runs === null ? null : Int32Array.from(runs), own: OWN },
    MERGED,
    'here',
  );

describe('self-check rows of a delta', () => {
  // Seen to fail: own blocks that are not looked up in the order, and bags of one place a row.
  test('stand where the runs say, under the numbers that blocks have in memory', () => {
    const { blocks, logits, rows } = joined([0, 3, -1, 2, 4, 1]);
    expect([...blocks]).toEqual([0, 1, 1, 8, 8, 3]);
    expect([...logits]).toEqual([1, 2, 3, 6, 7, 5]);
    expect(rows.rowCount).toBe(6);
    expect(rows.categoryIds.map((ids) => [...ids])).toEqual([[10, 20, 30, 60, 70, 50]]);
    expect([...rows.bagIds[0]!]).toEqual([100, -1, 200, -1, 300, -1, 600, -1, 700, -1, 500, -1]);
    expect([...rows.numbers[0]!]).toEqual([-1, -2, -3, -6, -7, -5]);
  });

  test('are all there are where a delta of format 2 has no runs', () => {
    const { blocks, logits } = joined(null);
    expect([...blocks]).toEqual([8, 8]);
    expect([...logits]).toEqual([6, 7]);
  });

  test.each([
    ['a row that is not below', [0, 6, -1, 2]],
    ['a run that begins nowhere', [-2, 1, -1, 2]],
    ['an empty run', [0, 0, -1, 2]],
    ['an own row that is left out', [0, 1, -1, 1]],
    ['an own row too many', [0, 1, -1, 3]],
    ['a row of an adgroup that has changed', [0, 4, -1, 2]],
  ])('are refused with %s', (_, runs) => {
    expect(() => joined(runs)).toThrow(/contradict the bundle/);
  });

  test('are refused under a block that the full export has not', () => {
    const own = rowsOf([4, 4], [6, 7]);
    expect(() => joinedSelfCheck(BELOW, { runs: null, own }, MERGED, 'here')).toThrow(
      /contradict the bundle/,
    );
  });
});
