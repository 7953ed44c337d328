/** The tables of a comparison of runs, for terminal and page. */

import { at } from '../../../shared/base/arrays.js';
import type { ComparedSlice, ComparisonReport } from '../../comparison/comparison-report.js';
import type { Interval } from '../../scoring/evaluation-report.js';
import { dotHtml, escapeHtml } from '../html-text.js';
import { metricTable } from '../metric-columns.js';
import type { EmphasisedCell, Table, TableCell } from '../table.js';
import { formatCount } from '../text-format.js';
import { intervalCell, type Verdict } from '../verdicts.js';
import {
  describeComparedRun,
  loglossVerdict,
  measureDifferences,
  measuresOfLabel,
} from './comparison-words.js';
import { counted } from '../../../shared/names/counted.js';

/** The colour of a run in every plot and table of the page. */
export function runColour(run: number): string {
  return `var(--run-${run})`;
}

export function runCell(
  { runs }: ComparisonReport,
  run: number,
): EmphasisedCell & { readonly page: string } {
  const { label } = at(runs, run);
  return { text: label, page: `${dotHtml(runColour(run))}${escapeHtml(label)}` };
}

/** The table that identifies each run. */
export function runsTable({ runs }: ComparisonReport): Table {
  return {
    columns: [
      { title: '', alignment: 'left' },
      { title: '', alignment: 'left' },
    ],
    rows: runs.map((run) => [run.label, describeComparedRun(run)]),
  };
}

/** Every metric of every run in each of the slices; a page has a table for each slice. */
export function metricsTable(report: ComparisonReport, slices: readonly ComparedSlice[]): Table {
  const ofSlices = slices.map(({ runs }) =>
    metricTable(runs.map(({ metrics }, run) => ({ arm: at(report.runs, run).arm, metrics }))),
  );
  return {
    columns: [
      { title: 'support rows', alignment: 'left', shownOn: 'terminal' },
      { title: 'run', alignment: 'left' },
      ...(ofSlices[0]?.columns ?? []),
    ],
    rows: slices.flatMap(({ name, adgroupCount }, index) =>
      at(ofSlices, index).rows.map((row, run) => [
        run === 0 ? `${name} (${counted(adgroupCount, 'adgroup', formatCount(adgroupCount))})` : '',
        runCell(report, run),
        ...row,
      ]),
    ),
  };
}

/** A line for each run and measure, for a terminal. */
export function differencesList(report: ComparisonReport, all: ComparedSlice): Table {
  return {
    columns: [
      { title: '', alignment: 'left' },
      { title: '', alignment: 'left' },
      { title: '' },
      { title: '' },
    ],
    rows: all.runs.flatMap(({ differences }, run) =>
      measureDifferences(report, differences).map(({ info, interval, verdict }, place) => [
        place === 0 ? runCell(report, run) : '',
        info.title,
        differenceCell(interval),
        verdictCell(verdict),
      ]),
    ),
  };
}

/** A row for each run and a column for each measure, for a page. */
export function differencesMatrix(report: ComparisonReport, slice: ComparedSlice): Table {
  return {
    columns: [
      { title: 'run', alignment: 'left' },
      ...measuresOfLabel(report).map(({ title, isBetterWhen }) => ({
        title,
        unit: `${isBetterWhen} is better`,
      })),
    ],
    rows: slice.runs.flatMap(({ differences }, run) =>
      differences === null
        ? []
        : [
            [
              runCell(report, run),
              ...measureDifferences(report, differences).map(({ interval, verdict }) => ({
                ...differenceCell(interval),
                emphasis: verdict,
              })),
            ],
          ],
    ),
  };
}

/** The difference in loss of each run but the first, in each size bucket. */
export function bucketTable(report: ComparisonReport, buckets: readonly ComparedSlice[]): Table {
  const compared = [...report.runs.keys()].slice(1);
  return {
    columns: [
      { title: '', alignment: 'left' },
      ...buckets.flatMap(({ name }) => [{ title: name }, { title: '' }]),
    ],
    rows: compared.map((run) => [
      runCell(report, run),
      ...buckets.flatMap((bucket): TableCell[] => [
        differenceCell(at(bucket.runs, run).differences?.logloss ?? null),
        verdictCell(loglossVerdict(bucket, run)),
      ]),
    ]),
  };
}

function differenceCell(interval: Interval | null): EmphasisedCell {
  return interval === null ? { text: '-' } : intervalCell(interval, '<br>');
}

function verdictCell(verdict: Verdict): TableCell {
  return verdict === 'undecided' ? '' : { text: verdict, emphasis: verdict };
}
