/** A comparison of runs as a document. */

import { at } from '../../shared/base/arrays.js';
import { counted } from '../../shared/names/counted.js';
import {
  ComparisonReportSchema,
  type ComparedSlice,
  type ComparisonReport,
} from '../comparison/comparison-report.js';
import { MEASURES, type MeasureInfo } from '../comparison/run-measures.js';
import type { Interval } from '../scoring/evaluation-report.js';
import {
  code,
  columnsOf,
  factsBlock,
  fieldsBlock,
  figure,
  leftColumn,
  section,
  tableBlock,
  textBlock,
  type Block,
  type Cell,
  type Chart,
  type Document,
  type Piece,
  type Section,
  type Table,
  type Text,
} from './document/document.js';
import { formatCount, formatShare } from './document/format.js';
import {
  calibrationFigure,
  distributionNote,
  histogramsFigure,
  intervalPoints,
  rowFacts,
} from './evaluation-document.js';
import { metricTable } from './metric-table.js';
import {
  describeCell,
  intervalCell,
  signedInterval,
  verdictOf,
  whyUndecided,
  wordsOf,
  type LabelWords,
  type Verdict,
} from './verdicts.js';

/** @param hrefOf the page of a run; null without one */
export function comparisonDocument(
  report: ComparisonReport,
  hrefOf: (address: string) => string | null = () => null,
): Document {
  const { runs, slices, confidence } = report;
  const all = at(slices, 0);
  const first = at(runs, 0).label;
  const words = wordsOf(report);
  const buckets = slices.slice(1);
  const percent = `${formatShare(confidence)} intervals`;
  const cells = runs.map(({ label, address }, run): Piece => {
    const href = hrefOf(address);
    return { text: label, dot: runColor(run), ...(href === null ? {} : { href }) };
  });
  return {
    title: `Comparison of ${runs.length} runs`,
    subtitle: runs.map(({ label }) => label).join(', '),
    data: ComparisonReportSchema.parse(report),
    blocks: [
      factsBlock(...rowFacts(all, words)),
      section('In short', '', comparisonConclusions(report), 'page'),
      section('The runs', '', [fieldsBlock(runFields(report, cells, words))]),
      section('Metrics', `* or bold: best of its adgroups, without the oracle`, [
        tableBlock('Metrics', metricsTable(report, cells)),
      ]),
      section(
        `Differences from ${first}`,
        `the run minus the first, with ${percent} from ${formatCount(report.bootstrapSamples)} bootstrap draws of whole adgroups, the same for every run`,
        [
          tableBlock('Differences', differencesTable(report, all, cells)),
          ...buckets.map((bucket): Block => {
            const table = tableBlock(bucket.name, differencesTable(report, bucket, cells));
            return { kind: 'details', summary: `${bucket.name} support rows`, blocks: [table] };
          }),
        ],
      ),
      ...(buckets.length === 0 ? [] : [bucketsSection(report, buckets, cells, words)]),
      section(
        'Calibration',
        `Impressions sorted by prediction into ${report.calibrationBins} bins of equal size. On the dotted line, prediction and observation agree.`,
        [
          calibrationFigure(
            report.calibrationCurves.map((bins, run) => ({ ...drawnRun(report, run), bins })),
            words.rate,
          ),
        ],
        'page',
      ),
      section(
        'Who gains and who loses',
        distributionNote(words),
        [
          histogramsFigure(
            report.differenceHistograms.map((histogram, index) => ({
              ...histogram,
              ...drawnRun(report, index + 1),
            })),
            first,
            words,
          ),
        ],
        'page',
      ),
      section('', '', comparisonConclusions(report), 'terminal'),
    ],
  };
}

/** The color of a run in every chart and table. */
function runColor(run: number): string {
  return `var(--run-${run})`;
}

function drawnRun({ runs }: ComparisonReport, run: number): { name: string; color: string } {
  return { name: at(runs, run).label, color: runColor(run) };
}

function runFields(
  { runs }: ComparisonReport,
  cells: readonly Piece[],
  { loss }: LabelWords,
): [Text, Text][] {
  return runs.map((run, index) => {
    const chosen = run.cell === null ? '' : `; ${describeCell({ cell: run.cell })}`;
    const validation =
      run.validationLogloss === null
        ? ''
        : `; validation ${loss} ${run.validationLogloss.toFixed(4)}`;
    const more: Piece[] = [
      { text: `; personal blocks: ${run.personalBlocks.join(', ') || 'none'}${validation}; ` },
      code(run.address),
      { text: ', config ' },
      code(run.configHash.slice(0, 12)),
      { text: ', meta-parameters ' },
      code(run.metaDigest.slice(0, 12)),
      { text: ', task store ' },
      code(run.storeDigest.slice(0, 12)),
    ];
    return [
      at(cells, index),
      [
        `${run.method}, ${run.model}, seed ${run.seed}${chosen}`,
        ...more.map((piece) => ({ ...piece, on: 'page' as const })),
      ],
    ];
  });
}

/** Every metric of every run in each of the slices. */
function metricsTable({ runs, slices }: ComparisonReport, cells: readonly Piece[]): Table {
  const tables = slices.map((slice) =>
    metricTable(slice.runs.map(({ metrics }, run) => ({ arm: at(runs, run).arm, metrics }))),
  );
  return {
    columns: [...columnsOf('<support rows', '<run'), ...(tables[0]?.columns ?? [])],
    rows: slices.flatMap(({ name, adgroupCount }, index) =>
      at(tables, index).rows.map((row, run) => [
        run === 0 ? `${name} (${counted(adgroupCount, 'adgroup', formatCount(adgroupCount))})` : '',
        at(cells, run),
        ...row,
      ]),
    ),
  };
}

/** A row for each measure of each run but the first. */
function differencesTable(
  report: ComparisonReport,
  { runs }: ComparedSlice,
  cells: readonly Piece[],
): Table {
  return {
    columns: columnsOf('<run', '<measure', 'difference', ''),
    rows: runs.flatMap(({ differences }, run) =>
      differences === null
        ? []
        : measuresOfLabel(report).map((info, place) => {
            const interval = differences[info.measure];
            return [
              place === 0 ? at(cells, run) : '',
              `${info.title}, ${info.isBetterWhen} is better`,
              intervalCell(interval),
              verdictCell(verdictOn(info, interval)),
            ];
          }),
    ),
  };
}

/** The measures that exist for the label, with their names for it. */
function measuresOfLabel(report: Pick<ComparisonReport, 'label'>): MeasureInfo[] {
  if (report.label?.loss !== 'squared') return [...MEASURES];
  const { loss } = wordsOf(report);
  return MEASURES.filter(
    ({ measure }) => !['normalisedEntropy', 'auc', 'gauc'].includes(measure),
  ).map((info) => ({ ...info, title: info.title.replace('logloss', loss) }));
}

function verdictOn({ isBetterWhen }: MeasureInfo, interval: Interval | null): Verdict {
  if (interval === null) return 'undecided';
  if (isBetterWhen === 'lower') return verdictOf(interval);
  const { value, low, high } = interval;
  return verdictOf({ value: -value, low: -high, high: -low });
}

function verdictCell(verdict: Verdict): Cell {
  return verdict === 'undecided' ? '' : { cell: verdict, emphasis: verdict };
}

function lossDifference(slice: ComparedSlice, run: number): Interval | null {
  return slice.runs[run]?.differences?.logloss ?? null;
}

function lossVerdict(slice: ComparedSlice, run: number): Verdict {
  const interval = lossDifference(slice, run);
  return interval === null ? 'undecided' : verdictOf(interval);
}

function bucketsSection(
  report: ComparisonReport,
  buckets: readonly ComparedSlice[],
  cells: readonly Piece[],
  words: LabelWords,
): Section {
  const { runs, confidence } = report;
  const categories = buckets.map(
    ({ name, adgroupCount }) =>
      `${name}\n${counted(adgroupCount, 'adgroup', formatCount(adgroupCount))}`,
  );
  const chartOf = (
    y: Chart['y'],
    intervalOf: (bucket: ComparedSlice, run: number) => Interval | null | undefined,
  ): Chart => ({
    ...{ look: 'intervals', x: { title: 'support rows of the adgroup', categories }, y },
    series: runs.flatMap((_, run) => {
      const points = intervalPoints(buckets.map((bucket) => intervalOf(bucket, run)));
      return points.length === 0 ? [] : [{ ...drawnRun(report, run), points }];
    }),
  });
  const minus = `${words.loss} minus ${at(runs, 0).label}`;
  const table: Table = {
    columns: [leftColumn('run'), ...buckets.map(({ name }) => ({ title: name }))],
    rows: [...runs.keys()].slice(1).map((run) => [
      at(cells, run),
      ...buckets.map((bucket): Cell => {
        const interval = lossDifference(bucket, run);
        const emphasis = lossVerdict(bucket, run);
        if (interval === null || emphasis === 'undecided') return intervalCell(interval);
        return {
          cell: [...intervalCell(interval), { text: ` ${emphasis}`, on: 'terminal' }],
          emphasis,
        };
      }),
    ]),
  };
  return section(
    'By size of the adgroup',
    `${minus} by support rows, ${words.unit} ${words.perRow}, with ${formatShare(confidence)} intervals`,
    [
      figure(
        minus,
        '',
        chartOf({ title: `difference, ${words.unit}`, hasZeroLine: true }, lossDifference),
      ),
      figure(
        words.lossTitle,
        '',
        chartOf(
          { title: `${words.loss}, ${words.unit} ${words.perRow}` },
          (bucket, run) => bucket.runs[run]?.metrics.loglossInterval,
        ),
      ),
      tableBlock('Differences by size', table),
    ],
  );
}

/** Sentences about the loss on all adgroups and about buckets that disagree, and notes. */
export function comparisonConclusions(report: ComparisonReport): Block[] {
  const words = wordsOf(report);
  const [all, ...buckets] = report.slices;
  const [first, ...others] = report.runs;
  if (all === undefined || first === undefined) return [];
  const sentences = others.map(({ label }, index) => {
    const verdict = lossVerdict(all, index + 1);
    const interval = lossDifference(all, index + 1);
    const word = verdict === 'undecided' ? 'neither better nor worse' : verdict;
    const contrary = buckets
      .map((bucket) => ({ name: bucket.name, own: lossVerdict(bucket, index + 1) }))
      .filter(({ own }) => own !== 'undecided' && own !== verdict)
      .map(({ name, own }) => `; ${own} with ${name} support rows`);
    const text =
      `${label} is ${word} than ${first.label}: difference in ${words.loss} ` +
      `${interval === null ? 'not defined' : signedInterval(interval)} ${words.perRow}` +
      (verdict === 'undecided' && interval !== null ? ` (${whyUndecided(interval)})` : '') +
      `${contrary.join('')}.`;
    return textBlock(text, verdict);
  });
  return [...sentences, ...comparisonNotes(report).map((note) => textBlock(note, 'undecided'))];
}

/** Notes on runs that were evaluated in different ways. */
export function comparisonNotes({ runs, slices }: ComparisonReport): string[] {
  const [first, ...others] = runs;
  if (first === undefined) return [];
  const count = slices[0]?.adgroupCount ?? 0;
  const stores = new Set(runs.map(({ storeDigest }) => storeDigest)).size;
  return [
    ...(stores === 1
      ? []
      : [
          'The runs were trained on different task stores; their test rows, clicks and impressions are the same.',
        ]),
    // With another support set arms adapt differently, so not the models alone differ.
    ...others
      .filter(({ otherSupportAdgroupCount }) => otherSupportAdgroupCount > 0)
      .map(
        ({ label, otherSupportAdgroupCount }) =>
          `${formatCount(otherSupportAdgroupCount)} of ${formatCount(count)} adgroups have other ` +
          `support rows in ${label} than in ${first.label}, whose numbers of rows decide the size buckets.`,
      ),
    ...others
      .filter(
        ({ ndcgAt }) =>
          first.ndcgAt !== undefined && ndcgAt !== undefined && ndcgAt !== first.ndcgAt,
      )
      .map(
        ({ label, ndcgAt }) =>
          `${label} was evaluated with nDCG@${ndcgAt ?? ''}; here it has nDCG@${first.ndcgAt ?? ''}, as ${first.label}.`,
      ),
  ];
}
