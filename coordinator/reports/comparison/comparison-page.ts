/** A comparison of runs as one self-contained HTML page: style and plots are inside. */

import { calibrationCurvesChart, histogramsChart } from '../page/curve-charts.js';
import { intervalChart } from '../page/chart-drawing.js';
import type { Interval } from '../../scoring/evaluation-report.js';
import { escapeHtml } from '../html-text.js';
import { wordsOf } from '../label-words.js';
import { card, factsHtml, legendHtml, pageHtml, section } from '../page/page-frame.js';
import { htmlTable } from '../table.js';
import { formatCount, formatShare } from '../text-format.js';
import type { ComparedSlice, ComparisonReport } from '../../comparison/comparison-report.js';
import { differencesMatrix, metricsTable, runCell, runColour } from './comparison-tables.js';
import { comparisonNotes, comparisonSentences, describeComparedRun } from './comparison-words.js';
import { counted } from '../../../shared/names/counted.js';

export function comparisonHtml(report: ComparisonReport): string {
  const [all, ...buckets] = report.slices;
  const [first] = report.runs;
  if (all === undefined || first === undefined) throw new Error('a comparison has runs and rows');
  const title = `Comparison of ${report.runs.length} runs`;
  return pageHtml(title, [
    headerHtml(report, all, title),
    inShortHtml(report),
    section(
      'All test adgroups',
      'Logloss per impression and as a mean over adgroups (squared error where the label is a value); NE is logloss over the entropy of the click rate; GAUC is the AUC ' +
        'within adgroups, weighted by impressions; pred/act is predicted over actual clicks; ECE the mean distance of prediction and click rate.',
      card(htmlTable(metricsTable(report, [all]))),
    ),
    section(
      `Differences from ${escapeHtml(first.label)}`,
      `The run minus the first, with ${formatShare(report.confidence)} intervals from ${formatCount(report.bootstrapSamples)} ` +
        'bootstrap draws of whole adgroups, the same for every run. Coloured where the interval excludes 0: green is better.',
      card(htmlTable(differencesMatrix(report, all), 'tight')),
    ),
    bucketsHtml(report, buckets),
    section(
      'Calibration',
      `Impressions sorted by prediction into ${report.calibrationBins} bins of equal size. On the dotted line, prediction and what was observed agree.`,
      card(
        legendHtml(report.runs.map((_, run) => drawnRun(report, run))) +
          calibrationCurvesChart(
            report.calibrationCurves.map((bins, run) => ({ ...drawnRun(report, run), bins })),
            false,
          ),
      ),
    ),
    distributionsHtml(report, first.label),
    section('The runs', '', card(runsHtml(report))),
  ]);
}

function drawnRun({ runs }: ComparisonReport, run: number): { name: string; colour: string } {
  return { name: runs[run]?.label ?? '', colour: runColour(run) };
}

function headerHtml(report: ComparisonReport, all: ComparedSlice, title: string): string {
  const names = report.runs.map(({ label }) => escapeHtml(label)).join(', ');
  const words = wordsOf(report);
  return (
    `<header><h1>${title}</h1><p>${names}</p></header>\n` +
    factsHtml([
      [formatCount(all.adgroupCount), 'held-out adgroups'],
      [formatCount(all.queryRowCount), 'query rows'],
      [formatCount(all.impressions), 'impressions'],
      [words.describeRate(all.clicks / all.impressions), words.rate],
    ])
  );
}

function inShortHtml(report: ComparisonReport): string {
  const items = [
    ...comparisonSentences(report).map(
      ({ text, verdict }) => `<li class="${verdict}">${escapeHtml(text)}</li>`,
    ),
    ...comparisonNotes(report).map((note) => `<li>${escapeHtml(note)}</li>`),
  ];
  return `<h2>In short</h2><ul class="verdicts">${items.join('')}</ul>`;
}

function bucketsHtml(report: ComparisonReport, buckets: readonly ComparedSlice[]): string {
  const [first] = report.runs;
  if (buckets.length === 0 || first === undefined) return '';
  const words = wordsOf(report);
  const chart = (
    valueTitle: string,
    firstRun: number,
    intervalOf: (run: ComparedSlice['runs'][number]) => Interval | null,
  ): string =>
    legendHtml(report.runs.slice(firstRun).map((_, index) => drawnRun(report, firstRun + index))) +
    intervalChart({
      categories: buckets.map(
        (b) => `${b.name}\n${counted(b.adgroupCount, 'adgroup', formatCount(b.adgroupCount))}`,
      ),
      categoryTitle: 'support rows of the adgroup',
      valueTitle,
      withZero: firstRun > 0,
      withLegend: false,
      series: report.runs.slice(firstRun).map((_, index) => ({
        ...drawnRun(report, firstRun + index),
        intervals: buckets.map((bucket) => {
          const run = bucket.runs[firstRun + index];
          return run === undefined ? null : intervalOf(run);
        }),
      })),
    });
  const tables = buckets.map(
    (bucket) =>
      `<details><summary>${escapeHtml(bucket.name)} support rows: ${counted(bucket.adgroupCount, 'adgroup', formatCount(bucket.adgroupCount))}, ` +
      `${formatCount(bucket.queryRowCount)} query rows</summary>` +
      card(htmlTable(metricsTable(report, [bucket]))) +
      card(htmlTable(differencesMatrix(report, bucket), 'tight')) +
      '</details>',
  );
  return section(
    'By size of the adgroup',
    `Adgroups by their support rows, with ${formatShare(report.confidence)} intervals. Every metric of a bucket is below the plots.`,
    `<h3>Difference from ${escapeHtml(first.label)}</h3>` +
      card(
        chart(
          `${words.loss} minus that of the first, ${words.unit}`,
          1,
          (run) => run.differences?.logloss ?? null,
        ),
      ) +
      `<h3>${words.lossTitle}</h3>` +
      card(
        chart(
          `${words.loss}, ${words.unit} ${words.perRow}`,
          0,
          ({ metrics }) => metrics.loglossInterval,
        ),
      ) +
      tables.join(''),
  );
}

function distributionsHtml(report: ComparisonReport, first: string): string {
  const shares = report.differenceHistograms.map(
    ({ label, adgroupsBetter, adgroupsWorse }) =>
      `${escapeHtml(label)} ${formatCount(adgroupsBetter)} better, ${formatCount(adgroupsWorse)} worse`,
  );
  return section(
    'Who gains and who loses',
    `Adgroups by the difference of their own mean ${wordsOf(report).loss} from that of ${escapeHtml(first)}; differences beyond the ends are counted in the outermost bins. ` +
      `Adgroups: ${shares.join('; ')}.`,
    card(
      legendHtml(report.differenceHistograms.map((_, index) => drawnRun(report, index + 1))) +
        histogramsChart(
          report.differenceHistograms.map((histogram, index) => ({
            ...drawnRun(report, index + 1),
            ...histogram,
          })),
          `${wordsOf(report).loss} of the adgroup minus that of the first, ${wordsOf(report).unit} (left of 0: better)`,
          false,
        ),
    ),
  );
}

function runsHtml(report: ComparisonReport): string {
  const code = (text: string): string => `<code>${escapeHtml(text)}</code>`;
  const { loss } = wordsOf(report);
  const facts = report.runs.map((run, index) => {
    const personal = run.personalBlocks.join(', ') || 'none';
    return (
      `<dt>${runCell(report, index).page}</dt><dd>${escapeHtml(describeComparedRun(run))}; personal blocks: ` +
      `${escapeHtml(personal)}${run.validationLogloss === null ? '' : `; validation ${loss} ${run.validationLogloss.toFixed(4)}`}<br>` +
      `${code(run.address)}<br>config ${code(run.configHash.slice(0, 12))}, meta-parameters ${code(run.metaDigest.slice(0, 12))}, ` +
      `task store ${code(run.storeDigest.slice(0, 12))}</dd>`
    );
  });
  return `<dl>${facts.join('')}</dl>`;
}
