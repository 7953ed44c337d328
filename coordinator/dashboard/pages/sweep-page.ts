/** The page of a sweep, a search or a comparison: its trials or arms, the best of them, and links to their runs. */

import { at } from '../../../shared/base/arrays.js';
import type { ComparisonReport } from '../../comparison/comparison-report.js';
import { escapeHtml } from '../../reports/html-text.js';
import { rungsText } from '../../reports/sweep/sweep-table.js';
import { formatCount } from '../../reports/text-format.js';
import { describeCell } from '../../reports/verdicts.js';
import { rankedTrials, type SweepRecord, type TrialRecord } from '../../sweep/sweep-record.js';
import { describeValue } from '../../sweep/trials.js';
import type { CatalogedRun } from '../catalog/run-catalog.js';
import type { CatalogedSweep } from '../catalog/sweep-catalog.js';
import {
  facts,
  link,
  nothing,
  regionTable,
  runPath,
  sectionHtml,
  stateBadge,
  type Cell,
} from './elements.js';
import type { Page } from './page.js';

/** Trials and settings of a row that a page shows. */
const TRIALS_SHOWN_MAX = 500;
const SETTINGS_LENGTH_MAX = 400;

/** @param runs those that the dashboard knows, to link to */
export function sweepPage(sweep: CatalogedSweep, runs: readonly CatalogedRun[]): Page {
  const { key, status, findings } = sweep;
  const name = status.run ?? key;
  return {
    title: name,
    place: '/sweeps',
    parts: [
      {
        id: 'head',
        html: `<p class="crumbs">${escapeHtml(status.output)}</p><h1>${escapeHtml(name)}</h1>`,
      },
      {
        id: 'state',
        html: `<div class="stateline">${stateBadge(status.state).html}<p>${link(runPath(key), 'its workers and its log').html}</p></div>`,
        isAnnounced: true,
      },
      { id: 'found', html: foundHtml(findings, runs) },
      { id: 'report', html: reportHtml(key, findings) },
    ],
  };
}

function foundHtml(findings: CatalogedSweep['findings'], runs: readonly CatalogedRun[]): string {
  if (findings === null)
    return nothing('Nothing was found yet, or another version has written it.');
  return findings.kind === 'comparison'
    ? comparisonHtml(findings.report, runs)
    : trialsHtml(findings.record, runs);
}

function reportHtml(key: string, findings: CatalogedSweep['findings']): string {
  if (findings === null) return '';
  if (findings.kind !== 'comparison' && findings.record.best === null) return '';
  const page = link(`${runPath(key)}/files/${findings.page}`, findings.page).html;
  return sectionHtml('Report', `<p>${page}, with plots.</p>`);
}

function trialsHtml(record: SweepRecord, runs: readonly CatalogedRun[]): string {
  const { trials, loss, criterion, best } = record;
  const ranked = rankedTrials(record);
  const ordered = [...ranked, ...trials.filter((trial) => !ranked.includes(trial))];
  const shown: [string, string, string?][] = [
    [formatCount(trials.length), 'trials', rungsText(record)],
    [formatCount(ranked.length), 'scored'],
  ];
  if (best !== null)
    shown.push([best.validationLogloss.toFixed(4), `validation ${loss}`, `best: ${best.trial}`]);
  const table = regionTable({
    label: 'Trials',
    columns: [
      ['trial', 'text'],
      ['outer steps'],
      [`validation ${loss}`],
      ['adapted by', 'text'],
      ['settings', 'wrap'],
    ],
    rows: ordered.slice(0, TRIALS_SHOWN_MAX).map((trial) => trialRow(trial, best, runs)),
  });
  return facts(shown) + sectionHtml('Trials, the best first', table, `Scored by ${criterion}.`);
}

function trialRow(
  trial: TrialRecord,
  best: SweepRecord['best'],
  runs: readonly CatalogedRun[],
): Cell[] {
  const { name, output, scores, settings } = trial;
  const last = scores.at(-1);
  const settingTexts = Object.entries(settings).map(
    ([path, value]) => `${path} ${describeValue(value)}`,
  );
  const loss = last?.validationLogloss?.toFixed(4) ?? (last === undefined ? '-' : 'diverged');
  return [
    runCell(name === best?.trial ? `${name}, best` : name, output, runs),
    last === undefined ? '-' : formatCount(last.outerSteps),
    loss,
    last === undefined || last.cell === null
      ? '-'
      : [...(last.arm === undefined ? [] : [last.arm]), describeCell({ cell: last.cell })].join(
          ', ',
        ),
    settingTexts.join(', ').slice(0, SETTINGS_LENGTH_MAX),
  ];
}

/** A link where the dashboard knows the run. Calls name outputs as seen from their own folder. */
function runCell(text: string, output: string, runs: readonly CatalogedRun[]): Cell {
  const address = output.replace(/^file:\/\//, '').replace(/\/+$/, '');
  const run = runs.find(
    ({ status }) => status.output === address || status.output.endsWith(`/${address}`),
  );
  return run === undefined ? text : link(runPath(run.key), text);
}

interface ComparedArm {
  readonly label: string;
  readonly logloss: number;
}

/** The arm with the lowest loss on all test adgroups. */
export function bestOfComparison({ runs, slices }: ComparisonReport): ComparedArm {
  const losses = at(slices, 0).runs.map(({ metrics }) => metrics.logloss);
  const logloss = Math.min(...losses);
  return { label: at(runs, losses.indexOf(logloss)).label, logloss };
}

function comparisonHtml(report: ComparisonReport, runs: readonly CatalogedRun[]): string {
  const all = at(report.slices, 0);
  const { label } = bestOfComparison(report);
  const rows = report.runs.map((compared, index): Cell[] => {
    const { metrics, differences } = at(all.runs, index);
    const difference = differences?.logloss ?? null;
    const signed = (value: number): string => `${value < 0 ? '' : '+'}${value.toFixed(4)}`;
    const name = compared.label === label ? `${compared.label}, best` : compared.label;
    return [
      runCell(name, compared.address, runs),
      metrics.logloss.toFixed(4),
      difference === null
        ? '-'
        : `${signed(difference.value)} [${signed(difference.low)}, ${signed(difference.high)}]`,
      metrics.auc?.toFixed(4) ?? '-',
      metrics.calibration?.toFixed(3) ?? '-',
      compared.method,
      compared.model,
    ];
  });
  const table = regionTable({
    label: 'Compared arms',
    columns: [
      ['run and arm', 'text'],
      ['loss'],
      ['minus the first'],
      ['AUC'],
      ['calibration'],
      ['method', 'text'],
      ['model', 'text'],
    ],
    rows,
  });
  const shown = [
    [formatCount(all.adgroupCount), 'test adgroups'] as const,
    [formatCount(all.impressions), 'impressions'] as const,
  ];
  const note = `Losses per impression on all test adgroups; differences have intervals of ${report.confidence * 100} %.`;
  return facts(shown) + sectionHtml('Arms', table, note);
}
