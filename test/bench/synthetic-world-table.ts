/** Formats the synthetic-world experiment as Markdown, with each requirement checked cell by cell. */

import type { ArmResult, EvaluationReport } from '../../coordinator/scoring/evaluation-report.js';
import type { ArmName } from '../../shared/config/arms.js';

export interface WorldCell {
  readonly setting: string;
  readonly clickRate: number;
  readonly seed: number;
  readonly report: EvaluationReport;
}

interface ExperimentHeader {
  readonly commit: string;
  readonly date: string;
  readonly machine: string;
  readonly rows: string;
  readonly adgroups: string;
}

const ADAPTED_ARMS: readonly ArmName[] = ['finetuned', 'meta-adapted'];
/** The largest accepted loss of an arm relative to global where there is nothing to adapt to. */
const HOMOGENEOUS_LOSS_SHARE_MAX = 0.001;

export function experimentTable(header: ExperimentHeader, cells: readonly WorldCell[]): string {
  const groups = new Map<string, WorldCell[]>();
  for (const cell of cells) {
    const name = `${cell.setting}|${cell.clickRate}`;
    groups.set(name, [...(groups.get(name) ?? []), cell]);
  }
  const lines = [
    '# The synthetic world',
    '',
    `Commit ${header.commit}, ${header.date}; ${header.machine}. ${header.rows} rows, ${header.adgroups} adgroups.`,
    'All figures are per impression of the test adgroups. Intervals are 95 %, from a paired bootstrap over adgroups. Every',
    'arm chose its settings from a grid of the same size on validation adgroups. Differences are relative to global:',
    'below 0 is better.',
    '',
  ];
  for (const group of groups.values()) lines.push(...groupLines(group));
  const offences = cells.flatMap(offencesOf);
  lines.push(
    '## Requirements',
    '',
    'Where adgroups differ, both adapted arms beat global (interval below 0). Where they do not differ, no arm loses more',
    'than 0.1 % to global. The constant beats no arm.',
    '',
    ...(offences.length === 0
      ? [`The requirements are met in all ${cells.length} cells.`]
      : offences.map((offence) => `- not met: ${offence}`)),
    '',
  );
  return lines.join('\n');
}

function groupLines(group: readonly WorldCell[]): string[] {
  const [first] = group;
  if (first === undefined) return [];
  const seeds = group.map(({ seed }) => seed).join(', ');
  const lines = [
    `## ${first.setting}, click rate ${first.clickRate * 100} %`,
    '',
    `| arm | mean logloss, seeds ${seeds} | difference from global, by seed | gap closed | AUC | GAUC | chosen settings, by seed |`,
    '|---|---|---|---|---|---|---|',
  ];
  for (const { arm } of overall(first.report)) {
    const results = group.flatMap(({ report }) => overall(report).filter((r) => r.arm === arm));
    const gaps = results.flatMap(({ gapClosed }) => (gapClosed === null ? [] : [gapClosed.value]));
    lines.push(
      `| ${[
        arm,
        mean(results.map(({ metrics }) => metrics.logloss)).toFixed(4),
        results.map((result) => differenceText(result)).join('; ') || '',
        gaps.length === 0 ? '' : `${(100 * mean(gaps)).toFixed(1)} %`,
        mean(results.map(({ metrics }) => metrics.auc ?? 0.5)).toFixed(4),
        mean(results.map(({ metrics }) => metrics.gauc ?? 0.5)).toFixed(4),
        group.map(({ report }) => chosenText(report, arm)).join('; '),
      ].join(' | ')} |`,
    );
  }
  return [...lines, ''];
}

function overall(report: EvaluationReport): readonly ArmResult[] {
  return report.slices[0]?.arms ?? [];
}

function differenceText(result: ArmResult): string {
  const found = result.differences.find(({ reference }) => reference === 'global');
  if (found === undefined) return '';
  const { value, low, high } = found.perImpression;
  return `${value.toFixed(5)} [${low.toFixed(5)}, ${high.toFixed(5)}]`;
}

function chosenText(report: EvaluationReport, arm: ArmName): string {
  const cell = report.selection.chosen.find((selection) => selection.arm === arm)?.cell;
  if (cell === undefined) return '';
  return cell.kind === 'inner-steps'
    ? `${cell.innerRate} x ${cell.innerSteps}`
    : `N(${cell.mean}, ${cell.deviation}^2)`;
}

function offencesOf({ setting, clickRate, seed, report }: WorldCell): string[] {
  const arms = new Map(overall(report).map((result) => [result.arm, result]));
  const loss = (arm: ArmName): number => arms.get(arm)?.metrics.logloss ?? Infinity;
  const where = `${setting}, click rate ${clickRate}, seed ${seed}`;
  const offences: string[] = [];
  for (const result of arms.values()) {
    if (result.metrics.logloss > loss('constant'))
      offences.push(`${where}: ${result.arm} is beaten by the constant`);
    const exceeds = result.metrics.logloss > loss('global') * (1 + HOMOGENEOUS_LOSS_SHARE_MAX);
    if (setting === 'homogeneous' && result.arm !== 'constant' && exceeds)
      offences.push(`${where}: ${result.arm} loses more than 0.1 % to global`);
  }
  if (setting !== 'homogeneous')
    for (const arm of ADAPTED_ARMS) {
      const difference = arms.get(arm)?.differences.find((d) => d.reference === 'global');
      if (difference === undefined || difference.perImpression.high >= 0)
        offences.push(`${where}: ${arm} does not beat global`);
    }
  return offences;
}

function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / Math.max(1, values.length);
}
