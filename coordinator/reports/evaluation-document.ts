/** The evaluation of a run as a document. */

import { at } from '../../shared/base/arrays.js';
import type { ArmName } from '../../shared/config/arms.js';
import { counted } from '../../shared/names/counted.js';
import type {
  ArmResult,
  BlendChoice,
  BlockChoice,
  EvaluationReport,
  Interval,
  ProtocolResult,
  Selection,
  Slice,
  ValidationSummary,
} from '../scoring/evaluation-report.js';
import { STANDARD_ERRORS_APART } from '../scoring/validated-losses.js';
import {
  code,
  columnsOf,
  factsBlock,
  fieldsBlock,
  figure,
  leftColumn,
  section,
  small,
  tableBlock,
  textBlock,
  type Block,
  type Cell,
  type Chart,
  type ChartPoint,
  type Document,
  type Fact,
  type Piece,
  type Section,
  type Series,
  type Table,
  type Text,
} from './document/document.js';
import { formatCount, formatNumber, formatShare, formatSigned } from './document/format.js';
import { metricTable } from './metric-table.js';
import {
  bestArmOf,
  comparedPairs,
  describeCell,
  intervalCell,
  signedInterval,
  verdictSentences,
  wordsOf,
  type LabelWords,
} from './verdicts.js';

export function evaluationDocument(report: EvaluationReport): Document {
  const { run, selection, validation, protocols = [] } = report;
  const all = allOf(report);
  const words = wordsOf(report);
  const segment = report.label?.segment ?? null;
  const buckets = report.slices.slice(1);
  const { blocks, blend } = selection;
  return {
    title: `Evaluation of ${run.run}${segment === null ? '' : `, segment ${segment}`}`,
    subtitle: `${run.method}, ${run.model}, seed ${run.seed}`,
    data: report,
    blocks: [
      factsBlock(...rowFacts(all, words), [
        formatCount(report.counts.validationTasks),
        'adgroups to choose settings on',
      ]),
      section('In short', '', conclusions(report), 'page'),
      section('All test adgroups', metricsNote(all), [
        tableBlock('All test adgroups', metricsTable(all)),
      ]),
      section(
        'Paired differences',
        `${words.loss} of the arm minus that of the reference, ${words.unit}, with ${formatShare(report.confidence)} intervals from ` +
          `${formatCount(report.bootstrapSamples)} bootstrap draws of whole adgroups`,
        [tableBlock('Paired differences', differencesTable(all, words))],
      ),
      ...(buckets.length === 0 ? [] : [bucketsSection(report, buckets, words)]),
      ...protocols.map((protocol) => protocolSection(protocol, report, words)),
      section(
        'Calibration',
        `Impressions sorted by prediction into ${report.calibrationBins} bins of equal size. On the dotted line, prediction and observed ${words.rate} agree.`,
        [calibrationFigure(drawnCurves(report), words.rate)],
        'page',
      ),
      ...distributionsSection(report, words),
      ...(validation === undefined ? [] : [validationSection(validation, words)]),
      ...settingsSection(report, words),
      ...(blocks === undefined ? [] : [blocksSection(blocks, words)]),
      ...(blend === undefined ? [] : [blendSection(blend)]),
      section('The run', '', [fieldsBlock(runFields(report, words))], 'page'),
      section('', '', conclusions(report), 'terminal'),
    ],
  };
}

function allOf({ slices }: EvaluationReport): Slice {
  return at(slices, 0);
}

/** The size of what was evaluated. */
export function rowFacts(
  slice: Pick<Slice, 'adgroupCount' | 'queryRowCount' | 'impressions' | 'clicks'>,
  words: LabelWords,
): Fact[] {
  return [
    [formatCount(slice.adgroupCount), 'held-out adgroups'],
    [formatCount(slice.queryRowCount), 'query rows'],
    [formatCount(slice.impressions), 'impressions'],
    [words.describeRate(slice.clicks / slice.impressions), words.rate],
  ];
}

function conclusions(report: EvaluationReport): Block[] {
  return [
    ...verdictSentences(report).map(({ text, verdict }) => textBlock(text, verdict)),
    ...report.armsLeftOut.map(({ arm, reason }) =>
      textBlock(`${arm} was left out: ${reason}.`, 'undecided'),
    ),
  ];
}

function onPage(text: string): Piece {
  return { text, on: 'page' };
}

function metricsNote({ arms: [first] }: Slice): Text {
  const { values, gaucAdgroupsLeftOutCount: leftOut = 0 } = first?.metrics ?? {};
  const note =
    leftOut === 0 ? '' : `; adgroups with one class, not in GAUC: ${formatCount(leftOut)}`;
  const definitions =
    values === undefined
      ? 'Logloss per impression and as a mean over adgroups; NE is logloss over the entropy of the click rate; GAUC is the AUC ' +
        'within adgroups, weighted by impressions; pred/act is predicted over actual clicks; ECE the mean distance of prediction and click rate. '
      : 'Squared error per row and as a mean over adgroups, in squares of the unit of the values; R2 is the share of their variance that is explained; ' +
        `pred/act is the sum of predictions over that of values; nDCG@${values.ndcgAt} ranks the rows of each adgroup, with gain 2^value - 1. `;
  return [
    onPage(definitions),
    { text: '* best of its column, without the oracle', on: 'terminal' },
    onPage('Bold: best of its column, without the oracle'),
    note,
  ];
}

function armColor(arm: ArmName): string {
  return `var(--arm-${arm})`;
}

function armCell(arm: ArmName): Piece {
  return { text: arm, dot: armColor(arm) };
}

function metricsTable({ arms }: Slice): Table {
  const { columns, rows } = metricTable(arms);
  const hasGap = arms.some(({ gapClosed }) => gapClosed !== null);
  return {
    columns: [
      leftColumn('arm'),
      ...columns,
      ...(hasGap ? [{ title: 'gap closed', unit: 'of oracle' }] : []),
    ],
    rows: arms.map(({ arm, gapClosed }, index) => [
      armCell(arm),
      ...at(rows, index),
      ...(hasGap ? [gapCell(gapClosed)] : []),
    ]),
  };
}

function gapCell(gapClosed: ArmResult['gapClosed']): Cell {
  if (gapClosed === null) return '-';
  const { value, low, high } = gapClosed;
  const bounds = { ...small(` [${formatShare(low)}, ${formatShare(high)}]`), on: 'page' as const };
  return [formatShare(value), bounds];
}

/** Each claiming arm against each reference. The verdict is that of the interval per impression. */
function differencesTable(all: Slice, { unit, perRow }: LabelWords): Table {
  return {
    columns: [
      leftColumn('arm - reference'),
      { title: perRow, unit },
      { title: '' },
      { title: 'per adgroup', unit, isOptional: true },
    ],
    rows: comparedPairs(all).map(({ arm, difference, verdict }) => [
      [armCell(arm), ` - ${difference.reference}`],
      intervalCell(difference.perImpression),
      { cell: verdict === 'undecided' ? 'not better' : verdict, emphasis: verdict },
      intervalCell(difference.perAdgroup),
    ]),
  };
}

/** The result of an arm in a slice, if it is there. */
function resultOf({ arms }: Slice, arm: ArmName): ArmResult | undefined {
  return arms.find((each) => each.arm === arm);
}

function armsOf([first]: readonly NamedSlice[]): ArmName[] {
  return first?.slice.arms.map(({ arm }) => arm) ?? [];
}

function lossInterval({ metrics }: ArmResult): Interval {
  return metrics.loglossInterval;
}

function fromGlobal({ arm, differences }: ArmResult): Interval | null {
  if (arm === 'constant' || arm === 'oracle') return null;
  return differences.find(({ reference }) => reference === 'global')?.perImpression ?? null;
}

/** A point for each category that has an interval. */
export function intervalPoints(intervals: readonly (Interval | null | undefined)[]): ChartPoint[] {
  return intervals.flatMap((interval, x) => {
    if (interval === null || interval === undefined) return [];
    const { value, low, high } = interval;
    return [{ x, y: value, low, high }];
  });
}

interface NamedSlice {
  readonly name: string;
  readonly slice: Slice;
  readonly adaptedOnRowCount?: number;
}

interface SlicesSection {
  readonly title: string;
  /** Names the slices. */
  readonly axis: string;
  readonly look: 'intervals' | 'bands';
  /** Only pages show it. */
  readonly note: string;
  readonly slices: readonly NamedSlice[];
  /** All slices together, in the table alone. */
  readonly together?: Slice | undefined;
}

/** The loss of every arm in each of several slices, and its difference from the arm global. */
function slicesSection(
  { title, axis, look, note, slices, together }: SlicesSection,
  { confidence }: EvaluationReport,
  words: LabelWords,
): Section {
  const arms = armsOf(slices);
  const seriesOf = (intervalOf: (result: ArmResult) => Interval | null): Series[] =>
    arms.flatMap((arm) => {
      const results = slices.map(({ slice }) => resultOf(slice, arm));
      const points = intervalPoints(results.map((each) => each && intervalOf(each)));
      const shape = arm === 'meta-chosen' ? { look: 'dashed' as const } : {};
      return points.length === 0 ? [] : [{ name: arm, color: armColor(arm), points, ...shape }];
    });
  const x = { title: axis, categories: slices.map(({ name }) => name) };
  const [losses, differences] = [seriesOf(lossInterval), seriesOf(fromGlobal)];
  const y = { title: `${words.loss}, ${words.unit} ${words.perRow}` };
  const minus = { title: `${words.loss} minus global, ${words.unit}`, hasZeroLine: true };
  return section(
    title,
    [
      `${words.loss}, ${words.unit} ${words.perRow}`,
      onPage(
        `, with ${words.second} in small print and ${formatShare(confidence)} intervals. ${note}`,
      ),
    ],
    [
      figure(words.lossTitle, '', { look, x, y, series: losses }),
      ...(differences.length === 0
        ? []
        : [figure('Difference from global', '', { look, x, y: minus, series: differences })]),
      tableBlock(title, slicesTable({ axis, slices, together })),
    ],
  );
}

function bucketsSection(
  report: EvaluationReport,
  buckets: readonly Slice[],
  words: LabelWords,
): Section {
  const slices = buckets.map((slice) => ({ name: slice.name, slice }));
  const [title, axis] = ['By size of the adgroup', 'support rows'];
  return slicesSection({ title, axis, look: 'intervals', note: '', slices }, report, words);
}

/** Heads the column of the points and stands below the charts. */
interface Wording {
  readonly title: string;
  readonly axis: string;
  readonly note: string;
}

export const PROTOCOL_WORDING: Readonly<Record<ProtocolResult['kind'], Wording>> = {
  shots: {
    title: 'By number of support rows',
    axis: 'support rows',
    note:
      'Every arm adapts on the first support rows of each test adgroup, as many as stated, with the chosen settings; ' +
      'the query rows are the same throughout. An adgroup with fewer rows adapts on all of them.',
  },
  phases: {
    title: 'Phase by phase',
    axis: 'phase',
    note:
      'Cold is before any adaptation. In each later phase every arm takes its inner steps on the next minibatch of ' +
      "each test adgroup's support rows, starting from the blocks of the phase before. The query rows are the same " +
      'throughout. Settings were chosen on validation adgroups after the last phase.',
  },
  periods: {
    title: 'Progressive validation',
    axis: 'period from',
    note:
      'The rows of the test adgroups are replayed in order of time. Each is predicted by arms that adapted on all ' +
      'rows of its adgroup from earlier periods, with the chosen settings. Shared parameters are those of the run.',
  },
};

function protocolSection(
  protocol: ProtocolResult,
  report: EvaluationReport,
  words: LabelWords,
): Section {
  const { points: slices, together } = protocol;
  return slicesSection(
    {
      ...PROTOCOL_WORDING[protocol.kind],
      ...{ look: 'bands', slices },
      together,
    },
    report,
    words,
  );
}

/** The loss of every arm in each slice; a page has a second metric in small print. */
export function slicesTable({
  axis,
  slices,
  together,
}: Pick<SlicesSection, 'axis' | 'slices' | 'together'>): Table {
  const arms = armsOf(slices);
  const rows = [
    ...slices,
    ...(together === undefined ? [] : [{ name: 'together', slice: together }]),
  ];
  return {
    columns: [
      leftColumn(axis),
      { title: 'adgroups' },
      { title: 'rows adapted on', on: 'page' },
      ...arms.map((arm) => ({ title: arm, marksBest: true })),
    ],
    rows: rows.map(({ name, slice, adaptedOnRowCount }: NamedSlice) => [
      ...[name, formatCount(slice.adgroupCount)],
      adaptedOnRowCount === undefined ? '' : formatCount(adaptedOnRowCount),
      ...arms.map((arm) => lossCell(slice, arm)),
    ]),
  };
}

function lossCell(slice: Slice, arm: ArmName): Cell {
  const metrics = resultOf(slice, arm)?.metrics;
  const second = formatNumber(metrics?.values?.mae ?? metrics?.auc, 4);
  const cell = [formatNumber(metrics?.logloss, 4), { ...small(` ${second}`), on: 'page' as const }];
  return bestArmOf(slice) === arm ? { cell, emphasis: 'best' } : cell;
}

interface Curve {
  readonly name: string;
  readonly color: string;
  readonly bins: EvaluationReport['calibrationCurves'][number]['bins'];
  readonly isDashed?: boolean;
}

function drawnCurves({ calibrationCurves }: EvaluationReport): Curve[] {
  return calibrationCurves
    .filter(({ arm }) => arm !== 'constant')
    .map(({ arm, bins }) => ({
      ...{ name: arm, color: armColor(arm), bins, isDashed: arm === 'oracle' },
    }));
}

/** Observed rate against prediction in bins of equal impressions; the diagonal is perfect. */
export function calibrationFigure(curves: readonly Curve[], rate: string): Block {
  const places = curves.flatMap(({ bins }) => bins.flatMap((b) => [b.meanPrediction, b.clickRate]));
  const max = 1.05 * Math.max(...places);
  // Values may be negative.
  const min = 1.05 * Math.min(0, ...places);
  const ends = [min, max].map((place) => ({ x: place, y: place }));
  const chart: Chart = {
    look: 'lines',
    x: { title: 'mean prediction of the bin', min, max },
    y: { title: `${rate} of the bin`, min, max },
    series: [
      { name: 'perfect', color: 'var(--ink-2)', points: ends, look: 'guide' },
      ...curves.map(({ name, color, bins, isDashed = false }) => ({
        ...{ name, color, look: isDashed ? ('dashed' as const) : ('dots' as const) },
        points: bins.map(({ meanPrediction, clickRate }) => ({ x: meanPrediction, y: clickRate })),
      })),
    ],
  };
  return figure('Calibration', '', chart);
}

interface Histogram {
  readonly name: string;
  readonly color: string;
  /** One more than the counts; the same for every histogram of a chart. */
  readonly edges: readonly number[];
  readonly adgroupCounts: readonly number[];
  readonly adgroupsBetter: number;
  readonly adgroupsWorse: number;
}

/** The distribution over adgroups of the difference from a reference. */
export function histogramsFigure(
  histograms: readonly Histogram[],
  reference: string,
  { loss, unit }: LabelWords,
): Block {
  const edges = histograms[0]?.edges ?? [-1, 1];
  const shares = histograms.map(
    ({ name, adgroupsBetter, adgroupsWorse }) =>
      `${name} ${formatCount(adgroupsBetter)} better, ${formatCount(adgroupsWorse)} worse`,
  );
  return figure(`Against ${reference}`, `Adgroups: ${shares.join('; ')}.`, {
    look: 'lines',
    x: {
      title: `${loss} of the adgroup minus ${reference}, ${unit} (left of 0: better)`,
      ...{ min: at(edges, 0), max: at(edges, edges.length - 1), hasZeroLine: true },
    },
    y: { title: 'adgroups' },
    series: histograms.map(({ name, color, adgroupCounts, edges: own }) => ({
      ...{ name, color, look: 'steps' as const },
      points: own.map((x, bin) => ({
        ...{ x, y: at(adgroupCounts, Math.min(bin, adgroupCounts.length - 1)) },
      })),
    })),
  });
}

function distributionsSection(report: EvaluationReport, words: LabelWords): Section[] {
  const { differenceHistograms } = report;
  const references = [...new Set(differenceHistograms.map(({ reference }) => reference))];
  const figures = references.map((reference) =>
    histogramsFigure(
      differenceHistograms
        .filter((histogram) => histogram.reference === reference)
        .map(({ arm, ...histogram }) => ({ name: arm, color: armColor(arm), ...histogram })),
      reference,
      words,
    ),
  );
  return figures.length === 0
    ? []
    : [section('Who gains and who loses', distributionNote(words), figures, 'page')];
}

export function distributionNote({ loss }: LabelWords): string {
  return `Adgroups by the difference of their own mean ${loss}. The outermost bins include all differences beyond them.`;
}

function validationSection(validation: ValidationSummary, words: LabelWords): Section {
  const { adgroupCount, drawCount } = validation;
  const draws = drawCount === 1 ? '' : `, ${drawCount} draws of support rows each`;
  const title = 'Chosen on validation alone';
  return section(
    title,
    `${words.loss} on the query rows of ${counted(adgroupCount, 'validation adgroup', formatCount(adgroupCount))}${draws}; test adgroups were not used`,
    [tableBlock(title, validationTable(validation, words)), textBlock(choiceSentence(validation))],
  );
}

function validationTable(
  { arms, chosen, foldCount }: ValidationSummary,
  { unit }: LabelWords,
): Table {
  return {
    columns: [
      leftColumn('arm'),
      { title: 'tuned on all', unit },
      { title: 'held out', unit: `${foldCount} folds`, marksBest: true },
      { title: 'minus chosen', unit: '± standard error' },
    ],
    rows: arms.map(({ arm, logloss, heldOutLogloss, fromChosen }) => {
      const text = formatNumber(heldOutLogloss, 5);
      return [
        armCell(arm),
        formatNumber(logloss, 5),
        arm === chosen ? { cell: text, emphasis: 'best' } : text,
        fromChosen === null
          ? '-'
          : `${formatSigned(fromChosen.value, 5)} ± ${fromChosen.standardError.toFixed(5)}`,
      ];
    }),
  };
}

/** `Validation alone would choose A; not told apart from it: B.` */
export function choiceSentence({ arms, chosen, adgroupCount }: ValidationSummary): string {
  if (chosen === null) return 'Every arm diverged on the validation adgroups.';
  if (adgroupCount === 1)
    return `Validation alone would choose ${chosen}; a single adgroup does not say how sure that is.`;
  const near = arms.filter(
    ({ arm, fromChosen }) =>
      arm !== 'oracle' &&
      fromChosen !== null &&
      Math.abs(fromChosen.value) <= STANDARD_ERRORS_APART * fromChosen.standardError,
  );
  const names = near.map(({ arm }) => arm).join(', ');
  const sure =
    names === ''
      ? `every other arm is worse by more than ${STANDARD_ERRORS_APART} standard errors`
      : `not told apart from it (within ${STANDARD_ERRORS_APART} standard errors): ${names}`;
  return `Validation alone would choose ${chosen}; ${sure}.`;
}

function settingsSection({ selection }: EvaluationReport, words: LabelWords): Section[] {
  const { chosen, cellsPerArm, criterion } = selection;
  if (chosen.length === 0) return [];
  const title = 'Chosen settings';
  const note = `${cellsPerArm} tried for each arm; chosen by ${criterion}`;
  const all = tableBlock('Settings that were tried', gridTable(chosen, words));
  return [
    section(title, note, [
      tableBlock(title, selectionTable(chosen)),
      { kind: 'details', summary: 'All settings that were tried', blocks: [all] },
    ]),
  ];
}

function selectionTable(chosen: readonly Selection[]): Table {
  return {
    columns: columnsOf('<', '<', '<'),
    rows: chosen.map((selection) => [
      armCell(selection.arm),
      describeCell(selection),
      selection.atGridEdge ? 'at the edge of its grid' : '',
    ]),
  };
}

function gridTable(chosen: readonly Selection[], { loss }: LabelWords): Table {
  return {
    columns: columnsOf('<arm', '<setting', `validation ${loss}`),
    rows: chosen.flatMap(({ arm, cell: best, grid }) =>
      grid.map(({ cell, validationLogloss }): Cell[] => {
        const text = validationLogloss?.toFixed(4) ?? 'diverged';
        const isBest = JSON.stringify(cell) === JSON.stringify(best);
        const shown: Cell = isBest ? { cell: text, emphasis: 'chosen' } : text;
        return [armCell(arm), describeCell({ cell }), shown];
      }),
    ),
  };
}

function blocksSection(
  { rule, buckets }: { readonly rule: string; readonly buckets: readonly BlockChoice[] },
  { unit }: LabelWords,
): Section {
  const title = 'Blocks that meta-chosen serves';
  return section(title, rule, [
    tableBlock(title, {
      columns: [
        ...columnsOf('<support rows', '<serves', 'validation adgroups'),
        { title: `adapted - unadapted, ${unit}` },
        { title: 'decided by' },
      ],
      rows: buckets.map(({ name, serves, adgroupCount, difference, decidedBy }) => [
        ...[name, serves, formatCount(adgroupCount)],
        difference === null ? '-' : signedInterval(difference),
        decidedBy === 'bucket' ? 'the bucket' : 'all adgroups',
      ]),
    }),
  ]);
}

function blendSection({ arms, buckets, shrinkage }: BlendChoice): Section {
  const title = 'Weights of the blend';
  const rule =
    shrinkage === null
      ? 'the best arm alone, which no blend beat on other folds'
      : `pulled towards the best arm like ${shrinkage} times the validation impressions`;
  const table: Table = {
    columns: [leftColumn('support rows'), ...arms.map((arm) => ({ title: arm }))],
    rows: buckets.map(({ name, weights }) => [name, ...weights.map((w) => formatNumber(w, 3))]),
  };
  return section(title, `fitted to the validation adgroups, ${rule}`, [
    tableBlock(title, table),
    textBlock('A bundle scores one block for each adgroup, so it cannot serve a blend.'),
  ]);
}

function runFields(
  { run, counts, ...report }: EvaluationReport,
  words: LabelWords,
): [string, Text][] {
  return [
    ['run', `${run.run}, seed ${run.seed}`],
    ['method', run.method],
    ['model', `${run.model}; personal blocks: ${run.personalBlocks.join(', ') || 'none'}`],
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
    ['task store', [code(run.storeAddress), ' ', code(run.storeDigest)]],
    ['config', code(run.configHash)],
    ['computed by', run.backends.join('; ')],
    [
      'finished',
      `${new Date(run.finishedEpochMs).toISOString()}, after ${formatNumber(run.durationMs / 1000, 1)} s`,
    ],
  ];
}
