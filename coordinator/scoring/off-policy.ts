/**
 * Off-policy estimates: the mean reward that a target policy would have had, from the log of another policy. Every
 * estimate is a function of sums over rows, so one bootstrap gives all intervals.
 */

import { float64At } from '../../shared/base/arrays.js';
import { randomStream } from '../../shared/base/random.js';
import { bootstrapIntervals, type SumStatistic } from './metrics.js';
import type { Interval } from './evaluation-report.js';

/** Logged choices, `[rowCount]` each. */
export interface LoggedRows {
  /** Rows of one decision are drawn together. Numbers from 0 without a gap. */
  readonly decisions: Int32Array;
  readonly rewards: Float64Array;
  /** Probability of the choice under the target policy, over that under the logging policy. */
  readonly weights: Float64Array;
  /** Null if there is no model of the reward. */
  readonly model: RewardModel | null;
}

interface RewardModel {
  /** Expected reward of the logged choice. */
  readonly ofChoices: Float64Array;
  /** Expected reward of the target policy's choice, times the weight of the choices before in the slate. */
  readonly ofTarget: Float64Array;
}

interface EstimateSettings {
  /** Switch-DR trusts the model alone where the weight is larger. */
  readonly switchWeight: number;
  readonly samples: number;
  readonly confidence: number;
  readonly seed: number;
}

export type EstimatorName = 'ips' | 'snips' | 'direct' | 'dr' | 'switch-dr';

interface Estimate {
  readonly estimator: EstimatorName;
  /** Null where no interval exists, as when all weights are 0. */
  readonly interval: Interval | null;
}

export interface OffPolicyReport {
  readonly rowCount: number;
  readonly decisionCount: number;
  readonly confidence: number;
  readonly switchWeight: number;
  /** The mean reward of the policy that logged. */
  readonly logged: Interval | null;
  readonly estimates: readonly Estimate[];
  readonly weights: WeightSummary;
  /** Reasons to distrust the estimates; empty if the log supports the target policy. */
  readonly warnings: readonly string[];
}

interface WeightSummary {
  /** 1 in expectation if the logging policy could choose whatever the target policy chooses. */
  readonly mean: Interval | null;
  readonly max: number;
  /** (sum of weights)^2 / sum of squared weights. */
  readonly effectiveSampleSize: number;
  readonly zeroShare: number;
  readonly aboveSwitchShare: number;
}

/** Columns of sums, in this order. */
const [ONE, REWARD, WEIGHT, SQUARE, IPS, DIRECT, DR, SWITCH] = [0, 1, 2, 3, 4, 5, 6, 7];
const COLUMN_COUNT = 8;

const per =
  (part: number, whole: number): SumStatistic =>
  (sums) =>
    float64At(sums, part) / float64At(sums, whole);

const STATISTICS = {
  ips: per(IPS, ONE),
  snips: per(IPS, WEIGHT),
  direct: per(DIRECT, ONE),
  dr: per(DR, ONE),
  'switch-dr': per(SWITCH, ONE),
} satisfies Record<EstimatorName, SumStatistic>;

export function offPolicyReport(rows: LoggedRows, settings: EstimateSettings): OffPolicyReport {
  const columns = columnsOf(rows, settings.switchWeight);
  const names: readonly EstimatorName[] =
    rows.model === null ? ['ips', 'snips'] : ['ips', 'snips', 'direct', 'dr', 'switch-dr'];
  const stream = randomStream(settings.seed, 'off-policy bootstrap');
  const [logged = null, mean = null, ...intervals] = bootstrapIntervals(
    columns,
    [per(REWARD, ONE), per(WEIGHT, ONE), ...names.map((name) => STATISTICS[name])],
    { samples: settings.samples, confidence: settings.confidence, stream },
  );
  const weights = { ...weightSummary(rows.weights, settings.switchWeight), mean };
  return {
    rowCount: rows.rewards.length,
    decisionCount: columns[ONE]?.length ?? 0,
    confidence: settings.confidence,
    switchWeight: settings.switchWeight,
    logged,
    estimates: names.map((estimator, index) => ({
      estimator,
      interval: intervals[index] ?? null,
    })),
    weights,
    warnings: warningsOf(weights, rows.rewards.length),
  };
}

/** Sums by decision, `[decisionCount]` each. */
function columnsOf(
  { decisions, rewards, weights, model }: LoggedRows,
  switchWeight: number,
): Float64Array[] {
  const decisionCount = decisions.reduce((count, decision) => Math.max(count, decision + 1), 0);
  const columns = Array.from({ length: COLUMN_COUNT }, () => new Float64Array(decisionCount));
  for (const [row, decision] of decisions.entries()) {
    const reward = float64At(rewards, row);
    const weight = float64At(weights, row);
    const expected = model === null ? 0 : float64At(model.ofChoices, row);
    const direct = model === null ? 0 : float64At(model.ofTarget, row);
    const correction = weight * (reward - expected);
    const parts: Record<number, number> = {
      [ONE]: 1,
      [REWARD]: reward,
      [WEIGHT]: weight,
      [SQUARE]: weight * weight,
      [IPS]: weight * reward,
      [DIRECT]: direct,
      [DR]: direct + correction,
      [SWITCH]: direct + (weight <= switchWeight ? correction : 0),
    };
    for (const [place, column] of columns.entries())
      column[decision] = float64At(column, decision) + (parts[place] ?? NaN);
  }
  return columns;
}

function weightSummary(weights: Float64Array, switchWeight: number): Omit<WeightSummary, 'mean'> {
  let [sum, squares, max, zeroCount, aboveCount] = [0, 0, 0, 0, 0];
  for (let row = 0; row < weights.length; row += 1) {
    const weight = float64At(weights, row);
    sum += weight;
    squares += weight * weight;
    max = Math.max(max, weight);
    if (weight === 0) zeroCount += 1;
    if (weight > switchWeight) aboveCount += 1;
  }
  return {
    max,
    effectiveSampleSize: squares === 0 ? 0 : (sum * sum) / squares,
    zeroShare: zeroCount / weights.length,
    aboveSwitchShare: aboveCount / weights.length,
  };
}

const EFFECTIVE_ROWS_MIN = 100;
const EFFECTIVE_SHARE_MIN = 0.01;

function warningsOf(weights: WeightSummary, rowCount: number): string[] {
  const { mean, effectiveSampleSize } = weights;
  const warnings: string[] = [];
  if (mean === null || mean.high < 1 || mean.low > 1)
    warnings.push(
      'The mean weight differs from 1 by more than chance. The logging policy could not choose what the target ' +
        'policy chooses, or the propensities are wrong: the estimates are biased.',
    );
  if (effectiveSampleSize < Math.max(EFFECTIVE_ROWS_MIN, EFFECTIVE_SHARE_MIN * rowCount))
    warnings.push(
      `The weights leave ${Math.round(effectiveSampleSize)} of ${rowCount} rows as effective sample size. ` +
        'The intervals may be too narrow.',
    );
  return warnings;
}
