/** Off-policy estimates as a document. */

import type { LogCounts } from '../logs/decision-log.js';
import type { EstimatorName, OffPolicyReport } from '../scoring/off-policy.js';
import type { Interval } from '../scoring/evaluation-report.js';
import {
  columnsOf,
  factsBlock,
  tableBlock,
  textBlock,
  type Document,
} from './document/document.js';
import { formatCount, formatNumber, formatShare } from './document/format.js';

const DIGITS = 6;

const NAMES: Readonly<Record<EstimatorName, string>> = {
  ips: 'IPS',
  snips: 'SNIPS',
  direct: 'direct method',
  dr: 'doubly robust',
  'switch-dr': 'switch-DR',
};

export function offPolicyDocument(
  report: OffPolicyReport & { readonly log: LogCounts | null },
): Document {
  const { weights, warnings, log } = report;
  const row = (name: string, interval: Interval | null): string[] => [
    name,
    ...[interval?.value, interval?.low, interval?.high].map((each) => formatNumber(each, DIGITS)),
  ];
  return {
    data: report,
    blocks: [
      factsBlock(
        [formatCount(report.rowCount), 'choices'],
        [formatCount(report.decisionCount), 'decisions'],
      ),
      tableBlock('Mean reward', {
        columns: columnsOf(
          '<mean reward',
          'estimate',
          `${formatShare(report.confidence)} from`,
          'to',
        ),
        rows: [
          row('logging policy', report.logged),
          ...report.estimates.map(({ estimator, interval }) => row(NAMES[estimator], interval)),
          row('mean weight', weights.mean),
        ],
      }),
      textBlock(
        `Effective sample size ${formatCount(Math.round(weights.effectiveSampleSize))}, largest weight ` +
          `${formatNumber(weights.max, 2)}, ${formatShare(weights.zeroShare)} of the choices never made by the target ` +
          `policy, ${formatShare(weights.aboveSwitchShare)} with a weight above ${report.switchWeight}.`,
      ),
      ...(log === null ? [] : [textBlock(logSentence(log))]),
      ...warnings.map((warning) => textBlock(`Warning: ${warning}`, 'worse')),
    ],
  };
}

/** The contents of a log, and the parts of it that are not used. */
export function logSentence(log: LogCounts): string {
  return (
    `${formatCount(log.decisionCount)} decisions and ${formatCount(log.outcomeCount)} outcomes. Not used: ` +
    `${formatCount(log.plainCount)} rankings without a policy, ` +
    `${formatCount(log.apprenticeCount)} decisions of apprentice mode, ${formatCount(log.immatureCount)} slots whose ` +
    `window had not ended, ${formatCount(log.unrenderedCount)} without a reported impression, ` +
    `${formatCount(log.lateCount)} late outcomes, ${formatCount(log.duplicateCount)} repeated ` +
    `ones, ${formatCount(log.unknownCount)} of unknown slots.`
  );
}
