/** The pages of the market: means, differences between arms, and what each size of advertiser wins. */

import type { Interval } from '../../../coordinator/scoring/evaluation-report.js';
import { circumstances, grouped, markdownTable, type BenchHeader } from '../bench-header.js';
import { intervalOver } from '../seed-intervals.js';
import { MEASURES, type Measure, type MeasuredValues } from './seed-measures.js';

export interface MarketRecord extends BenchHeader {
  readonly days: number;
  readonly auctionsPerDay: number;
  /** Means over seeds. */
  readonly advertisers: number;
  readonly newAdgroups: number;
  readonly goodAdgroups: number;
  readonly seeds: readonly {
    readonly seed: number;
    readonly arms: Readonly<Record<string, MeasuredValues>>;
  }[];
}

const NOTHING = '-';
/** The measures that policies of exploration are compared by. */
const POLICY_MEASURES = [
  'clicks',
  'smallClicks',
  'smallSpent',
  'goodFound',
  'hoursUntilFound',
  'exploredRegret',
].map(measureOf);

export function marketPage(record: MarketRecord): string {
  const arms = Object.keys(record.seeds[0]?.arms ?? {});
  const others = arms.filter((arm) => arm !== 'global');
  return page([
    '# Market',
    circumstances(record),
    `${record.seeds.length} seeds of ${record.days} days with ${grouped(record.auctionsPerDay)} auctions each; on average ${Math.round(record.advertisers)} advertisers, ${Math.round(record.newAdgroups)} new adgroups, ${Math.round(record.goodAdgroups)} of them good. The settings are those of test/bench/market/market-settings.ts.`,
    '## Means over seeds',
    table(
      ['mean over seeds', '', ...arms],
      MEASURES.map((measure) => [
        ...[measure.title, measure.unit],
        ...arms.map((arm) => meanText(record, measure, arm)),
      ]),
    ),
    '## Difference from global',
    'Paired by seed, with 95 % intervals over seeds. Counts as a part of those of global, shares in points.',
    table(
      ['measure', ...others],
      MEASURES.map((measure) => [
        measure.title,
        ...others.map((arm) => intervalText(measure, differenceOf(record, measure, arm, 'global'))),
      ]),
    ),
  ]);
}

export function policiesPage(record: MarketRecord): string {
  const policies = Object.keys(record.seeds[0]?.arms ?? {}).filter((arm) => arm !== 'qianmo');
  return page([
    '# Policies of exploration',
    circumstances(record),
    `The market is that above, with ${grouped(record.auctionsPerDay)} auctions a day over ${record.days} days. Every arm has the same auctions and models, and the settings of test/bench/market/market-settings.ts, but for what test/bench/market/market-bench.ts changes in it.`,
    'Differences from the same model without exploration (`qianmo`), paired by seed, with 95 % intervals over seeds.',
    table(
      ['policy', 'explored', ...POLICY_MEASURES.map(({ title }) => title)],
      policies.map((arm) => [
        ...[arm, meanText(record, measureOf('explored'), arm)],
        ...POLICY_MEASURES.map((measure) =>
          intervalText(measure, differenceOf(record, measure, arm, 'qianmo')),
        ),
      ]),
    ),
  ]);
}

function page(paragraphs: readonly string[]): string {
  return `${paragraphs.join('\n\n')}\n`;
}

function table(titles: readonly string[], rows: readonly (readonly string[])[]): string {
  return markdownTable(titles, rows).join('\n');
}

function measureOf(id: string): Measure {
  const found = MEASURES.find((each) => each.id === id);
  if (found === undefined) throw new Error(`there is no measure ${id}`);
  return found;
}

/** Null where a seed does not define it. */
function valuesOf({ seeds }: MarketRecord, { id }: Measure, arm: string): (number | null)[] {
  return seeds.map(({ arms }) => arms[arm]?.[id] ?? null);
}

function meanText(record: MarketRecord, measure: Measure, arm: string): string {
  const values = valuesOf(record, measure, arm).flatMap((value) => value ?? []);
  if (values.length === 0) return NOTHING;
  const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
  if (measure.style === 'count') return grouped(Math.round(mean));
  return measure.style === 'share' ? `${(100 * mean).toFixed(1)} %` : mean.toFixed(2);
}

/** An arm minus the reference, paired by seed; counts as a part of those of the reference. */
function differenceOf(
  record: MarketRecord,
  measure: Measure,
  arm: string,
  reference: string,
): Interval | null {
  const others = valuesOf(record, measure, reference);
  const differences = valuesOf(record, measure, arm).flatMap((value, place) => {
    const other = others[place] ?? null;
    if (value === null || other === null) return [];
    if (measure.style !== 'count') return [value - other];
    return other === 0 ? [] : [(value - other) / Math.abs(other)];
  });
  return intervalOver(differences);
}

function intervalText({ style }: Measure, interval: Interval | null): string {
  if (interval === null) return NOTHING;
  const [value, low, high] = [interval.value, interval.low, interval.high].map((each) => {
    if (style === 'count') return signed(`${(100 * each).toFixed(1)} %`);
    return signed(style === 'share' ? `${(100 * each).toFixed(2)} pt` : each.toFixed(2));
  });
  return `${value} [${low}, ${high}]`;
}

function signed(text: string): string {
  return /^-|^0(\.0*)?( |$)/.test(text) ? text : `+${text}`;
}
