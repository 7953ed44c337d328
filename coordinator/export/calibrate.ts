/** Fits the calibrations of a bundle on its validation adgroups, cut to few rows and whole, one for each label. */

import { at, numberAt, spanAt } from '../../shared/base/arrays.js';
import type { BundleServing } from '../../shared/bundle/bundle-manifest.js';
import {
  evidenceCounts,
  segmentShare,
  type BlockEvidence,
  type BundleCalibration,
} from '../../shared/bundle/calibration.js';
import { labelsOf, type TaskLabel, type LossKind } from '../../shared/tasks/task-label.js';
import {
  predictLogits,
  dividedStore,
  type AdaptableModel,
  type TaskJobContext,
} from '../evaluation/task-jobs.js';
import { UNADAPTED } from '../evaluation/arms.js';
import { readFlatRows, type FlatRows } from '../scoring/held-out-rows.js';
import { sumOf } from '../scoring/metrics.js';
import { servedBlocksOf } from './adapted-shards.js';
import { sigmoid, softplus } from '../../shared/base/logistic.js';

/** Rows of one adgroup as it is served with some evidence; for values in standardised units. */
export interface CalibrationRows {
  readonly evidence: BlockEvidence;
  /** `[rowCount]`, as the others. */
  readonly outputs: ArrayLike<number>;
  readonly clicks: ArrayLike<number>;
  readonly impressions: ArrayLike<number>;
}

type Calibration = Pick<BundleCalibration, 'slope' | 'offset' | 'withoutClick' | 'clicks'>;

/** Support rows that validation adgroups are cut to, and the first knots. */
const CUTS = [0, 1, 2, 5, 10, 20] as const;
/** Validation adgroups that are cut; each cut adapts them again. */
const CUT_ADGROUPS_MAX = 4_096;
/** Standard deviations of 0.1 of a slope, of 0.2 of an offset and of what it changes by from one knot to the next. */
const SLOPE_PRECISION = 100;
const OFFSET_PRECISION = 25;
/** A slope at or below 0 would turn the ranking around. */
const SLOPE_MIN = 0.05;
const ITERATION_COUNT_MAX = 100;
const STEP_SIZE_MIN = 1e-9;

/**
 * The convex loss of all rows and of the distance from no calibration. Parameters are the slope, the offset without evidence,
 * and what the offset changes by at each knot: knots without data stay near the one before.
 */
export function fitCalibration(groups: readonly CalibrationRows[], loss: LossKind): Calibration {
  const problem = problemOf(groups, loss);
  let current = problem.start;
  let found = sumsAt(problem, current);
  for (let iteration = 0; iteration < ITERATION_COUNT_MAX; iteration += 1) {
    const next = lowered(problem, current, found);
    if (next === null) break;
    const moved = Math.max(...next.map((value, place) => Math.abs(value - at(current, place))));
    current = next;
    found = sumsAt(problem, current);
    if (moved < STEP_SIZE_MIN) break;
  }
  const [slope, offset] = [at(current, 0), at(current, 1)];
  const effectsFrom = (knots: readonly number[], first: number): Calibration['clicks'] => {
    let effect = 0;
    return knots.map((count, place) => ({ count, effect: (effect += at(current, first + place)) }));
  };
  const { withoutClick, clicks } = problem;
  return {
    ...{ slope, offset, withoutClick: effectsFrom(withoutClick, FIXED_COUNT) },
    clicks: effectsFrom(clicks, FIXED_COUNT + withoutClick.length),
  };
}

/** The slope and the offset without evidence. */
const FIXED_COUNT = 2;

interface CalibrationProblem {
  readonly groups: readonly CalibrationRows[];
  readonly loss: LossKind;
  /** Counts of the knots. */
  readonly withoutClick: readonly number[];
  readonly clicks: readonly number[];
  /** By group, how much of each parameter from the offset on is in its offset. */
  readonly shares: readonly (readonly number[])[];
  readonly precisions: readonly number[];
  readonly start: readonly number[];
  readonly least: readonly number[];
  readonly most: readonly number[];
}

function problemOf(groups: readonly CalibrationRows[], loss: LossKind): CalibrationProblem {
  const counts = groups.map(({ evidence }) => evidenceCounts(loss, evidence));
  const isClick = loss === 'binary';
  const withoutClick = knotsUpTo(counts.map((each) => each.withoutClick));
  const clicks = isClick ? knotsUpTo(counts.map((each) => each.clicks)) : [];
  const changes = [...withoutClick, ...clicks];
  return {
    ...{ groups, loss, withoutClick, clicks },
    shares: counts.map((each) => [
      1,
      ...sharesOf(withoutClick, each.withoutClick),
      ...sharesOf(clicks, each.clicks),
    ]),
    precisions: [SLOPE_PRECISION, OFFSET_PRECISION, ...changes.map(() => OFFSET_PRECISION)],
    start: [1, 0, ...changes.map(() => 0)],
    least: [
      ...[SLOPE_MIN, -Infinity, ...withoutClick.map(() => -Infinity)],
      ...clicks.map(() => 0),
    ],
    most: [
      ...[Infinity, Infinity, ...withoutClick.map(() => (isClick ? 0 : Infinity))],
      ...clicks.map(() => Infinity),
    ],
  };
}

/** 1, 2, 5, 10, ... up to what is not exceeded, and at least the cuts. */
function knotsUpTo(counts: readonly number[]): number[] {
  const most = counts.reduce(
    (largest, each) => Math.max(largest, each),
    at(CUTS, -1 + CUTS.length),
  );
  const knots: number[] = [];
  for (let power = 1; (knots.at(-1) ?? 0) < most; power *= 10)
    for (const digit of [1, 2, 5]) if ((knots.at(-1) ?? 0) < most) knots.push(digit * power);
  return knots;
}

function sharesOf(knots: readonly number[], found: number): number[] {
  return knots.map((knot, place) =>
    segmentShare(found, place === 0 ? 0 : at(knots, place - 1), knot),
  );
}

interface Sums {
  readonly loss: number;
  readonly gradient: readonly number[];
  readonly hessian: readonly (readonly number[])[];
}

/** Rows of a group have one offset, so that each adds to five sums alone. */
function sumsAt(
  { groups, loss, shares, precisions, start }: CalibrationProblem,
  point: readonly number[],
): Sums {
  const gradient = point.map((value, place) => at(precisions, place) * (value - at(start, place)));
  const hessian = point.map((_, row) =>
    point.map((_value, column) => (row === column ? at(precisions, row) : 0)),
  );
  const slope = at(point, 0);
  let sum = point.reduce(
    (half, value, place) => half + (at(precisions, place) * (value - at(start, place)) ** 2) / 2,
    0,
  );
  const add = (row: number, column: number, value: number): void => {
    const values = at(hessian, row);
    values[column] = at(values, column) + value;
  };
  for (const [group, { outputs, clicks, impressions }] of groups.entries()) {
    const own = at(shares, group);
    const offset = own.reduce((total, share, place) => total + share * at(point, place + 1), 0);
    let [residuals, residualOutputs, curvatures, curvatureOutputs, curvatureSquares] = [
      0, 0, 0, 0, 0,
    ];
    for (let row = 0; row < outputs.length; row += 1) {
      const output = numberAt(outputs, row);
      const shown = numberAt(impressions, row);
      const clicked = numberAt(clicks, row);
      const z = slope * output + offset;
      const mean = loss === 'binary' ? sigmoid(z) : z;
      const curvature = shown * (loss === 'binary' ? mean * (1 - mean) : 1);
      const residual = shown * mean - clicked;
      sum += shown * (loss === 'binary' ? softplus(z) : (z * z) / 2) - clicked * z;
      residuals += residual;
      residualOutputs += residual * output;
      curvatures += curvature;
      curvatureOutputs += curvature * output;
      curvatureSquares += curvature * output * output;
    }
    gradient[0] = at(gradient, 0) + residualOutputs;
    add(0, 0, curvatureSquares);
    for (const [place, share] of own.entries()) {
      if (share === 0) continue;
      gradient[place + 1] = at(gradient, place + 1) + share * residuals;
      add(0, place + 1, share * curvatureOutputs);
      add(place + 1, 0, share * curvatureOutputs);
      for (const [other, otherShare] of own.entries())
        if (otherShare !== 0) add(place + 1, other + 1, share * otherShare * curvatures);
    }
  }
  return { loss: sum, gradient, hessian };
}

/** A point within the bounds with a smaller loss: along Newton's direction, or against the gradient. Null if there is none. */
function lowered(
  problem: CalibrationProblem,
  point: readonly number[],
  sums: Sums,
): readonly number[] | null {
  const { least, most } = problem;
  const { gradient, hessian } = sums;
  const free = [...point.keys()].filter((place) => {
    const [value, slope] = [at(point, place), at(gradient, place)];
    return !(value <= at(least, place) && slope > 0) && !(value >= at(most, place) && slope < 0);
  });
  const newton = point.map(() => 0);
  const solved = solve(
    free.map((row) => free.map((column) => at(at(hessian, row), column))),
    free.map((place) => at(gradient, place)),
  );
  for (const [place, of] of free.entries()) newton[of] = at(solved, place);
  const scaled = gradient.map((value, place) => value / at(at(hessian, place), place));
  for (const direction of [newton, scaled])
    for (let size = 1; size > STEP_SIZE_MIN; size /= 2) {
      const tried = point.map((value, place) =>
        Math.min(at(most, place), Math.max(at(least, place), value - size * at(direction, place))),
      );
      if (sumsAt(problem, tried).loss < sums.loss) return tried;
    }
  return null;
}

/** Gauss-Jordan elimination; positive definite matrices need no pivots. */
function solve(matrix: readonly (readonly number[])[], right: readonly number[]): number[] {
  const rows = matrix.map((row, place) => [...row, at(right, place)]);
  for (const [pivot, pivotRow] of rows.entries())
    for (const [place, row] of rows.entries()) {
      if (place === pivot) continue;
      const factor = at(row, pivot) / at(pivotRow, pivot);
      for (const [column, value] of pivotRow.entries())
        row[column] = at(row, column) - factor * value;
    }
  return rows.map((row, place) => at(row, rows.length) / at(row, place));
}

/** By label. */
export async function calibrationsOf(
  context: TaskJobContext,
  model: AdaptableModel,
  serving: readonly BundleServing[],
): Promise<BundleCalibration[]> {
  const { store } = context;
  const calibrations: BundleCalibration[] = [];
  for (const [labelIndex, label] of labelsOf(store.manifest).entries()) {
    const tasks = store.tasks.filter(
      (task) => task.split === 'validation' && (task.labelIndex ?? 0) === labelIndex,
    );
    const source = { context, model, label, serving: at(serving, labelIndex) };
    const every = tasks.map(({ taskIndex }) => taskIndex);
    const stride = Math.ceil(every.length / CUT_ADGROUPS_MAX);
    const few = tasks.filter((_, place) => place % stride === 0);
    const groups: CalibrationRows[] = [];
    for (const cut of CUTS) {
      const taskIndices = few
        .filter(({ supportRowCount }) => supportRowCount >= cut)
        .map(({ taskIndex }) => taskIndex);
      const divided = dividedStore(store, taskIndices, { by: 'shots', supportRowsMax: cut });
      groups.push(
        ...(await servedRows({ ...source, context: { ...context, ...divided } }, taskIndices)),
      );
    }
    const whole = await servedRows(source, every);
    const impressions = whole.map((group) => sumOf(group.impressions));
    calibrations.push({
      ...fitCalibration([...groups, ...whole], label.loss),
      ...{ adgroupCount: every.length, impressions: sumOf(impressions) },
    });
  }
  return calibrations;
}

interface ServedSource {
  readonly context: TaskJobContext;
  readonly model: AdaptableModel;
  readonly serving: BundleServing;
  readonly label: TaskLabel;
}

/** The query rows of adgroups under the blocks that each is served after the support rows of the store. */
async function servedRows(
  { context, model, serving, label }: ServedSource,
  taskIndices: readonly number[],
): Promise<CalibrationRows[]> {
  if (taskIndices.length === 0) return [];
  const { store } = context;
  const areAdapted = taskIndices.map((taskIndex) => {
    const { supportRowCount } = at(store.tasks, taskIndex);
    return supportRowCount > 0 && servedBlocksOf(serving, supportRowCount) === 'adapted';
  });
  const adaptations = areAdapted.includes(true) ? [UNADAPTED, serving.adaptation] : [UNADAPTED];
  const { logits } = await predictLogits(context, {
    ...{ ...model, taskIndices, role: 'query', adaptations, keep: [...adaptations.keys()] },
  });
  const [query, support] = [
    standardised(await readFlatRows(store, taskIndices, 'query'), label),
    standardised(await readFlatRows(store, taskIndices, 'support'), label),
  ];
  return areAdapted.map((isAdapted, place) => {
    const outputs = at(logits, isAdapted ? 1 : 0);
    const [start, end] = spanAt(query.starts, place);
    const supportSpan = spanAt(support.starts, place);
    return {
      evidence: {
        clicks: sumOf(support.clicks.subarray(...supportSpan)),
        impressions: sumOf(support.impressions.subarray(...supportSpan)),
      },
      outputs: standardisedOutputs(outputs.subarray(start, end), label),
      clicks: query.clicks.subarray(start, end),
      impressions: query.impressions.subarray(start, end),
    };
  });
}

/** Predictions and labels that are values come in their own unit; a scorer's are standardised. */
function standardised(rows: FlatRows, label: TaskLabel): FlatRows {
  if (label.loss === 'binary') return rows;
  const { mean, deviation } = label;
  const clicks = rows.clicks.map(
    (sum, row) => (sum - mean * at(rows.impressions, row)) / deviation,
  );
  return { ...rows, clicks };
}

function standardisedOutputs(outputs: Float32Array, label: TaskLabel): Float32Array {
  if (label.loss === 'binary') return outputs;
  return outputs.map((value) => (value - label.mean) / label.deviation);
}
