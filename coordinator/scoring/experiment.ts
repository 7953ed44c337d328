/**
 * A/B tests on logged rows: outcomes per impression of arms that were drawn by unit, for example by user. Everything is a function
 * of sums over units. Intervals are confidence sequences, so they hold however often one looks. Pure.
 */

import { at, float64At } from '../../shared/base/arrays.js';
import type { Interval } from './evaluation-report.js';

/** Sums of one unit: outcomes and impressions in the test, and before it. */
export type UnitSums = readonly [
  outcomes: number,
  impressions: number,
  outcomesBefore: number,
  impressionsBefore: number,
];

const [OUTCOMES, IMPRESSIONS, OUTCOMES_BEFORE, IMPRESSIONS_BEFORE] = [0, 1, 2, 3];
const PARTS = 4;
type Weights = readonly [number, number, number, number];

/** Sums and sums of products over the units of an arm. */
export class ArmSums {
  unitCount = 0;
  readonly #sums = new Float64Array(PARTS);
  readonly #products = new Float64Array(PARTS * PARTS);

  add(unit: UnitSums): void {
    this.unitCount += 1;
    for (let row = 0; row < PARTS; row += 1) {
      const value = unit[row] ?? NaN;
      this.#sums[row] = float64At(this.#sums, row) + value;
      for (let column = 0; column < PARTS; column += 1) {
        const place = PARTS * row + column;
        this.#products[place] = float64At(this.#products, place) + value * (unit[column] ?? NaN);
      }
    }
  }

  sum(part: number): number {
    return float64At(this.#sums, part);
  }

  /** The covariance over units of two weighted sums of their parts. */
  covariance(first: Weights, second: Weights): number {
    if (this.unitCount < 2) return 0;
    let sum = 0;
    for (let row = 0; row < PARTS; row += 1)
      for (let column = 0; column < PARTS; column += 1) {
        const centered =
          float64At(this.#products, PARTS * row + column) -
          (this.sum(row) * this.sum(column)) / this.unitCount;
        sum += at(first, row) * at(second, column) * centered;
      }
    return sum / (this.unitCount - 1);
  }
}

export interface ExperimentSettings {
  readonly confidence: number;
  /** The relative difference that the test must be able to find, with this power. */
  readonly effect: number;
  readonly power: number;
  /** Units of an arm for which the intervals are narrowest. */
  readonly unitsPlanned: number;
  /** The share of units that each arm but the control was to get; undefined if it is not known. */
  readonly share: number | undefined;
}

export interface ArmReport {
  readonly arm: string;
  readonly unitCount: number;
  readonly impressionCount: number;
  readonly outcomeSum: number;
  /** Outcomes per impression. */
  readonly mean: number;
  /** The difference from the control's mean, as a part of that. Null for the control, and where it cannot be said yet. */
  readonly lift: Interval | null;
  readonly verdict: 'better' | 'worse' | 'undecided' | null;
}

export interface ExperimentReport {
  readonly control: string;
  readonly confidence: number;
  /** The control first. */
  readonly arms: readonly ArmReport[];
  readonly segments: readonly { readonly segment: string; readonly arms: readonly ArmReport[] }[];
  /** The part of the variance that what units did before the test explains; null without rows from before. */
  readonly explainedShare: number | null;
  /** Units of each arm from which an effect is found; null if the control has no outcomes. */
  readonly plan: {
    readonly effect: number;
    readonly power: number;
    /** If one looks once, after so many units. */
    readonly unitsAtOnce: number;
    /** If one looks as often as one likes. */
    readonly unitsAlways: number;
  } | null;
  /** Reasons to distrust the comparison. */
  readonly warnings: readonly string[];
}

/** Intervals are asymptotic: with fewer units in an arm none is given. */
const UNITS_MIN = 100;
/** Shares of units that are less likely than this are a fault of the test (Fabijan et al., KDD 2019). */
const SHARE_PROBABILITY_MIN = 0.001;

/**
 * Compares arms with a control. Ratios of sums have the variance of the delta method over units (Deng, Knoblich and Lu, KDD
 * 2018), less what the time before explains (CUPED: Deng, Xu, Kohavi and Walker, WSDM 2013). Intervals are asymptotic confidence
 * sequences (Waudby-Smith, Arbour, Sinha, Kennedy and Ramdas, Annals of Statistics 2024, theorem 2.2), divided among arms and
 * segments as Bonferroni has it.
 *
 * @param arms by name, the control first
 * @param segments sums by segment and arm
 */
export function experimentReport(
  arms: ReadonlyMap<string, ArmSums>,
  segments: ReadonlyMap<string, ReadonlyMap<string, ArmSums>>,
  settings: ExperimentSettings,
): ExperimentReport {
  const [control = ''] = arms.keys();
  const whole = comparedArms(arms, control, settings, arms.size - 1);
  const { confidence, effect, power, share } = settings;
  const controlMean = whole.reports[0]?.mean ?? 0;
  return {
    ...{ control, confidence, arms: whole.reports, explainedShare: whole.explainedShare },
    segments: [...segments].map(([segment, ofArms]) => ({
      segment,
      arms: comparedArms(ofArms, control, settings, segments.size * (arms.size - 1)).reports,
    })),
    plan:
      controlMean > 0 && whole.unitVariance > 0
        ? { effect, power, ...plannedUnits(whole.unitVariance / controlMean ** 2, settings) }
        : null,
    warnings: share === undefined ? [] : shareWarnings(arms, control, share),
  };
}

interface ComparedArms {
  readonly reports: readonly ArmReport[];
  readonly explainedShare: number | null;
  readonly unitVariance: number;
}

/** @param comparisonCount among which the probability of an error is divided */
function comparedArms(
  arms: ReadonlyMap<string, ArmSums>,
  control: string,
  settings: ExperimentSettings,
  comparisonCount: number,
): ComparedArms {
  const names = [control, ...[...arms.keys()].filter((name) => name !== control)];
  const present = names.flatMap((name) => {
    const sums = arms.get(name);
    return sums === undefined || sums.sum(IMPRESSIONS) === 0 ? [] : [{ name, sums }];
  });
  const { means, ...ofAll } = adjustedMeans(present.map(({ sums }) => sums));
  const [first] = present;
  const reports = present.map(({ name, sums }, place): ArmReport => {
    const own = {
      ...{ arm: name, unitCount: sums.unitCount, impressionCount: sums.sum(IMPRESSIONS) },
      ...{ outcomeSum: sums.sum(OUTCOMES), mean: sums.sum(OUTCOMES) / sums.sum(IMPRESSIONS) },
    };
    if (name === control) return { ...own, lift: null, verdict: null };
    const isEnough =
      first?.name === control && Math.min(sums.unitCount, first.sums.unitCount) >= UNITS_MIN;
    const lift = isEnough
      ? liftOf(at(means, place), at(means, 0), {
          count: sums.unitCount + first.sums.unitCount,
          countPlanned: 2 * settings.unitsPlanned,
          error: (1 - settings.confidence) / comparisonCount,
        })
      : null;
    return { ...own, lift, verdict: verdictOf(lift) };
  });
  return { reports, ...ofAll };
}

interface Mean {
  readonly mean: number;
  readonly variance: number;
}

/**
 * Outcomes per impression of each arm. The part that follows from what its units did before the test is taken out: by chance, an arm
 * has units that did more.
 *
 * @returns also the part of the variance that this explains, and the variance of a unit's part of the mean, averaged over arms
 */
function adjustedMeans(arms: readonly ArmSums[]): {
  readonly means: readonly Mean[];
  readonly explainedShare: number | null;
  readonly unitVariance: number;
} {
  const total = (part: number): number => arms.reduce((sum, arm) => sum + arm.sum(part), 0);
  const unitCount = arms.reduce((sum, arm) => sum + arm.unitCount, 0);
  const overUnits = (value: (arm: ArmSums, place: number) => number): number =>
    arms.reduce((sum, arm, place) => sum + arm.unitCount * value(arm, place), 0) / unitCount;
  // A unit's outcomes less those that its impressions let expect, per mean number of impressions. In the test by the arm's own
  // mean, so that their sum is 0; before it by that of all arms.
  const during = arms.map((arm): Weights => {
    const perUnit = arm.unitCount / arm.sum(IMPRESSIONS);
    return [perUnit, (-perUnit * arm.sum(OUTCOMES)) / arm.sum(IMPRESSIONS), 0, 0];
  });
  const impressionsBefore = total(IMPRESSIONS_BEFORE);
  const hasBefore = impressionsBefore > 0;
  const perUnit = unitCount / impressionsBefore;
  const before: Weights = hasBefore
    ? [0, 0, perUnit, (-perUnit * total(OUTCOMES_BEFORE)) / impressionsBefore]
    : [0, 0, 0, 0];
  const spread = overUnits((arm) => arm.covariance(before, before));
  const slope =
    spread > 0 ? overUnits((arm, place) => arm.covariance(at(during, place), before)) / spread : 0;
  const left = during.map(([outcomes, impressions]): Weights => {
    const [, , outcomesBefore, ofImpressionsBefore] = before;
    return [outcomes, impressions, -slope * outcomesBefore, -slope * ofImpressionsBefore];
  });
  const varianceOf = (of: readonly Weights[]) => (arm: ArmSums, place: number) =>
    arm.covariance(at(of, place), at(of, place));
  const [all, unitVariance] = [overUnits(varianceOf(during)), overUnits(varianceOf(left))];
  return {
    means: arms.map((arm, place) => ({
      mean:
        arm.sum(OUTCOMES) / arm.sum(IMPRESSIONS) -
        (slope * before.reduce((sum, weight, part) => sum + weight * arm.sum(part), 0)) /
          arm.unitCount,
      variance: varianceOf(left)(arm, place) / arm.unitCount,
    })),
    explainedShare: hasBefore && all > 0 ? 1 - unitVariance / all : null,
    unitVariance,
  };
}

function verdictOf(lift: Interval | null): ArmReport['verdict'] {
  if (lift === null) return 'undecided';
  return lift.low > 0 ? 'better' : lift.high < 0 ? 'worse' : 'undecided';
}

/** The difference of two means and its interval, as parts of the control's mean; null if that is not above 0. */
function liftOf({ mean, variance }: Mean, control: Mean, look: Look): Interval | null {
  if (!(control.mean > 0)) return null;
  const value = (mean - control.mean) / control.mean;
  const width = (deviationsAtAnyLook(look) * Math.sqrt(variance + control.variance)) / control.mean;
  return { value, low: value - width, high: value + width };
}

interface Look {
  /** Observations so far. */
  readonly count: number;
  /** The number at which the interval is nearly narrowest. It is the same in every look. */
  readonly countPlanned: number;
  /** The probability that the interval ever misses. */
  readonly error: number;
}

/** Half the width of a confidence sequence, in standard errors: an interval that holds at all looks together. */
export function deviationsAtAnyLook({ count, countPlanned, error }: Look): number {
  const logarithm = -2 * Math.log(error);
  const spread = (count * (logarithm + Math.log(logarithm) + 1)) / countPlanned;
  return Math.sqrt(2 * (1 + 1 / spread) * Math.log(Math.sqrt(spread + 1) / error));
}

/** @param unitVariance of a unit's part of the mean, over the squared mean */
function plannedUnits(
  unitVariance: number,
  { effect, power, confidence, unitsPlanned }: ExperimentSettings,
): { readonly unitsAtOnce: number; readonly unitsAlways: number } {
  const error = 1 - confidence;
  const ofPower = normalQuantile(power);
  const deviationAt = (units: number): number => Math.sqrt((2 * unitVariance) / units);
  const unitsAtOnce = Math.ceil(
    (2 * unitVariance * (normalQuantile(1 - error / 2) + ofPower) ** 2) / effect ** 2,
  );
  const finds = (units: number): boolean =>
    (deviationsAtAnyLook({ count: 2 * units, countPlanned: 2 * unitsPlanned, error }) + ofPower) *
      deviationAt(units) <=
    effect;
  let high = unitsAtOnce;
  while (!finds(high)) high *= 2;
  let low = high >> 1;
  while (low + 1 < high) {
    const middle = Math.floor((low + high) / 2);
    if (finds(middle)) high = middle;
    else low = middle;
  }
  return { unitsAtOnce, unitsAlways: high };
}

function shareWarnings(
  arms: ReadonlyMap<string, ArmSums>,
  control: string,
  share: number,
): string[] {
  const unitCount = [...arms.values()].reduce((sum, arm) => sum + arm.unitCount, 0);
  return [...arms].flatMap(([name, arm]) => {
    if (name === control) return [];
    const deviation = Math.sqrt(unitCount * share * (1 - share));
    const distance = Math.abs(arm.unitCount - unitCount * share) / deviation;
    const probability = 2 * (1 - normalBelow(distance)) * (arms.size - 1);
    if (probability >= SHARE_PROBABILITY_MIN) return [];
    return [
      `${name} has ${arm.unitCount} of ${unitCount} units, and ${Math.round(unitCount * share)} were expected: ` +
        'units were lost or drawn wrongly, so the arms cannot be compared',
    ];
  });
}

/** The normal distribution function, by its series around 0 (Marsaglia, 2004). */
export function normalBelow(z: number): number {
  if (Math.abs(z) > 8) return z > 0 ? 1 : 0;
  let [sum, term] = [z, z];
  for (let odd = 3; Math.abs(term) > 1e-17; odd += 2) {
    term *= (z * z) / odd;
    sum += term;
  }
  return 0.5 + (sum * Math.exp((-z * z) / 2)) / Math.sqrt(2 * Math.PI);
}

function normalQuantile(probability: number): number {
  let [low, high] = [-8, 8];
  for (let step = 0; step < 60; step += 1) {
    const middle = (low + high) / 2;
    if (normalBelow(middle) < probability) low = middle;
    else high = middle;
  }
  return (low + high) / 2;
}
