/** Counts are equivalent to expanded rows; AUC equals a count over all pairs. */

import fc from 'fast-check';
import { expect, it } from 'vitest';
import {
  auc,
  calibrationBins,
  calibrationError,
  calibrationRatio,
  lossSum,
  type CountedRows,
} from '../../../coordinator/scoring/metrics.js';

interface Row {
  readonly logit: number;
  readonly clicks: number;
  readonly others: number;
}

// Few distinct logits, so that ties are common.
const rowsArbitrary = fc.array(
  fc.record({
    logit: fc.integer({ min: -4, max: 4 }).map((z) => z / 2),
    clicks: fc.integer({ min: 0, max: 4 }),
    others: fc.integer({ min: 0, max: 4 }),
  }),
  { minLength: 1, maxLength: 12 },
);

function counted(rows: readonly Row[]): { logits: number[]; counts: CountedRows } {
  return {
    logits: rows.map((row) => row.logit),
    counts: {
      clicks: rows.map((row) => row.clicks),
      impressions: rows.map((row) => row.clicks + row.others),
    },
  };
}

/** One row with one impression for each click and each impression without a click. */
function expanded(rows: readonly Row[]): Row[] {
  return rows.flatMap(({ logit, clicks, others }) => [
    ...Array.from({ length: clicks }, () => ({ logit, clicks: 1, others: 0 })),
    ...Array.from({ length: others }, () => ({ logit, clicks: 0, others: 1 })),
  ]);
}

function expectSame(found: number | null, expected: number | null): void {
  if (expected === null || Number.isNaN(expected)) expect(found).toEqual(expected);
  else expect(found).toBeCloseTo(expected, 10);
}

it('counts give the metrics of expanded rows, in any order of rows', () => {
  fc.assert(
    fc.property(rowsArbitrary, fc.integer({ min: 2, max: 7 }), (rows, binCount) => {
      const some = counted(rows);
      const many = counted(expanded(rows).reverse());
      if (many.logits.length === 0) return;
      expectSame(lossSum(some.logits, some.counts), lossSum(many.logits, many.counts));
      expectSame(auc(some.logits, some.counts), auc(many.logits, many.counts));
      expectSame(
        calibrationRatio(some.logits, some.counts),
        calibrationRatio(many.logits, many.counts),
      );
      expectSame(
        calibrationError(calibrationBins(some.logits, some.counts, binCount)),
        calibrationError(calibrationBins(many.logits, many.counts, binCount)),
      );
    }),
  );
});

it('AUC is the share of pairs in the right order, with ties as half', () => {
  fc.assert(
    fc.property(rowsArbitrary, (rows) => {
      const each = expanded(rows);
      const clicks = each.filter((row) => row.clicks === 1);
      const others = each.filter((row) => row.clicks === 0);
      let wins = 0;
      for (const click of clicks)
        for (const other of others)
          wins += click.logit > other.logit ? 1 : click.logit === other.logit ? 0.5 : 0;
      const pairCount = clicks.length * others.length;
      const { logits, counts } = counted(rows);
      expectSame(auc(logits, counts), pairCount === 0 ? null : wins / pairCount);
    }),
  );
});

it('calibration bins keep every impression and every click', () => {
  fc.assert(
    fc.property(rowsArbitrary, fc.integer({ min: 2, max: 9 }), (rows, binCount) => {
      const { logits, counts } = counted(rows);
      const bins = calibrationBins(logits, counts, binCount);
      const total = (values: ArrayLike<number>): number =>
        Array.from(values).reduce((sum, value) => sum + value, 0);
      const impressions = total(counts.impressions);
      if (impressions === 0) return;
      expect(total(bins.map((bin) => bin.impressions))).toBeCloseTo(impressions, 10);
      expect(total(bins.map((bin) => bin.impressions * bin.clickRate))).toBeCloseTo(
        total(counts.clicks),
        10,
      );
    }),
  );
});
