/** The report of a market as a document. */

import { at } from '../../shared/base/arrays.js';
import { counted } from '../../shared/names/counted.js';
import { MARKET_ARMS, type MarketArm } from '../market/arm-outcome.js';
import type { ClassFacts } from '../market/class-report.js';
import { smallAdvertisers } from '../market/market-bar.js';
import type { MarketReport } from '../market/market-report.js';
import { MEASURES, type Measure } from '../market/seed-measures.js';
import type { Interval } from '../scoring/evaluation-report.js';
import {
  code,
  columnsOf,
  factsBlock,
  fieldsBlock,
  figure,
  section,
  small,
  tableBlock,
  textBlock,
  type Block,
  type Cell,
  type Chart,
  type Document,
  type Table,
} from './document/document.js';
import { formatCount, formatNumber } from './document/format.js';
import { intervalPoints } from './evaluation-document.js';

const NOTHING = '-';

const COLORS: Readonly<Record<MarketArm, string>> = {
  global: 'var(--arm-global)',
  qianmo: 'var(--arm-finetuned)',
  'qianmo-exploring': 'var(--arm-meta-adapted)',
  oracle: 'var(--arm-oracle)',
};

type Measured = MarketReport['measures'][number]['arms'][number];

export function marketDocument(report: MarketReport): Document {
  const { market, setting, seeds, days, auctionsPerDay, bar, classes } = report;
  const mean = (interval: Interval | null): string =>
    interval === null ? NOTHING : formatCount(interval.value);
  return {
    title: `Market ${market}`,
    subtitle: `${setting} synthetic world, means over ${counted(seeds.length, 'seed')} of ${counted(days, 'day')}`,
    data: report,
    blocks: [
      factsBlock(
        [formatCount(days * auctionsPerDay), 'auctions for each seed'],
        [mean(report.advertisers), 'advertisers'],
        [mean(report.newAdgroups), 'new adgroups'],
        [mean(report.goodAdgroups), 'good ones among them'],
      ),
      section(
        'In short',
        '',
        bar.map((item) => textBlock(barSentence(item), item.holds ? 'better' : 'worse')),
      ),
      section(
        'What the arms did',
        'every arm serves the same auctions, with the same draws behind clicks',
        [tableBlock('What the arms did', meansTable(report))],
      ),
      section(
        'Difference from global',
        'paired by seed, with 95 % intervals over seeds (Student); counts relative to global, shares in percentage points',
        [tableBlock('Difference from global', differencesTable(report))],
      ),
      section(
        'Budgets by size of the advertiser',
        'Small and large are the advertisers with least and most budget. Budget and matching traffic grow alike with size, so the market itself favors no size.',
        [figure('Spent budget', '', budgetChart(report))],
        'page',
      ),
      section(
        'Who wins what',
        CLASSES_LEGEND,
        [
          tableBlock('Who wins what', classesTable(report)),
          { kind: 'list', items: Object.values(smallAdvertisers(classes)) },
        ],
        'page',
      ),
      section(
        'Clicks by day',
        '',
        [figure('Clicks relative to global', '', dailyChart(report))],
        'page',
      ),
      section(
        'Good new adgroups',
        'An adgroup is found once it has won, as often as configured, an auction in which it was truly best, without exploration.',
        [figure('Share found since arrival', '', foundChart(report))],
        'page',
      ),
      section('The market', '', [marketFields(report)], 'page'),
    ],
  };
}

function marketFields({ seeds, scorer, configDigest }: MarketReport): Block {
  return fieldsBlock([
    ['seeds', seeds.join(', ')],
    ['scored by', scorer],
    ['config', code(configDigest)],
  ]);
}

/** The mean of each measure under each arm. */
export function meansTable({ measures }: MarketReport): Table {
  return {
    columns: columnsOf('<mean over seeds', '<', ...MARKET_ARMS),
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
    columns: columnsOf('<measure', ...arms),
    rows: measures.map(({ id, title, arms: measured }) => [
      title,
      ...arms.map((arm) => differenceCell(measureNamed(id), armNamed(measured, arm))),
    ]),
  };
}

function armNamed(measured: readonly Measured[], arm: MarketArm): Measured {
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

function differenceCell(measure: Measure, measured: Measured): Cell {
  const { interval, write } = comparedBy(measure, measured);
  if (interval === null) return NOTHING;
  const { value, low, high } = interval;
  const cell = [`${write(value)} `, small(`[${write(low)}, ${write(high)}]`)];
  if (measure.better === null || (low <= 0 && high >= 0)) return cell;
  return { cell, emphasis: (measure.better === 'higher') === low > 0 ? 'better' : 'worse' };
}

interface Compared {
  readonly interval: Interval | null;
  readonly write: (value: number) => string;
}

/** Counts relative to global; shares in percentage points; other numbers as they are. */
function comparedBy(
  { style }: Pick<Measure, 'style'>,
  { relative, difference }: Pick<Measured, 'relative' | 'difference'>,
): Compared {
  const signed = (text: string): string => (/^-|^0(\.0*)?( |$)/.test(text) ? text : `+${text}`);
  if (style === 'count')
    return { interval: relative, write: (value) => signed(`${(100 * value).toFixed(1)} %`) };
  if (style === 'share')
    return { interval: difference, write: (value) => signed(`${(100 * value).toFixed(2)} pt`) };
  return { interval: difference, write: (value) => signed(value.toFixed(2)) };
}

function written(value: number | null, style: Measure['style']): string {
  if (value === null) return NOTHING;
  if (style === 'count') return formatCount(value);
  return style === 'share' ? percent(value) : formatNumber(value, 2);
}

/** A claim about exploring qianmo, whether it holds, and the reason if it does not. */
export function barSentence(item: MarketReport['bar'][number]): string {
  const { claim, measure, holds, why } = item;
  const named = measureNamed(measure);
  const { interval, write } = comparedBy(named, item);
  const found =
    interval === null
      ? NOTHING
      : `${write(interval.value)} [${write(interval.low)}, ${write(interval.high)}]`;
  const verdict = holds ? 'Holds' : 'Does not hold';
  return `${verdict}: qianmo with exploration against global, ${claim}: ${named.title} ${found}.${why === null ? '' : ` ${why}`}`;
}

function budgetChart({ measures }: MarketReport): Chart {
  const classes = ['small', 'medium', 'large'];
  const meanOf = (arm: MarketArm, sizeClass: string): Interval | null | undefined =>
    measures.find(({ id }) => id === `${sizeClass}Spent`)?.arms.find((each) => each.arm === arm)
      ?.mean;
  return {
    look: 'intervals',
    x: { title: 'advertisers', categories: classes },
    y: { title: 'spent, relative to the budget' },
    series: MARKET_ARMS.map((arm) => ({
      ...{ name: arm, color: COLORS[arm] },
      points: intervalPoints(classes.map((sizeClass) => meanOf(arm, sizeClass))),
    })),
  };
}

function dailyChart({ dailyClicks, days }: MarketReport): Chart {
  const categories = Array.from({ length: days }, (_, day) => String(day + 1));
  return {
    look: 'bands',
    x: { title: 'day of the market', categories },
    y: { title: 'clicks compared with global', hasZeroLine: true },
    series: dailyClicks
      .filter(({ arm }) => arm !== 'oracle')
      .map(({ arm, byDay }) => ({ name: arm, color: COLORS[arm], points: intervalPoints(byDay) })),
  };
}

function foundChart({ foundWithin: { hours, arms } }: MarketReport): Chart {
  return {
    look: 'bands',
    x: { title: 'hours since the arrival', categories: hours.map(String) },
    y: { title: 'share found' },
    series: arms.map(({ arm, shares }) => ({
      ...{ name: arm, color: COLORS[arm], points: intervalPoints(shares) },
    })),
  };
}

/** In the order of the rows. */
const CLASS_FACTS: readonly [string, (facts: ClassFacts) => string][] = [
  ['rows in the log', ({ loggedRows }) => formatNumber(loggedRows, 0)],
  ['candidates', ({ candidateShare }) => percent(candidateShare)],
  ['truly best', ({ deservedShare }) => percent(deservedShare)],
  ['won of these', ({ wonOfDeserved }) => percent(wonOfDeserved)],
  ['impressions', ({ impressionShare }) => percent(impressionShare)],
  ['explored', ({ exploredShare }) => percent(exploredShare)],
  [
    'predicted / true, candidates',
    ({ candidateCalibration }) => formatNumber(candidateCalibration, 2),
  ],
  ['predicted / true, shown', ({ shownCalibration }) => formatNumber(shownCalibration, 2)],
  ['click rate', ({ clicksPerImpression }) => percent(clicksPerImpression)],
  ['price', ({ pricePerClick }) => formatNumber(pricePerClick, 2)],
  ['no budget', ({ exhaustedShare }) => percent(exhaustedShare)],
  ['paced bids', ({ pacedBids }) => percent(pacedBids)],
];

export const CLASSES_LEGEND =
  'Rows in the log: of an adgroup, before the market. Candidates, truly best and impressions are shares of all; ' +
  'won of these is the share of the auctions with their truly best candidate that they won, explored the share of their impressions that exploration chose. Price: of a click.';

export function classesTable({ classes: arms }: Pick<MarketReport, 'classes'>): Table {
  const sizes = arms[0]?.classes.map(({ sizeClass }) => sizeClass) ?? [];
  return {
    columns: columnsOf('<mean over seeds', '<advertisers', ...arms.map(({ arm }) => arm)),
    rows: CLASS_FACTS.flatMap(([title, write]) =>
      sizes.map((sizeClass) => [
        ...[title, sizeClass],
        ...arms.map(({ classes }) => {
          const facts = classes.find((each) => each.sizeClass === sizeClass);
          return facts === undefined ? NOTHING : write(facts);
        }),
      ]),
    ),
  };
}

function percent(share: number | null): string {
  return share === null ? NOTHING : `${(100 * share).toFixed(1)} %`;
}
