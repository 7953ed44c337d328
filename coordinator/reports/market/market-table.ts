/** The report of a market on a terminal. */

import { at } from '../../../shared/base/arrays.js';
import { MARKET_ARMS } from '../../market/arm-outcome.js';
import type { MarketReport } from '../../market/market-report.js';
import { MEASURES, type Measure } from '../../market/seed-measures.js';
import type { Interval } from '../../scoring/evaluation-report.js';
import { textTable, type Table, type TableCell } from '../table.js';
import { formatCount, formatNumber, wrap } from '../text-format.js';
import { counted } from '../../../shared/names/counted.js';

const NOTHING = '-';

type Measured = MarketReport['measures'][number]['arms'][number];

export function marketTable(report: MarketReport, outputColumns: number): string {
  return [
    headline(report),
    textTable(meansTable(report)),
    'Difference from global, paired by seed, with 95 % intervals over seeds',
    textTable(differencesTable(report)),
    ...report.bar.map((item) => wrap(barSentence(item), outputColumns)),
  ].join('\n\n');
}

export function headline({
  market,
  seeds,
  days,
  auctionsPerDay,
  setting,
  ...counts
}: MarketReport): string {
  const mean = (interval: Interval | null): string =>
    interval === null ? NOTHING : formatCount(interval.value);
  return (
    `Market ${market}: ${counted(seeds.length, 'seed')} of ${counted(days, 'day')} with ${formatCount(auctionsPerDay)} auctions each, ` +
    `${setting} world; on average ${mean(counts.advertisers)} advertisers, ${mean(counts.newAdgroups)} new adgroups, ` +
    `${mean(counts.goodAdgroups)} of them good`
  );
}

/** The mean of each measure under each arm. */
export function meansTable({ measures }: MarketReport): Table {
  return {
    columns: [
      { title: 'mean over seeds', alignment: 'left' },
      { title: '', alignment: 'left' },
      ...MARKET_ARMS.map((arm) => ({ title: arm })),
    ],
    rows: measures.map(({ id, title, arms }) => {
      const { unit, style } = measureNamed(id);
      return [title, unit, ...arms.map(({ mean }) => written(mean?.value ?? null, style))];
    }),
  };
}

/** Each arm minus global. */
export function differencesTable({ measures }: MarketReport): Table {
  const arms = MARKET_ARMS.filter((arm) => arm !== 'global');
  return {
    columns: [{ title: 'measure', alignment: 'left' }, ...arms.map((title) => ({ title }))],
    rows: measures.map(({ id, title, arms: measured }) => [
      title,
      ...arms.map((arm) => differenceCell(measureNamed(id), armNamed(measured, arm))),
    ]),
  };
}

function armNamed(measured: readonly Measured[], arm: Measured['arm']): Measured {
  return at(
    measured,
    measured.findIndex((each) => each.arm === arm),
  );
}

function measureNamed(id: string): Measure {
  return at(
    MEASURES,
    MEASURES.findIndex((each) => each.id === id),
  );
}

function differenceCell(measure: Measure, measured: Measured): TableCell {
  const { interval, write } = comparedBy(measure, measured);
  if (interval === null) return NOTHING;
  const { value, low, high } = interval;
  const bounds = `[${write(low)}, ${write(high)}]`;
  const emphasis = emphasisOf(measure, interval);
  return {
    text: `${write(value)} ${bounds}`,
    page: `${write(value)}<br><small>${bounds}</small>`,
    ...(emphasis === null ? {} : { emphasis }),
  };
}

function emphasisOf({ better }: Measure, { low, high }: Interval): 'better' | 'worse' | null {
  if (better === null || (low <= 0 && high >= 0)) return null;
  return (better === 'higher') === low > 0 ? 'better' : 'worse';
}

interface Compared {
  readonly interval: Interval | null;
  readonly write: (value: number) => string;
}

/** Counts as a part of global's; shares in points of a hundred; other numbers as they are. */
function comparedBy({ style }: Pick<Measure, 'style'>, measured: Measured): Compared {
  const signed = (text: string): string => (/^-|^0(\.0*)?( |$)/.test(text) ? text : `+${text}`);
  if (style === 'count')
    return {
      interval: measured.relative,
      write: (value) => signed(`${(100 * value).toFixed(1)} %`),
    };
  if (style === 'share')
    return {
      interval: measured.difference,
      write: (value) => signed(`${(100 * value).toFixed(2)} pt`),
    };
  return { interval: measured.difference, write: (value) => signed(value.toFixed(2)) };
}

function written(value: number | null, style: Measure['style']): string {
  if (value === null) return NOTHING;
  if (style === 'count') return formatCount(value);
  return style === 'share' ? `${(100 * value).toFixed(1)} %` : formatNumber(value, 2);
}

/** What is claimed of exploring qianmo, whether it holds, and why where it does not. */
export function barSentence({
  claim,
  measure,
  holds,
  difference,
  relative,
  why,
}: MarketReport['bar'][number]): string {
  const named = measureNamed(measure);
  const arm = 'qianmo-exploring';
  const { interval, write } = comparedBy(named, {
    arm,
    values: [],
    mean: null,
    difference,
    relative,
  });
  const found =
    interval === null
      ? NOTHING
      : `${write(interval.value)} [${write(interval.low)}, ${write(interval.high)}]`;
  const verdict = holds ? 'Holds' : 'Does not hold';
  return `${verdict}: qianmo with exploration against global, ${claim}: ${named.title} ${found}.${why === null ? '' : ` ${why}`}`;
}
