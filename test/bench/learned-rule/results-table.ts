/**
 * Formats the learned-rule benchmark as Markdown: verdicts first, then each stream with its rules by
 * time.
 */

import { formatSigned } from '../../../coordinator/reports/document/format.js';
import { verdictOf } from '../../../coordinator/reports/rule-comparison-document.js';
import type { RuleComparison } from '../../../coordinator/streaming/rule-comparison.js';
import { grouped, markdownTable, type BenchHeader } from '../bench-header.js';

export interface CaseResult {
  readonly name: string;
  readonly about: string;
  readonly header: BenchHeader;
  readonly rowCount: number;
  readonly featureCount: number;
  readonly clickCount: number;
  readonly judgedClickCount: number;
  readonly segmentsPerColumn: number;
  readonly truth: Readonly<Record<string, number>>;
  readonly comparison: RuleComparison;
}

export function resultsTable(results: readonly CaseResult[]): string {
  const machines = new Set(results.map(({ header }) => header.machine));
  const commits = new Set(results.map(({ header }) => header.commit));
  const dates = new Set(results.map(({ header }) => header.date));
  return [
    '# The learned update rule against tuned baselines',
    '',
    `Commit ${[...commits].join(', ')}, ${[...dates].join(', ')}; ${[...machines].join('; ')}. Made by \`npm run bench:learned-rule\`.`,
    'The metric is progressive logloss in nats: each row is predicted first and then learned. All choices are made on the',
    'prior part: one of 24 settings for each baseline, and the parameters of the learned rule (6 epochs from the tuned',
    'AdaGrad; the best epoch is kept). Only later rows are judged. The difference is the learned rule minus the baseline',
    'that is best *on the judged rows*, paired over consecutive segments, with a 95 % bootstrap interval. Below 0, the',
    'learned rule is better.',
    '',
    ...markdownTable(
      [
        'stream',
        'rows judged',
        'features',
        'clicks judged',
        'best baseline',
        'learned rule',
        'difference',
        'verdict',
      ],
      results.map((result) => {
        const judged = verdictOf(result.comparison);
        const learned = result.comparison.rules.find(({ rule }) => rule === 'learned');
        return [
          result.name,
          grouped(result.comparison.judgedRowCount),
          grouped(result.featureCount),
          grouped(result.judgedClickCount),
          judged === null ? '' : `${judged.best.rule} ${judged.best.logloss.toFixed(5)}`,
          learned?.logloss.toFixed(5) ?? '',
          judged === null
            ? ''
            : `${formatSigned(judged.difference, 5)} [${formatSigned(judged.low, 5)}, ${formatSigned(judged.high, 5)}]`,
          judged?.verdict ?? 'not finite',
        ];
      }),
    ),
    '',
    ...results.flatMap(caseLines),
  ].join('\n');
}

function caseLines(result: CaseResult): string[] {
  const { comparison, segmentsPerColumn, truth } = result;
  const segmentCount = comparison.rules[0]?.segmentLoglosses.length ?? 0;
  const columnCount = Math.ceil(segmentCount / segmentsPerColumn);
  const columns = Array.from({ length: columnCount }, (_, column) => `${column + 1}`);
  return [
    `## ${result.name}`,
    '',
    `${result.about[0]?.toUpperCase()}${result.about.slice(1)}. ${grouped(result.rowCount)} rows, ${grouped(result.clickCount)} clicks. Logloss of the judged part, also by ${
      Object.keys(truth).length > 0 ? 'day' : 'consecutive parts of equal size'
    }:`,
    '',
    ...markdownTable(
      ['rule', 'all', ...columns],
      [
        ...comparison.rules.map(({ rule, logloss, segmentLoglosses }) => [
          rule,
          logloss.toFixed(5),
          ...columns.map((_, column) =>
            mean(
              segmentLoglosses.slice(column * segmentsPerColumn, (column + 1) * segmentsPerColumn),
            ).toFixed(4),
          ),
        ]),
        ...Object.entries(truth).map(([name, logloss]) => [
          name,
          logloss.toFixed(5),
          ...columns.map(() => ''),
        ]),
      ],
    ),
    '',
  ];
}

/** Segments have equal sizes, up to one row. */
function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / Math.max(1, values.length);
}
