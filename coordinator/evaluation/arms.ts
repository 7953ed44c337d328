/** The arms that can be evaluated, what each needs, the grids of their settings, and the choice of a cell. */

import { at, requireSameLength, numberAt, spanAt } from '../../shared/base/arrays.js';
import { DivergenceError } from '../../shared/base/errors.js';
import { sigmoid } from '../../shared/base/logistic.js';
import {
  ARM_NAMES,
  CROWD_ARMS,
  GLOBAL_ARMS,
  META_ARMS,
  type ArmName,
} from '../../shared/config/arms.js';
import type { EvaluationConfig } from '../../shared/config/evaluation-config.js';
import { adapts } from '../../shared/methods/inner-loop/method.js';
import { methodPlanOf } from '../../shared/methods/methods.js';
import type { MetaParameters } from '../../shared/models/meta-parameters.js';
import type { Adaptation } from '../../shared/queue/protocol.js';
import { CLICK_LABEL } from '../../shared/tasks/task-label.js';
import type { PreparedRun } from '../plan/prepared-run.js';
import type { Cell, Selection } from '../scoring/evaluation-report.js';
import {
  selectRows,
  selectTasks,
  type FlatRows,
  type SplitRows,
} from '../scoring/held-out-rows.js';
import { isOfValues, sumOf, type CountedRows } from '../scoring/metrics.js';
import {
  bestCell,
  finiteOrNull,
  meanLoss,
  type AdgroupLosses,
} from '../scoring/validated-losses.js';
import type { AdaptableModel } from './task-jobs.js';

export interface ArmPlan {
  /** In the order in which they are shown. */
  readonly arms: ReadonlySet<ArmName>;
  readonly leftOut: readonly { readonly arm: ArmName; readonly reason: string }[];
  /** The model that the run has trained, adapted by its own method. */
  readonly meta: AdaptableModel;
  /** That model with blocks of crowds; null before they are fitted, and where no arm has them. */
  readonly crowd: AdaptableModel | null;
  /** Finetuned by plain gradient descent; null where it was not trained. */
  readonly global: AdaptableModel | null;
  readonly innerSteps: Grid;
  readonly shiftPriors: Grid;
  /** Whether an arm predicts with the global model, with the meta-trained one, and with this adapted. */
  readonly usesGlobal: boolean;
  readonly usesMeta: boolean;
  readonly adaptsMeta: boolean;
  /** Whether an arm predicts with blocks of crowds. */
  readonly usesCrowds: boolean;
  /** Whether an arm has settings to choose, for which there must be validation tasks. */
  readonly hasSettings: boolean;
  /** The number of times that each validation or test task is sent to the workers. */
  readonly passes: number;
}

/** The meta-parameters that are evaluated. */
export interface TrainedParameters {
  readonly meta: MetaParameters;
  /** Those of the global arm; null leaves out the arms that need it. */
  readonly global: MetaParameters | null;
}

/** Those whose settings validation chooses. */
const ARMS_WITH_SETTINGS: readonly ArmName[] = [
  'global-shift',
  'finetuned',
  'meta-adapted',
  'crowd-adapted',
  'meta-chosen',
];

/** A run whose own method is `global` is its own global arm and has no meta arms. */
export function planArms(
  { config, store }: Pick<PreparedRun, 'config' | 'store'>,
  { meta, global: trained }: TrainedParameters,
): ArmPlan {
  const method = methodPlanOf(config.method);
  const isMetaTrained = adapts(method);
  const parameters = trained ?? (isMetaTrained ? null : meta);
  const leftOut: { arm: ArmName; reason: string }[] = [];
  const arms = new Set<ArmName>();
  const wanted = new Set<ArmName>(config.evaluation.arms);
  if (store.manifest.hasOracle) wanted.add('oracle');
  for (const arm of ARM_NAMES) {
    if (!wanted.has(arm)) continue;
    if (isOneOf(CROWD_ARMS, arm) && method.crowd === undefined) continue;
    if (isOneOf(GLOBAL_ARMS, arm) && parameters === null)
      leftOut.push({ arm, reason: 'the global arm has not been trained' });
    else if (isOneOf(META_ARMS, arm) && !isMetaTrained) {
      const reason = "the run's own method is global: there is nothing meta-trained";
      leftOut.push({ arm, reason });
    } else arms.add(arm);
  }
  const hasAny = (names: readonly ArmName[]): boolean => names.some((arm) => arms.has(arm));
  const [usesGlobal, usesMeta] = [hasAny(GLOBAL_ARMS), hasAny(META_ARMS)];
  const usesCrowds = hasAny(CROWD_ARMS);
  return {
    ...{ arms, leftOut, usesGlobal, usesMeta, usesCrowds, crowd: null },
    meta: { parameters: meta, method: config.method },
    global: parameters === null ? null : { parameters, method: { kind: 'global' } },
    innerSteps: innerStepGrid(config.evaluation),
    shiftPriors: shiftPriorGrid(config.evaluation),
    adaptsMeta: hasAny(['meta-adapted', 'crowd-adapted', 'meta-chosen']),
    hasSettings: hasAny(ARMS_WITH_SETTINGS),
    passes:
      Number(usesGlobal) + Number(arms.has('global-shift')) + Number(usesMeta) + Number(usesCrowds),
  };
}

function isOneOf(names: readonly ArmName[], arm: ArmName): boolean {
  return names.includes(arm);
}

/** All grids have the same number of cells, so that no arm is tuned harder. */
interface Grid {
  readonly cells: readonly Cell[];
  /** True if the cell lies at an end of an axis that has more than one value. */
  isAtEdge(cellIndex: number): boolean;
}

const DEVIATION_MIN = 0.1;
const DEVIATION_MAX = 2;
const MEAN_STEP = 0.2;

/** Every inner rate with every number of inner steps. */
export function innerStepGrid(config: EvaluationConfig): Grid {
  const rates = ascending(config.innerRates);
  const steps = ascending(config.innerSteps);
  return productGrid(rates, steps, (innerRate, innerSteps) => ({
    kind: 'inner-steps',
    innerRate,
    innerSteps,
  }));
}

/**
 * As many priors as `innerStepGrid` has cells. The longer axis holds the deviation (0.1 to 2, evenly
 * spaced in the logarithm), the shorter one the mean (0, then outwards on both sides).
 */
function shiftPriorGrid({ innerRates, innerSteps }: EvaluationConfig): Grid {
  const deviationCount = Math.max(innerRates.length, innerSteps.length);
  const meanCount = Math.min(innerRates.length, innerSteps.length);
  const means = Array.from(
    { length: meanCount },
    (_, index) => Math.ceil(index / 2) * MEAN_STEP * (index % 2 === 0 ? 1 : -1),
  );
  return productGrid(deviationsOf(deviationCount), ascending(means), (deviation, mean) => ({
    kind: 'shift-prior',
    mean: mean === 0 ? 0 : mean,
    deviation,
  }));
}

function deviationsOf(count: number): number[] {
  if (count === 1) return [0.5];
  const ratio = DEVIATION_MAX / DEVIATION_MIN;
  return Array.from({ length: count }, (_, index) =>
    Number((DEVIATION_MIN * ratio ** (index / (count - 1))).toPrecision(3)),
  );
}

function productGrid(
  first: readonly number[],
  second: readonly number[],
  cellOf: (first: number, second: number) => Cell,
): Grid {
  const atEnd = (index: number, length: number): boolean =>
    length > 1 && (index === 0 || index === length - 1);
  return {
    cells: first.flatMap((a) => second.map((b) => cellOf(a, b))),
    isAtEdge: (cellIndex) =>
      atEnd(Math.floor(cellIndex / second.length), first.length) ||
      atEnd(cellIndex % second.length, second.length),
  };
}

function ascending(values: readonly number[]): number[] {
  return [...values].sort((a, b) => a - b);
}

export function selectionCriterionOf(rows: Pick<CountedRows, 'label'>): string {
  const loss = isOfValues(rows) ? 'squared error per row' : 'logloss per impression';
  return `lowest mean ${loss} on the query rows of the validation adgroups`;
}

/** Without adaptation the rate has no meaning, but the protocol requires a positive one. */
export const UNADAPTED: Adaptation = { innerRate: 1, innerSteps: 0 };

/**
 * Every cell is judged as it would be used, on rows that it was not fitted to.
 *
 * @param byCell the losses of each cell of the grid.
 * @throws QianmoError of kind `failed` if every cell diverged.
 */
export function selectCell(
  arm: ArmName,
  grid: Grid,
  byCell: readonly AdgroupLosses[],
  impressions: Float64Array,
): Selection {
  const best = bestCell(byCell);
  const meanLosses = byCell.map((losses) => meanLoss(losses, impressions));
  const validationLogloss = at(meanLosses, best);
  if (!Number.isFinite(validationLogloss))
    throw new DivergenceError({
      kind: 'failed',
      what: `the arm ${arm} diverges with every setting of its grid`,
      where: 'evaluation.innerRates, evaluation.innerSteps',
      found: `${grid.cells.length} settings tried on the validation adgroups, none of them finite`,
      cure: 'give smaller inner rates or fewer inner steps',
    });
  return {
    arm,
    cell: at(grid.cells, best),
    validationLogloss,
    atGridEdge: grid.isAtEdge(best),
    grid: grid.cells.map((cell, index) => ({
      cell,
      validationLogloss: finiteOrNull(at(meanLosses, index)),
    })),
  };
}

/** Logits, or values, of the arm `constant`, `[rowCount]`. */
export function constantLogits(rows: FlatRows, trainClickRate: number): Float32Array {
  return new Float32Array(rows.clicks.length).fill(outputOf(rows)(trainClickRate));
}

/** Null if the true click probabilities are not known. */
export function oracleLogits(rows: FlatRows): Float32Array | null {
  return rows.oracle?.map(outputOf(rows)) ?? null;
}

/** The output, logit or value, of a click rate or mean value. */
function outputOf(rows: Pick<FlatRows, 'label'>): (value: number) => number {
  return isOfValues(rows) ? (value) => value : logitOf;
}

/** The probability is kept off 0 and 1, where a single miss would have an infinite loss. */
function logitOf(probability: number): number {
  const kept = Math.min(1 - 1e-7, Math.max(1e-7, probability));
  return Math.log(kept) - Math.log1p(-kept);
}

export function adaptationOf(cell: Cell): Adaptation {
  if (cell.kind !== 'inner-steps') throw new Error('a shift prior is not a number of inner steps');
  return { innerRate: cell.innerRate, innerSteps: cell.innerSteps };
}

/** Query and support logits of a model that has not adapted. */
interface UnadaptedLogits {
  readonly query: Float32Array;
  readonly support: Float32Array;
}

/** The query logits plus the shift of each task, which is fitted on its support rows. */
export function shiftedLogits(cell: Cell, logits: UnadaptedLogits, rows: SplitRows): Float32Array {
  if (cell.kind !== 'shift-prior') throw new Error('inner steps are not a shift prior');
  const shifted = Float32Array.from(logits.query);
  for (const position of rows.query.taskIndices.keys()) {
    const support = selectTasks(rows.support, [position]);
    const shift = mapShift(selectRows(rows.support, [position], logits.support), support, cell);
    const [start, end] = spanAt(rows.query.starts, position);
    for (let row = start; row < end; row += 1) shifted[row] = at(logits.query, row) + shift;
  }
  return shifted;
}

/** The normal prior of a shift; for values, in units of their standard deviation. */
interface ShiftPrior {
  readonly mean: number;
  readonly deviation: number;
}

const NEWTON_STEPS_MAX = 200;
const NEWTON_STEP_LENGTH_MAX = 2;
const TOLERANCE = 1e-12;

/**
 * One logit shift of an adgroup, estimated from its support rows by a logistic regression that has an
 * intercept only and the global model's logits as offset. For values, it is the mean residual, shrunk
 * towards the prior mean.
 *
 * The s that minimises `sum n softplus(z + s) - c (z + s) + (s - mean)^2 / (2 deviation^2)`, by
 * Newton steps inside a shrinking bracket. The derivative rises everywhere, so there is one minimum.
 */
export function mapShift(logits: ArrayLike<number>, rows: CountedRows, prior: ShiftPrior): number {
  const { label = CLICK_LABEL } = rows;
  requireSameLength(logits, rows.clicks, rows.impressions);
  const precision = 1 / (prior.deviation * prior.deviation);
  if (label.loss === 'squared') {
    // In units of the values' deviation d, the minimum of `sum n (z + s - t)^2 / 2 + (s - mean)^2 / (2 deviation^2)`.
    let residual = 0;
    for (let row = 0; row < logits.length; row += 1)
      residual +=
        numberAt(rows.clicks, row) - numberAt(rows.impressions, row) * numberAt(logits, row);
    const mean = label.deviation * prior.mean;
    return (mean * precision + residual) / (precision + sumOf(rows.impressions));
  }
  let low = -Infinity;
  let high = Infinity;
  let shift = prior.mean;
  for (let step = 0; step < NEWTON_STEPS_MAX; step += 1) {
    let slope = precision * (shift - prior.mean);
    let curvature = precision;
    for (let row = 0; row < logits.length; row += 1) {
      const impressions = numberAt(rows.impressions, row);
      const probability = sigmoid(numberAt(logits, row) + shift);
      slope += impressions * probability - numberAt(rows.clicks, row);
      curvature += impressions * probability * (1 - probability);
    }
    if (slope > 0) high = shift;
    else low = shift;
    const length = Math.max(
      -NEWTON_STEP_LENGTH_MAX,
      Math.min(NEWTON_STEP_LENGTH_MAX, -slope / curvature),
    );
    if (Math.abs(length) < TOLERANCE * (1 + Math.abs(shift))) break;
    const next = shift + length;
    shift = next > low && next < high ? next : (low + high) / 2;
  }
  return shift;
}
