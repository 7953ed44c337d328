/** The evaluation report as one self-contained HTML page: style and plots are inside. */

import type { EvaluationReport } from '../../scoring/evaluation-report.js';
import type { ArmName } from '../../../shared/config/arms.js';
import { titleOf, wordsOf } from '../label-words.js';
import {
  bucketDifferenceChart,
  bucketLoglossChart,
  calibrationChart,
  differenceChart,
} from './evaluation-charts.js';
import { escapeHtml } from '../html-text.js';
import { card, factsHtml, pageHtml, section } from '../page/page-frame.js';
import { blocksHtml } from './served-blocks.js';
import { blendHtml, validatedHtml } from './validated-arms.js';
import { protocolsHtml } from './protocols-page.js';
import { armCell, differencesTable, gridTable, metricsTable } from './evaluation-tables.js';
import { htmlTable } from '../table.js';
import { formatCount, formatNumber, formatShare } from '../text-format.js';
import { describeCell, mainPairs, sentenceOf } from '../verdicts.js';

export function reportHtml(report: EvaluationReport): string {
  const title = escapeHtml(titleOf(report));
  const words = wordsOf(report);
  const body = [
    headerHtml(report, title),
    verdictsHtml(report),
    metricsHtml(report),
    differencesHtml(report),
    bucketsHtml(report),
    protocolsHtml(report),
    section(
      'Calibration',
      `Impressions sorted by prediction into ${report.calibrationBins} bins of equal size. On the dotted line, prediction and observed ${words.rate} agree.`,
      card(calibrationChart(report)),
    ),
    distributionsHtml(report),
    validatedHtml(report),
    settingsHtml(report),
    blocksHtml(report),
    blendHtml(report),
    section('The run', '', card(runFactsHtml(report))),
  ];
  return pageHtml(title, body);
}

function headerHtml(report: EvaluationReport, title: string): string {
  const [all] = report.slices;
  if (all === undefined) throw new Error('a report has at least one slice');
  const words = wordsOf(report);
  const facts: [string, string][] = [
    [formatCount(all.adgroupCount), 'held-out adgroups'],
    [formatCount(all.queryRowCount), 'query rows'],
    [formatCount(all.impressions), 'impressions'],
    [words.describeRate(all.clicks / all.impressions), words.rate],
    [formatCount(report.counts.validationTasks), 'adgroups to choose settings on'],
  ];
  return (
    `<header><h1>${title}</h1><p>${escapeHtml(report.run.method)}, ${escapeHtml(report.run.model)}, ` +
    `seed ${report.run.seed}</p></header>\n${factsHtml(facts)}`
  );
}

function verdictsHtml(report: EvaluationReport): string {
  const words = wordsOf(report);
  const items = mainPairs(report).map(
    (pair) => `<li class="${pair.verdict}">${escapeHtml(sentenceOf(pair, words))}</li>`,
  );
  const leftOut = report.armsLeftOut.map(
    ({ arm, reason }) => `<li>${arm} was left out: ${escapeHtml(reason)}.</li>`,
  );
  return `<h2>In short</h2><ul class="verdicts">${[...items, ...leftOut].join('')}</ul>`;
}

function metricsHtml(report: EvaluationReport): string {
  const [all] = report.slices;
  if (all === undefined) return '';
  const [first] = all.arms;
  const leftOut = first?.metrics.gaucAdgroupsLeftOutCount ?? 0;
  if (first?.metrics.values !== undefined)
    return section(
      'All test adgroups',
      'Squared error per row and as a mean over adgroups, in squares of the unit of the values; R2 is the share of their variance that is explained; ' +
        `pred/act is the sum of predictions over that of values; nDCG@${first.metrics.values.ndcgAt} ranks the rows of each adgroup, with gain 2^value - 1.`,
      card(htmlTable(metricsTable(all))),
    );
  return section(
    'All test adgroups',
    'Logloss per impression and as a mean over adgroups; NE is logloss over the entropy of the click rate; GAUC is the AUC ' +
      `within adgroups, weighted by impressions${leftOut === 0 ? '' : ` (adgroups with one class only, left out: ${formatCount(leftOut)})`}; ` +
      'pred/act is predicted over actual clicks; ECE the mean distance of prediction and click rate.',
    card(htmlTable(metricsTable(all))),
  );
}

function differencesHtml(report: EvaluationReport): string {
  const [all] = report.slices;
  if (all === undefined) return '';
  const words = wordsOf(report);
  return section(
    'Paired differences',
    `${words.lossTitle} of the arm minus that of the reference, with ${formatShare(report.confidence)} intervals from ` +
      `${formatCount(report.bootstrapSamples)} bootstrap draws of whole adgroups. "Better" and "worse" are said only where the interval ${words.perRow} excludes 0.`,
    card(htmlTable(differencesTable(all, words))),
  );
}

function bucketsHtml(report: EvaluationReport): string {
  const buckets = report.slices.slice(1);
  if (buckets.length === 0) return '';
  const words = wordsOf(report);
  const against = buckets.some(({ arms }) => arms.some(({ arm }) => arm === 'global'))
    ? `<h3>Difference from global</h3>${card(bucketDifferenceChart(buckets, words))}`
    : '';
  return section(
    'By size of the adgroup',
    `Adgroups by their support rows, with ${formatShare(report.confidence)} intervals.`,
    card(bucketLoglossChart(buckets, words)) + against,
  );
}

function distributionsHtml(report: EvaluationReport): string {
  const { differenceHistograms } = report;
  const words = wordsOf(report);
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
      card(differenceChart(differenceHistograms, reference satisfies ArmName, words))
    );
  });
  return section(
    'Who gains and who loses',
    `Adgroups by the difference of their own mean ${words.loss}; differences beyond the ends are counted in the outermost bins.`,
    parts.join(''),
  );
}

function settingsHtml(report: EvaluationReport): string {
  const { chosen, cellsPerArm, criterion } = report.selection;
  if (chosen.length === 0) return '';
  return section(
    'Chosen settings',
    `${cellsPerArm} settings tried for each arm; chosen: ${criterion}. Test adgroups were not used. The numbers are validation ${wordsOf(report).loss}.`,
    selectionHtml(report),
  );
}

/** The grid of each arm. */
function selectionHtml({ selection }: EvaluationReport): string {
  const grids = selection.chosen.map((chosen) => {
    const edge = chosen.atGridEdge ? ' <small>(at the edge of its grid)</small>' : '';
    return (
      `<div class="card"><h3 style="margin-top:0">${armCell(chosen.arm).page}</h3>` +
      `<p class="note">${escapeHtml(describeCell(chosen))}${edge}</p>${htmlTable(gridTable(chosen))}</div>`
    );
  });
  return `<div class="grids">${grids.join('')}</div>`;
}

function runFactsHtml({ run, counts, ...report }: EvaluationReport): string {
  const words = wordsOf(report);
  const code = (text: string): string => `<code>${escapeHtml(text)}</code>`;
  const facts: [string, string][] = [
    ['run', `${escapeHtml(run.run)}, seed ${run.seed}`],
    ['method', escapeHtml(run.method)],
    [
      'model',
      `${escapeHtml(run.model)}; personal blocks: ${escapeHtml(run.personalBlocks.join(', ') || 'none')}`,
    ],
    [
      'adgroups',
      `${formatCount(counts.trainTasks)} train, ${formatCount(counts.validationTasks)} validation, ${formatCount(counts.testTasks)} test`,
    ],
    [
      'rows',
      `${formatCount(counts.testSupportRows)} support and ${formatCount(counts.testQueryRows)} query rows of test adgroups, ${formatCount(counts.validationQueryRows)} query rows of validation adgroups`,
    ],
    [`${words.rate} in training`, words.describeRate(report.trainClickRate)],
    ['meta-parameters', code(run.metaDigest)],
    ['global parameters', run.globalDigest === null ? 'none' : code(run.globalDigest)],
    ['task store', `${code(run.storeAddress)}<br>${code(run.storeDigest)}`],
    ['config', code(run.configHash)],
    ['computed by', run.backends.map(escapeHtml).join('<br>')],
    [
      'finished',
      `${new Date(run.finishedEpochMs).toISOString()}, after ${formatNumber(run.durationMs / 1000, 1)} s`,
    ],
  ];
  return `<dl>${facts.map(([name, value]) => `<dt>${name}</dt><dd>${value}</dd>`).join('')}</dl>`;
}
