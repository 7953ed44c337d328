/**
 * Chooses the pairs of categories that are encoded across tasks: those whose values say most beyond both categories alone,
 * among the pairs of the categories that say most alone. The work is bounded, and the same rows give the same pairs.
 */

import type { RunConfig } from '../../shared/config/run-config.js';
import { encodedCategories } from '../../shared/config/data-config.js';
import type { DuckSession } from '../logs/duckdb-session.js';
import type { DataReport } from './data-report.js';
import type { FeatureEncoding } from './feature-encoding.js';
import { labelGain, lossOfLabels, type SampledLabels } from './row-sample.js';
import { idsOf } from './target-encodings.js';

/** Categories whose pairs are tried. */
const TRIED_CATEGORIES_MAX = 10;
/** Sums of floats differ in their last digits from run to run. */
const GAIN_DIGITS = 9;

interface PairedData extends SampledLabels {
  /** Encodings of `data.features`. */
  readonly encodings: readonly FeatureEncoding[];
  readonly report: DataReport;
}

/** The config with the chosen pairs among those that it names. */
export async function withChosenPairs(
  { config, labels, encodings, report }: PairedData,
  session: DuckSession,
): Promise<RunConfig> {
  const settings = config.data.targetEncodings;
  if (settings?.pairsMax === undefined) return config;
  const { pairsMax, smoothing, of } = settings;
  const named = encodedCategories(settings);
  const alone = [...report.features.entries()]
    .filter(([, { name }]) => of.includes(name))
    .map(([place, { name, toldShare }]) => ({ place, name, told: rounded(toldShare ?? 0) }))
    .sort((a, b) => b.told - a.told || a.place - b.place)
    .slice(0, TRIED_CATEGORIES_MAX)
    .sort((a, b) => a.place - b.place);
  const pairs: { readonly of: [string, string]; readonly gain: number }[] = [];
  for (const [index, one] of alone.entries())
    for (const other of alone.slice(index + 1)) {
      if (named.some((names) => names.includes(one.name) && names.includes(other.name))) continue;
      const { sql, joins } = idsOf([one.name, other.name], encodings);
      const found = await labelGain(sql, { loss: lossOfLabels(labels), smoothing, joins }, session);
      pairs.push({ of: [one.name, other.name], gain: rounded(found?.gain ?? 0) });
    }
  const chosen = pairs
    .filter(({ gain }) => gain > 0)
    .sort((a, b) => b.gain - a.gain)
    .slice(0, pairsMax);
  const targetEncodings = {
    ...settings,
    of: [...of, ...chosen.map((pair) => pair.of)],
    pairsMax: undefined,
  };
  return { ...config, data: { ...config.data, targetEncodings } };
}

function rounded(gain: number): number {
  return Number(gain.toFixed(GAIN_DIGITS));
}
