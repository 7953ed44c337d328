/** One adgroup of an evaluated run: its rows, the loss of every arm on them, and what its adaptation did. */

import { float64At, spanAt } from '../../../shared/base/arrays.js';
import type { ObjectStore } from '../../../shared/storage/object-store.js';
import { readEvaluatedRun, type EvaluatedRun } from '../../comparison/evaluated-run.js';
import { REPORT_FILE } from '../../reports/report-json.js';
import { isOfValues, lossSum, sumOf } from '../../scoring/metrics.js';
import {
  decodeTaskAdaptation,
  TASK_ADAPTATION_KEY,
  totalDistance,
  type TaskAdaptation,
} from '../../scoring/task-adaptation.js';

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
  /** Null where it was not recorded: without the arm `meta-adapted`, and by earlier versions. */
  readonly adaptation: AdgroupAdaptation | null;
}

/** The adaptation of an adgroup under the settings of the arm `meta-adapted`. */
interface AdgroupAdaptation {
  /** Means over the support rows, by impressions; null without such rows, or where it diverged. */
  readonly supportLossBefore: number | null;
  readonly supportLossAfter: number | null;
  /** L2 norm of what was added to all of its personal blocks. */
  readonly distance: number;
  readonly blocks: readonly { readonly variable: string; readonly distance: number }[];
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

interface ReadEvaluation extends EvaluatedRun {
  readonly adaptation: TaskAdaptation | null;
}

/** Null before an evaluation. @param name the values of the task columns, joined with U+001F */
export async function evaluatedAdgroups(
  output: ObjectStore,
  name: string | null,
): Promise<EvaluatedAdgroups | null> {
  if ((await output.get(REPORT_FILE)) === null) return null;
  const read = await readEvaluatedRun(output);
  const evaluated = { ...read, adaptation: await adaptationIn(output, read) };
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

async function adaptationIn(
  output: ObjectStore,
  { report, logits }: EvaluatedRun,
): Promise<TaskAdaptation | null> {
  const object = await output.get(TASK_ADAPTATION_KEY);
  if (object === null || report.testLogits === undefined) return null;
  const beside = { logitsSha256: report.testLogits.sha256, taskCount: logits.taskKeys.length };
  return decodeTaskAdaptation(object.bytes, beside, `${output.address}/${TASK_ADAPTATION_KEY}`);
}

/** The order of the list: most impressions first, then the earlier name. */
function largestOf(evaluated: ReadEvaluation): NamedAdgroup[] {
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

function adgroupAt(
  { report, logits: evaluated, adaptation }: ReadEvaluation,
  index: number,
): EvaluatedAdgroup {
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
    adaptation: adaptation === null ? null : adaptationAt(adaptation, index),
  };
}

function adaptationAt(
  { variables, supportLossesBefore, supportLossesAfter, distances }: TaskAdaptation,
  index: number,
): AdgroupAdaptation | null {
  const own = distances.subarray(index * variables.length, (index + 1) * variables.length);
  if (!own.every(Number.isFinite)) return null;
  const finite = (loss: number): number | null => (Number.isFinite(loss) ? loss : null);
  return {
    supportLossBefore: finite(float64At(supportLossesBefore, index)),
    supportLossAfter: finite(float64At(supportLossesAfter, index)),
    distance: totalDistance(own),
    blocks: variables.map((variable, place) => ({ variable, distance: float64At(own, place) })),
  };
}
