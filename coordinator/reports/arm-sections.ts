/**
 * Arms side by side: words for their losses, what intervals allow to say and no more, and the tables and figures that an
 * evaluation and a comparison have in common.
 */

import { at } from '../../shared/base/arrays.js';
import { adaptationWordsOf } from '../../shared/methods/methods.js';
import { counted } from '../../shared/names/counted.js';
import type {
  ArmResult,
  CalibrationCurve,
  EvaluationReport,
  Interval,
  Metrics,
  Selection,
  Slice,
} from '../scoring/evaluation-report.js';
import {
  figure,
  leftColumn,
  section,
  small,
  tableBlock,
  type Block,
  type Cell,
  type Chart,
  type ChartPoint,
  type Fact,
  type Piece,
  type Section,
  type Series,
  type Table,
} from './document/document.js';
import { formatCount, formatNumber, formatShare, formatSigned } from './document/format.js';

export interface LabelWords {
  readonly loss: string;
  readonly lossTitle: string;
  readonly unit: string;
  /** The unit that a loss is averaged over. */
  readonly perRow: string;
  readonly rate: string;
  describeRate(rate: number): string;
}

const OF_CLICKS: LabelWords = {
  loss: 'logloss',
  lossTitle: 'Logloss',
  unit: 'nats',
  perRow: 'per impression',
  rate: 'click rate',
  describeRate: formatShare,
};

const OF_VALUES: LabelWords = {
  loss: 'squared error',
  lossTitle: 'Squared error',
  unit: 'squares',
  perRow: 'per row',
  rate: 'mean value',
  describeRate: (rate) => String(Number(rate.toPrecision(4))),
};

export function wordsOf({ label }: Pick<EvaluationReport, 'label'>): LabelWords {
  return label?.loss === 'squared' ? OF_VALUES : OF_CLICKS;
}

/** How arms are shown, by their names. */
export interface ArmLook {
  readonly colorOf: (arm: string) => string;
  readonly nameOf: (arm: string) => string;
  readonly hrefOf?: (arm: string) => string | null;
}

export function armCell(arm: string, { colorOf, nameOf, hrefOf }: ArmLook): Piece {
  const href = hrefOf?.(arm) ?? null;
  return { text: nameOf(arm), dot: colorOf(arm), ...(href === null ? {} : { href }) };
}

/** The oracle of an evaluation, or a compared run that is one. */
function isOracle(arm: string): boolean {
  return /(^|:)oracle( #\d+)?$/.test(arm);
}

/** The size of what was evaluated. */
export function rowFacts(slice: Slice, words: LabelWords): Fact[] {
  return [
    [formatCount(slice.adgroupCount), 'held-out adgroups'],
    [formatCount(slice.queryRowCount), 'query rows'],
    [formatCount(slice.impressions), 'impressions'],
    [words.describeRate(slice.clicks / slice.impressions), words.rate],
  ];
}

type Verdict = 'better' | 'worse' | 'undecided';

interface ComparedPair {
  readonly arm: string;
  readonly difference: ArmResult['differences'][number];
  /** The verdict on the difference per impression: better if the whole interval is below 0. */
  readonly verdict: Verdict;
}

/** Every arm against each of its references. */
export function comparedPairs({ arms }: Slice): ComparedPair[] {
  return arms.flatMap(({ arm, differences }) =>
    differences.map((difference) => ({
      ...{ arm, difference },
      verdict: verdictOf(difference.perImpression),
    })),
  );
}

function verdictOf({ low, high }: Interval): Verdict {
  // All draws of a single adgroup, or of adgroups with equal differences, are alike.
  if (low === high) return 'undecided';
  if (high < 0) return 'better';
  return low > 0 ? 'worse' : 'undecided';
}

export function verdictSentence(
  { arm, difference, verdict }: ComparedPair,
  { loss, perRow }: LabelWords,
  { nameOf }: Pick<ArmLook, 'nameOf'>,
): string {
  const { reference, perImpression, perAdgroup } = difference;
  const perAdgroupVerdict = verdictOf(perAdgroup);
  const addition =
    perAdgroupVerdict === verdict
      ? `per adgroup ${signedInterval(perAdgroup)}`
      : `per adgroup it is ${wordOf(perAdgroupVerdict)}: ${signedInterval(perAdgroup)}`;
  const { low, high } = perImpression;
  const why = low <= 0 && high >= 0 ? 'the interval holds 0' : 'the interval has no width';
  return (
    `${nameOf(arm)} is ${wordOf(verdict)} than ${nameOf(reference)}: difference in ${loss} ` +
    `${signedInterval(perImpression)} ${perRow}${verdict === 'undecided' ? ` (${why})` : ''}; ${addition}.`
  );
}

function wordOf(verdict: Verdict): string {
  return verdict === 'undecided' ? 'not better' : verdict;
}

function signedInterval({ value, low, high }: Interval): string {
  return `${formatSigned(value)} [${formatSigned(low)}, ${formatSigned(high)}]`;
}

/** On a page the bounds are in small print. */
function intervalCell({ value, low, high }: Interval): readonly (string | Piece)[] {
  return [`${formatSigned(value)} `, small(`[${formatSigned(low)}, ${formatSigned(high)}]`)];
}

/**
 * `inner rate 0.1, 5 inner steps`, or `shift ~ N(0, 0.45^2)`.
 *
 * @param method the kind of the run's method; null for an arm of the global model, which takes gradient steps
 */
export function describeCell({ cell }: Pick<Selection, 'cell'>, method: string | null): string {
  if (cell.kind === 'shift-prior') return `shift ~ N(${cell.mean}, ${cell.deviation}^2)`;
  const { innerRate, innerSteps } = cell;
  if (innerSteps === 0) return 'without adaptation';
  const { rate, step } = adaptationWordsOf(method);
  return `${rate} ${innerRate}, ${counted(innerSteps, step)}`;
}

/** The verdict is that of the interval per impression. */
export function differencesTable(
  pairs: readonly ComparedPair[],
  { unit, perRow }: LabelWords,
  look: ArmLook,
): Table {
  return {
    columns: [
      leftColumn('arm - reference'),
      { title: perRow, unit },
      { title: '' },
      { title: 'per adgroup', unit, isOptional: true },
    ],
    rows: pairs.map(({ arm, difference, verdict }) => [
      [armCell(arm, look), ` - ${look.nameOf(difference.reference)}`],
      intervalCell(difference.perImpression),
      { cell: wordOf(verdict), emphasis: verdict },
      intervalCell(difference.perAdgroup),
    ]),
  };
}

interface MetricColumn {
  readonly title: string;
  readonly unit: string;
  readonly digits: number;
  readonly value: (metrics: Metrics) => number | null;
  /** How far a value is from the best possible one; smaller is better. */
  readonly badness: (value: number) => number;
}

const SMALLER = (value: number): number => value;
const LARGER = (value: number): number => -value;
const NEARER_TO_1 = (value: number): number => (value > 0 ? Math.abs(Math.log(value)) : Infinity);

/** The metrics in the order in which reports show them. */
function metricColumns(ndcgAt: number | undefined): readonly MetricColumn[] {
  if (ndcgAt === undefined)
    return [
      column(['logloss', 'nats'], 4, SMALLER, (m) => m.logloss),
      column(['by adgroup', 'nats'], 4, SMALLER, (m) => m.loglossPerAdgroup.value),
      column(['NE', 'ratio'], 3, SMALLER, (m) => m.normalisedEntropy),
      column(['AUC', ''], 4, LARGER, (m) => m.auc),
      column(['GAUC', ''], 4, LARGER, (m) => m.gauc),
      column(['pred/act', 'clicks'], 3, NEARER_TO_1, (m) => m.calibration),
      column(['ECE', ''], 4, SMALLER, (m) => m.ece),
    ];
  return [
    column(['MSE', 'squares'], 4, SMALLER, (m) => m.logloss),
    column(['by adgroup', 'squares'], 4, SMALLER, (m) => m.loglossPerAdgroup.value),
    column(['RMSE', ''], 4, SMALLER, (m) => m.values?.rmse ?? null),
    column(['MAE', ''], 4, SMALLER, (m) => m.values?.mae ?? null),
    column(['R2', ''], 4, LARGER, (m) => m.values?.rSquared ?? null),
    column(['pred/act', 'sums'], 3, NEARER_TO_1, (m) => m.calibration),
    column([`nDCG@${ndcgAt}`, 'by adgroup'], 4, LARGER, (m) => m.values?.ndcg ?? null),
  ];
}

function column(
  [title, unit]: readonly [title: string, unit: string],
  digits: number,
  badness: MetricColumn['badness'],
  value: MetricColumn['value'],
): MetricColumn {
  return { title, unit, digits, badness, value };
}

/** Every metric of every arm in each of the slices, with the best values marked. */
export function metricsTable(slices: readonly Slice[], look: ArmLook): Table {
  const first = at(slices, 0).arms;
  const columns = metricColumns(first[0]?.metrics.values?.ndcgAt);
  const hasGap = first.some(({ gapClosed }) => gapClosed !== null);
  return {
    columns: [
      ...(slices.length > 1 ? [leftColumn('support rows')] : []),
      leftColumn('arm'),
      ...columns.map(({ title, unit }) => ({ title, unit, marksBest: true })),
      ...(hasGap ? [{ title: 'gap closed', unit: 'of oracle' }] : []),
    ],
    rows: slices.flatMap(({ name, adgroupCount, arms }) => {
      const bests = columns.map((each) => bestText(each, arms));
      const adgroups = counted(adgroupCount, 'adgroup', formatCount(adgroupCount));
      return arms.map(({ arm, metrics, gapClosed }, place) => [
        ...(slices.length > 1 ? [place === 0 ? `${name} (${adgroups})` : ''] : []),
        armCell(arm, look),
        ...columns.map(({ value, digits }, index): Cell => {
          const cell = formatNumber(value(metrics), digits);
          const isBest = !isOracle(arm) && cell === bests[index];
          return isBest ? { cell, emphasis: 'best' } : cell;
        }),
        ...(hasGap ? [gapClosed === null ? '-' : formatShare(gapClosed.value)] : []),
      ]);
    }),
  };
}

/** The best value as it is shown, without the oracle's: values that look equal are marked alike. */
function bestText(
  { value, digits, badness }: MetricColumn,
  arms: readonly ArmResult[],
): string | undefined {
  const texts = arms.flatMap(({ arm, metrics }) => {
    const found = value(metrics);
    return isOracle(arm) || found === null ? [] : [found.toFixed(digits)];
  });
  const ranks = texts.map((text) => badness(Number(text)));
  return texts[ranks.indexOf(Math.min(...ranks))];
}

interface NamedSlice {
  readonly name: string;
  readonly slice: Slice;
}

interface SlicesSection {
  readonly title: string;
  readonly note: string;
  readonly slices: readonly NamedSlice[];
  readonly chart: 'intervals' | 'bands';
  /** The arm that differences are drawn from. */
  readonly reference: string;
}

/** The loss of every arm in each of several slices by support rows, and its difference from the reference; none without slices. */
export function slicesSections(
  { title, note, slices, chart, reference }: SlicesSection,
  words: LabelWords,
  look: ArmLook,
): Section[] {
  const [first] = slices;
  if (first === undefined) return [];
  const arms = first.slice.arms.map(({ arm }) => arm);
  const resultOf = ({ slice }: NamedSlice, arm: string): ArmResult | undefined =>
    slice.arms.find((each) => each.arm === arm);
  const seriesOf = (intervalOf: (result: ArmResult) => Interval | undefined): Series[] =>
    arms.flatMap((arm) => {
      const points = slices.flatMap((each, x): ChartPoint[] => {
        const result = resultOf(each, arm);
        const interval = result && intervalOf(result);
        if (interval === undefined) return [];
        return [{ x, y: interval.value, low: interval.low, high: interval.high }];
      });
      return points.length === 0
        ? []
        : [{ name: look.nameOf(arm), color: look.colorOf(arm), points }];
    });
  const categories = slices.map(({ name, slice: { adgroupCount } }) => {
    return `${name}\n${counted(adgroupCount, 'adgroup', formatCount(adgroupCount))}`;
  });
  const drawn = { look: chart, x: { title: 'support rows', categories } };
  const losses = seriesOf(({ metrics }) => metrics.loglossInterval);
  const differences = seriesOf(
    ({ differences: own }) => own.find((each) => each.reference === reference)?.perImpression,
  ).filter(({ name }) => name !== 'constant' && !isOracle(name));
  const y = { title: `${words.loss}, ${words.unit} ${words.perRow}` };
  const minus = {
    title: `${words.loss} minus ${look.nameOf(reference)}, ${words.unit}`,
    hasZeroLine: true,
  };
  const table: Table = {
    columns: [
      ...[leftColumn('support rows'), { title: 'adgroups' }],
      ...arms.map((arm) => ({ title: look.nameOf(arm), marksBest: true })),
    ],
    rows: slices.map((each) => {
      const texts = arms.map((arm) => formatNumber(resultOf(each, arm)?.metrics.logloss, 4));
      const best = Math.min(...texts.filter((_, place) => !isOracle(at(arms, place))).map(Number));
      return [
        ...[each.name, formatCount(each.slice.adgroupCount)],
        ...texts.map((cell, place): Cell => {
          const isBest = Number(cell) === best && !isOracle(at(arms, place));
          return isBest ? { cell, emphasis: 'best' } : cell;
        }),
      ];
    }),
  };
  const whole = section(title, `${words.loss}, ${words.unit} ${words.perRow}${note}`, [
    figure(words.lossTitle, '', { ...drawn, y, series: losses }),
    ...(differences.length === 0
      ? []
      : [
          figure(`Difference from ${look.nameOf(reference)}`, '', {
            ...drawn,
            y: minus,
            series: differences,
          }),
        ]),
    tableBlock(title, table),
  ]);
  return [whole];
}

/** Observed rate against prediction in bins of equal impressions; the diagonal is perfect. */
export function calibrationSection(
  {
    calibrationCurves,
    calibrationBins,
  }: { readonly calibrationCurves: readonly CalibrationCurve[]; readonly calibrationBins: number },
  { rate }: LabelWords,
  { colorOf, nameOf }: ArmLook,
): Block {
  const curves = calibrationCurves.filter(({ arm }) => arm !== 'constant');
  const places = curves.flatMap(({ bins }) => bins.flatMap((b) => [b.meanPrediction, b.clickRate]));
  const max = 1.05 * Math.max(...places);
  // Values may be negative.
  const min = 1.05 * Math.min(0, ...places);
  const chart: Chart = {
    look: 'lines',
    x: { title: 'mean prediction of the bin', min, max },
    y: { title: `${rate} of the bin`, min, max },
    series: [
      {
        ...{ name: 'perfect', color: 'var(--ink-2)', look: 'guide' },
        points: [min, max].map((place) => ({ x: place, y: place })),
      },
      ...curves.map(({ arm, bins }) => ({
        ...{ name: nameOf(arm), color: colorOf(arm) },
        look: isOracle(arm) ? ('dashed' as const) : ('dots' as const),
        points: bins.map(({ meanPrediction, clickRate }) => ({ x: meanPrediction, y: clickRate })),
      })),
    ],
  };
  return section(
    'Calibration',
    `Impressions sorted by prediction into ${calibrationBins} bins of equal size. On the dotted line, prediction and observed ${rate} agree.`,
    [figure('Calibration', '', chart)],
    'page',
  );
}
