/** Off-policy estimates on a terminal. */

import type { LogCounts } from '../../off-policy/decision-log.js';
import type { EstimatorName, OffPolicyReport } from '../../off-policy/estimates.js';
import type { Interval } from '../../scoring/evaluation-report.js';
import { textTable } from '../table.js';
import { formatCount, formatNumber, formatShare, wrap } from '../text-format.js';

const DIGITS = 6;

const NAMES: Readonly<Record<EstimatorName, string>> = {
  ips: 'IPS',
  snips: 'SNIPS',
  direct: 'direct method',
  dr: 'doubly robust',
  'switch-dr': 'switch-DR',
};

export function offPolicyTable(
  report: OffPolicyReport & { readonly log: LogCounts | null },
  outputColumns: number,
): string {
  const { weights, warnings, log } = report;
  const row = (name: string, interval: Interval | null): string[] => [
    name,
    formatNumber(interval?.value ?? null, DIGITS),
    formatNumber(interval?.low ?? null, DIGITS),
    formatNumber(interval?.high ?? null, DIGITS),
  ];
  const share = formatShare(report.confidence);
  return [
    `${formatCount(report.rowCount)} choices of ${formatCount(report.decisionCount)} decisions`,
    textTable({
      columns: [
        { title: 'mean reward', alignment: 'left' },
        { title: 'estimate' },
        { title: `${share} from` },
        { title: 'to' },
      ],
      rows: [
        row('logging policy', report.logged),
        ...report.estimates.map(({ estimator, interval }) => row(NAMES[estimator], interval)),
        row('mean weight', weights.mean),
      ],
    }),
    wrap(
      `Effective sample size ${formatCount(Math.round(weights.effectiveSampleSize))}, largest weight ` +
        `${formatNumber(weights.max, 2)}, ${formatShare(weights.zeroShare)} of the choices never made by the target ` +
        `policy, ${formatShare(weights.aboveSwitchShare)} with a weight above ${report.switchWeight}.`,
      outputColumns,
    ),
    ...(log === null ? [] : [wrap(logSentence(log), outputColumns)]),
    ...warnings.map((warning) => wrap(`Warning: ${warning}`, outputColumns)),
  ].join('\n\n');
}

/** The contents of a log, and what of them is not used. */
export function logSentence(log: LogCounts): string {
  return (
    `${formatCount(log.decisionCount)} decisions and ${formatCount(log.outcomeCount)} outcomes. Not used: ` +
    `${formatCount(log.apprenticeCount)} decisions of apprentice mode, ${formatCount(log.immatureCount)} slots whose ` +
    `window had not ended, ${formatCount(log.lateCount)} late outcomes, ${formatCount(log.duplicateCount)} repeated ` +
    `ones, ${formatCount(log.unknownCount)} of unknown slots.`
  );
}
