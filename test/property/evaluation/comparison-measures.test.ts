/** Weighted measures equal those of repeated adgroups, and two runs share the same draws. */

import fc from 'fast-check';
import { expect, it } from 'vitest';
import {
  bootstrapMeasures,
  MEASURES,
  measuredRun,
  measuresOf,
  type MeasuredRun,
} from '../../../coordinator/comparison/run-measures.js';
import type { Measure } from '../../../coordinator/comparison/comparison-report.js';
import {
  selectRows,
  selectTasks,
  type TaskCounts,
} from '../../../coordinator/scoring/held-out-rows.js';
import {
  auc,
  calibrationRatio,
  lossSum,
  normalisedEntropy,
  sumOf,
} from '../../../coordinator/scoring/metrics.js';
import {
  adgroupImpressions,
  gaucOf,
  scoreAdgroups,
} from '../../../coordinator/scoring/score-arms.js';
import { randomStream } from '../../../shared/base/random.js';

interface Scored {
  readonly rows: TaskCounts;
  readonly logits: Float32Array;
  readonly weights: readonly number[];
}

const rowArbitrary = fc.record({
  logit: fc.integer({ min: -4, max: 4 }).map((z) => z / 2),
  clicks: fc.integer({ min: 0, max: 3 }),
  others: fc.integer({ min: 1, max: 3 }),
});

const scoredArbitrary = fc
  .array(
    fc.record({
      rows: fc.array(rowArbitrary, { minLength: 1, maxLength: 5 }),
      weight: fc.integer({ min: 0, max: 3 }),
    }),
    { minLength: 2, maxLength: 8 },
  )
  .map((adgroups): Scored => {
    const rows = adgroups.flatMap((adgroup) => adgroup.rows);
    let end = 0;
    return {
      rows: {
        starts: Int32Array.from([0, ...adgroups.map((adgroup) => (end += adgroup.rows.length))]),
        clicks: Float32Array.from(rows, (row) => row.clicks),
        impressions: Float32Array.from(rows, (row) => row.clicks + row.others),
      },
      logits: Float32Array.from(rows, (row) => row.logit),
      weights: adgroups.map((adgroup) => adgroup.weight),
    };
  });

const measured = ({ rows, logits }: Scored): MeasuredRun =>
  measuredRun(logits, rows, scoreAdgroups(logits, rows));

/** Computed from the definitions, on rows repeated as often as their adgroup counts. */
function expectedMeasures({ rows, logits, weights }: Scored): Record<Measure, number> {
  const positions = weights.flatMap((weight, adgroup) =>
    Array.from({ length: weight }, () => adgroup),
  );
  const repeated = selectTasks(rows, positions);
  const ofRepeated = selectRows(rows, positions, logits);
  const impressions = adgroupImpressions(repeated);
  const { losses, aucs } = scoreAdgroups(ofRepeated, repeated);
  const logloss = lossSum(ofRepeated, repeated) / sumOf(repeated.impressions);
  return {
    logloss,
    loglossPerAdgroup: sumOf(losses.map((loss, i) => loss / (impressions[i] ?? 1))) / losses.length,
    normalisedEntropy: normalisedEntropy(logloss, repeated) ?? NaN,
    auc: auc(ofRepeated, repeated) ?? NaN,
    gauc: gaucOf(aucs, impressions).gauc ?? NaN,
    calibrationError: Math.abs(Math.log(calibrationRatio(ofRepeated, repeated) ?? NaN)),
  };
}

it('weights count as repeated adgroups, in every measure', () => {
  fc.assert(
    fc.property(scoredArbitrary, (scored) => {
      const [found] = measuresOf([measured(scored)], scored.rows)(scored.weights, true);
      const expected = expectedMeasures(scored);
      for (const [index, { measure }] of MEASURES.entries()) {
        const value = found?.[index] ?? NaN;
        if (Number.isFinite(expected[measure]))
          expect(value, measure).toBeCloseTo(expected[measure], 9);
        else expect(Number.isFinite(value), measure).toBe(false);
      }
    }),
  );
});

it('a run does not differ from itself in any draw', () => {
  fc.assert(
    fc.property(scoredArbitrary, fc.integer({ min: 0, max: 1000 }), (scored, seed) => {
      const { differences } = bootstrapMeasures([measured(scored), measured(scored)], scored.rows, {
        samples: 20,
        confidence: 0.9,
        stream: randomStream(seed, 'test'),
      });
      for (const interval of differences[1]?.values() ?? [])
        if (interval !== null) expect(interval).toEqual({ value: 0, low: 0, high: 0 });
    }),
    { numRuns: 30 },
  );
});
