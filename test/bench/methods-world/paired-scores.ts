/**
 * Arms of one cell on the same test rows: logloss by slice of adgroups, and differences between
 * arms on the same bootstrap draws of adgroups.
 */

import { bootstrapCounts, percentileInterval } from '../../../coordinator/scoring/bootstrap.js';
import type { Interval } from '../../../coordinator/scoring/evaluation-report.js';
import { lossSum } from '../../../coordinator/scoring/metrics.js';
import { adgroupImpressions, positionsOf } from '../../../coordinator/scoring/score-arms.js';
import { EVERY_ADGROUP, sizeBuckets } from '../../../coordinator/scoring/size-buckets.js';
import type { TestLogits } from '../../../coordinator/scoring/test-logits.js';
import { randomStream } from '../../../shared/base/random.js';

interface PairedSettings {
  readonly sizeBucketEdges: readonly number[];
  readonly samples: number;
  readonly confidence: number;
  readonly seed: number;
}

export interface PairedSlice {
  readonly name: string;
  readonly adgroupCount: number;
  readonly impressions: number;
  /** Logloss per impression, by arm. */
  readonly loglosses: ReadonlyMap<string, number>;
  /** Differences of each arm from another: by the other's name, then by its own. */
  readonly differences: ReadonlyMap<string, ReadonlyMap<string, Interval>>;
}

/**
 * @param arms logits by arm of the rows of `test`
 * @param others the arms that all are compared with
 */
export function pairedSlices(
  test: Pick<TestLogits, 'rows' | 'supportRowCounts'>,
  arms: ReadonlyMap<string, Float32Array>,
  others: readonly string[],
  settings: PairedSettings,
): PairedSlice[] {
  const { rows } = test;
  const impressions = adgroupImpressions(rows);
  const losses = new Map([...arms].map(([name, logits]) => [name, lossesOf(logits, rows)]));
  return [EVERY_ADGROUP, ...sizeBuckets(settings.sizeBucketEdges)].flatMap((bucket) => {
    const positions = positionsOf(test, bucket);
    if (positions.length === 0) return [];
    const chosen = (values: Float64Array): Float64Array =>
      Float64Array.from(positions, (position) => values[position] ?? 0);
    const shown = chosen(impressions);
    const ofArms = new Map([...losses].map(([name, values]) => [name, chosen(values)]));
    const all = new Uint32Array(positions.length).fill(1);
    const means = (weights: Uint32Array): Map<string, number> => {
      const total = weighted(shown, weights);
      return new Map([...ofArms].map(([name, of]) => [name, weighted(of, weights) / total]));
    };
    const loglosses = means(all);
    const draws: Map<string, number>[] = [];
    const stream = randomStream(settings.seed, 'methods world bootstrap', bucket.name);
    bootstrapCounts(positions.length, { ...settings, stream }, (weights) => {
      draws.push(means(weights));
    });
    const between = (name: string, other: string): Interval => {
      const less = (of: ReadonlyMap<string, number>): number =>
        (of.get(name) ?? NaN) - (of.get(other) ?? NaN);
      const interval = percentileInterval(
        less(loglosses),
        Float64Array.from(draws, less),
        settings.confidence,
      );
      if (interval === null) throw new Error(`no finite difference of ${name} and ${other}`);
      return interval;
    };
    return [
      {
        name: bucket.name,
        adgroupCount: positions.length,
        impressions: weighted(shown, all),
        loglosses,
        differences: new Map(
          others.map((other) => [
            other,
            new Map([...arms.keys()].map((name) => [name, between(name, other)])),
          ]),
        ),
      },
    ];
  });
}

/** Sums over each adgroup's rows. */
function lossesOf(logits: Float32Array, rows: TestLogits['rows']): Float64Array {
  return Float64Array.from({ length: rows.starts.length - 1 }, (_, adgroup) => {
    const [start, end] = [rows.starts[adgroup] ?? 0, rows.starts[adgroup + 1] ?? 0];
    return lossSum(logits.subarray(start, end), {
      clicks: rows.clicks.subarray(start, end),
      impressions: rows.impressions.subarray(start, end),
    });
  });
}

function weighted(values: Float64Array, weights: Uint32Array): number {
  let sum = 0;
  for (let at = 0; at < values.length; at += 1) sum += (weights[at] ?? 0) * (values[at] ?? 0);
  return sum;
}
