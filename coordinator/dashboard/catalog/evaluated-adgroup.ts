/** One adgroup of an evaluated run: its rows, and the loss of every arm on them. */

import { spanAt } from '../../../shared/base/arrays.js';
import type { ObjectStore } from '../../../shared/storage/object-store.js';
import { readEvaluatedRun, type EvaluatedRun } from '../../comparison/evaluated-run.js';
import { REPORT_FILE } from '../../reports/report-json.js';
import { isOfValues, lossSum, sumOf } from '../../scoring/metrics.js';

export interface EvaluatedAdgroup {
  readonly supportRowCount: number;
  readonly queryRowCount: number;
  readonly impressions: number;
  /** The sum of values where the label is a value. */
  readonly clicks: number;
  /** `logloss` or `squared error`. */
  readonly loss: string;
  /** Means over the query rows, by impressions, in the order in which arms are shown. */
  readonly arms: readonly { readonly arm: string; readonly queryLoss: number }[];
}

export interface NamedAdgroup extends EvaluatedAdgroup {
  readonly name: string;
}

export interface EvaluatedAdgroups {
  /** The first of them by name, for a form. */
  readonly names: readonly string[];
  /** Those with the most impressions among their query rows; none if one was asked for. */
  readonly largest: readonly NamedAdgroup[];
  readonly count: number;
  /** Null if there is none of the name that was asked for. */
  readonly found: EvaluatedAdgroup | null;
}

const NAMES_MAX = 200;
const LARGEST_MAX = 50;

/** Null before an evaluation. @param name the values of the task columns, joined with U+001F */
export async function evaluatedAdgroups(
  output: ObjectStore,
  name: string | null,
): Promise<EvaluatedAdgroups | null> {
  if ((await output.get(REPORT_FILE)) === null) return null;
  const evaluated = await readEvaluatedRun(output);
  const { taskKeys } = evaluated.logits;
  const names = [...taskKeys].sort().slice(0, NAMES_MAX);
  const index = name === null ? -1 : taskKeys.indexOf(name);
  return {
    names,
    count: taskKeys.length,
    largest: name === null ? largestOf(evaluated) : [],
    found: index < 0 ? null : adgroupAt(evaluated, index),
  };
}

/** The order of the list: most impressions first, then the earlier name. */
function largestOf(evaluated: EvaluatedRun): NamedAdgroup[] {
  const { taskKeys, rows } = evaluated.logits;
  const sizes = taskKeys.map((name, index) => {
    const [start, end] = spanAt(rows.starts, index);
    return { name, index, impressions: sumOf(rows.impressions.subarray(start, end)) };
  });
  return sizes
    .sort((a, b) => b.impressions - a.impressions || (a.name < b.name ? -1 : 1))
    .slice(0, LARGEST_MAX)
    .map(({ name, index }) => ({ name, ...adgroupAt(evaluated, index) }));
}

function adgroupAt({ report, logits: evaluated }: EvaluatedRun, index: number): EvaluatedAdgroup {
  const { supportRowCounts, rows, logits } = evaluated;
  const [start, end] = spanAt(rows.starts, index);
  const counts = {
    clicks: rows.clicks.subarray(start, end),
    impressions: rows.impressions.subarray(start, end),
    ...(report.label === undefined ? {} : { label: report.label }),
  };
  const impressions = sumOf(counts.impressions);
  return {
    supportRowCount: supportRowCounts[index] ?? 0,
    queryRowCount: end - start,
    impressions,
    clicks: sumOf(counts.clicks),
    loss: isOfValues(counts) ? 'squared error' : 'logloss',
    arms: [...logits].map(([arm, ofArm]) => ({
      arm,
      queryLoss: lossSum(ofArm.subarray(start, end), counts) / impressions,
    })),
  };
}
