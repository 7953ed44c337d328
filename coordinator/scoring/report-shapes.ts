/** The distributions the report draws: calibration curves and differences per adgroup. */

import { at } from '../../shared/base/arrays.js';
import type { EvaluationConfig } from '../../shared/config/evaluation-config.js';
import { quantileOf } from './bootstrap.js';
import { calibrationBins } from './metrics.js';
import type { EvaluationReport } from './evaluation-report.js';
import { GLOBAL_ARMS, type ArmName } from '../../shared/config/arms.js';
import { adgroupImpressions, scoreAdgroups, type ScoredRows } from './score-arms.js';

const HISTOGRAM_BIN_COUNT = 40;
/** The histogram spans the differences up to this quantile of their size. */
const HISTOGRAM_SHARE = 0.98;
/** The least distance of the outer edges from 0. */
const REACH_MIN = 1e-6;

export function calibrationCurvesOf(
  scored: ScoredRows,
  config: EvaluationConfig,
): EvaluationReport['calibrationCurves'] {
  return [...scored.logits].map(([arm, logits]) => ({
    arm,
    bins: calibrationBins(logits, scored.rows, config.calibrationBins),
  }));
}

/**
 * Histograms of every arm that adapts or was meta-trained, against each reference that was
 * evaluated.
 */
export function differenceHistogramsOf(
  scored: ScoredRows,
): EvaluationReport['differenceHistograms'] {
  const impressions = adgroupImpressions(scored.rows);
  const means = new Map(
    [...scored.logits].map(([arm, logits]) => {
      const { losses } = scoreAdgroups(logits, scored.rows);
      return [arm, losses.map((loss, position) => loss / at(impressions, position))];
    }),
  );
  return GLOBAL_ARMS.flatMap((reference) => {
    const base = means.get(reference);
    const compared = [...means].filter(([arm]) => isCompared(arm, reference));
    if (base === undefined || compared.length === 0) return [];
    const differences = compared.map(([arm, ofArm]): [ArmName, Float64Array] => [
      arm,
      ofArm.map((mean, position) => mean - at(base, position)).filter(Number.isFinite),
    ]);
    return histogramsOf(differences).map(({ name, ...histogram }) => ({
      arm: name,
      reference,
      ...histogram,
    }));
  });
}

interface NamedHistogram<Name extends string> {
  readonly name: Name;
  /** One more than `adgroupCounts`. Values outside are counted in the outermost bins. */
  readonly edges: number[];
  readonly adgroupCounts: number[];
  readonly adgroupsBetter: number;
  readonly adgroupsWorse: number;
}

/** Histograms of differences per adgroup, all with the same edges. */
export function histogramsOf<Name extends string>(
  differences: readonly (readonly [Name, Float64Array])[],
): NamedHistogram<Name>[] {
  const edges = symmetricEdges(differences.map(([, values]) => values));
  return differences.map(([name, values]) => ({
    name,
    edges,
    adgroupCounts: countsBetween(values, edges),
    adgroupsBetter: values.filter((value) => value < 0).length,
    adgroupsWorse: values.filter((value) => value > 0).length,
  }));
}

function isCompared(arm: ArmName, reference: ArmName): boolean {
  return arm !== reference && arm !== 'constant' && arm !== 'global' && arm !== 'oracle';
}

/** One set of edges for all arms, so that their histograms can be laid over one another. */
function symmetricEdges(differences: readonly Float64Array[]): number[] {
  const sizes = Float64Array.from(differences.flatMap((values) => [...values].map(Math.abs)));
  const reach =
    sizes.length === 0 ? REACH_MIN : Math.max(quantileOf(sizes.sort(), HISTOGRAM_SHARE), REACH_MIN);
  return Array.from(
    { length: HISTOGRAM_BIN_COUNT + 1 },
    (_, index) => -reach + (2 * reach * index) / HISTOGRAM_BIN_COUNT,
  );
}

function countsBetween(values: Float64Array, edges: readonly number[]): number[] {
  const counts = new Array<number>(edges.length - 1).fill(0);
  const first = at(edges, 0);
  const width = (at(edges, edges.length - 1) - first) / counts.length;
  for (const value of values) {
    const bin = Math.max(0, Math.min(counts.length - 1, Math.floor((value - first) / width)));
    counts[bin] = at(counts, bin) + 1;
  }
  return counts;
}
