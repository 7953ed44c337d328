/** The evaluation report as one HTML page that needs nothing else: style and plots are inside. */

import type { ArmName, EvaluationReport } from './evaluation-report.js';
import {
  bucketDifferenceChart,
  bucketLoglossChart,
  calibrationChart,
  differenceChart,
} from './report-charts.js';
import { card, escapeHtml, factsHtml, pageHtml, section } from './report-page.js';
import { protocolsHtml } from './report-protocols.js';
import {
  differencesTableHtml,
  metricsTableHtml,
  runFactsHtml,
  selectionHtml,
} from './report-sections.js';
import { formatCount, formatShare } from './report-table.js';
import { mainPairs, sentenceOf } from './verdicts.js';

export function reportHtml(report: EvaluationReport): string {
  const title = `Evaluation of ${escapeHtml(report.run.run)}`;
  const body = [
    headerHtml(report, title),
    verdictsHtml(report),
    metricsHtml(report),
    differencesHtml(report),
    bucketsHtml(report),
    protocolsHtml(report),
    section(
      'Calibration',
      `Impressions sorted by prediction into ${report.calibrationBins} bins of equal size. On the dotted line, predicted and observed click rates agree.`,
      card(calibrationChart(report)),
    ),
    distributionsHtml(report),
    settingsHtml(report),
    section('The run', '', card(runFactsHtml(report))),
  ];
  return pageHtml(title, body);
}

function headerHtml(report: EvaluationReport, title: string): string {
  const [all] = report.slices;
  if (all === undefined) throw new Error('a report has at least one slice');
  const facts: [string, string][] = [
    [formatCount(all.adgroupCount), 'held-out adgroups'],
    [formatCount(all.queryRowCount), 'query rows'],
    [formatCount(all.impressions), 'impressions'],
    [formatShare(all.clicks / all.impressions), 'click rate'],
    [formatCount(report.counts.validationTasks), 'adgroups to choose settings on'],
  ];
  return (
    `<header><h1>${title}</h1><p>${escapeHtml(report.run.method)}, ${escapeHtml(report.run.model)}, ` +
    `seed ${report.run.seed}</p></header>\n${factsHtml(facts)}`
  );
}

function verdictsHtml(report: EvaluationReport): string {
  const items = mainPairs(report).map(
    (pair) => `<li class="${pair.verdict}">${escapeHtml(sentenceOf(pair))}</li>`,
  );
  const leftOut = report.armsLeftOut.map(
    ({ arm, reason }) => `<li>${arm} was left out: ${escapeHtml(reason)}.</li>`,
  );
  return `<h2>In short</h2><ul class="verdicts">${[...items, ...leftOut].join('')}</ul>`;
}

function metricsHtml(report: EvaluationReport): string {
  const [all] = report.slices;
  if (all === undefined) return '';
  const leftOut = all.arms[0]?.metrics.gaucAdgroupsLeftOutCount ?? 0;
  return section(
    'All test adgroups',
    'Logloss per impression and as a mean over adgroups; NE is logloss over the entropy of the click rate; GAUC is the AUC ' +
      `within adgroups, weighted by impressions${leftOut === 0 ? '' : ` (${formatCount(leftOut)} adgroups with one class only left out)`}; ` +
      'pred/act is predicted over actual clicks; ECE the mean distance of prediction and click rate.',
    card(metricsTableHtml(all)),
  );
}

function differencesHtml(report: EvaluationReport): string {
  const [all] = report.slices;
  if (all === undefined) return '';
  return section(
    'Paired differences',
    `Logloss of the arm minus that of the reference, with ${formatShare(report.confidence)} intervals from ` +
      `${formatCount(report.bootstrapSamples)} bootstrap draws of whole adgroups. "Better" and "worse" are said only where the interval per impression excludes 0.`,
    card(differencesTableHtml(all)),
  );
}

function bucketsHtml(report: EvaluationReport): string {
  const buckets = report.slices.slice(1);
  if (buckets.length === 0) return '';
  const against = buckets.some(({ arms }) => arms.some(({ arm }) => arm === 'global'))
    ? `<h3>Difference from global</h3>${card(bucketDifferenceChart(buckets))}`
    : '';
  return section(
    'By size of the adgroup',
    `Adgroups by their support rows, with ${formatShare(report.confidence)} intervals.`,
    card(bucketLoglossChart(buckets)) + against,
  );
}

function distributionsHtml({ differenceHistograms }: EvaluationReport): string {
  const references = [...new Set(differenceHistograms.map(({ reference }) => reference))];
  if (references.length === 0) return '';
  const parts = references.map((reference) => {
    const shares = differenceHistograms
      .filter((h) => h.reference === reference)
      .map(
        ({ arm, adgroupsBetter, adgroupsWorse }) =>
          `${arm} ${formatCount(adgroupsBetter)} better, ${formatCount(adgroupsWorse)} worse`,
      );
    return (
      `<h3>Against ${reference}</h3><p class="note">Adgroups: ${shares.join('; ')}.</p>` +
      card(differenceChart(differenceHistograms, reference satisfies ArmName))
    );
  });
  return section(
    'Who gains and who loses',
    'Adgroups by the difference of their own mean logloss; differences beyond the ends are counted in the outermost bins.',
    parts.join(''),
  );
}

function settingsHtml(report: EvaluationReport): string {
  const { chosen, cellsPerArm, criterion } = report.selection;
  if (chosen.length === 0) return '';
  return section(
    'Chosen settings',
    `${cellsPerArm} settings tried for each arm; chosen: ${criterion}. Test adgroups had no part in it. The numbers are validation logloss.`,
    selectionHtml(report),
  );
}
