/** The measures of a market for one seed and arm, by which arms are compared. */

import { at } from '../../../shared/base/arrays.js';
import type { ArmOutcome } from './arm-outcome.js';
import { SIZE_CLASSES, type SizeClass } from './auction.js';
import type { MarketSettings } from './market-settings.js';

const SECONDS_PER_HOUR = 3600;

/** The outcomes of all arms with one seed. */
export interface SeedOutcome {
  readonly seed: number;
  readonly arms: Readonly<Record<string, ArmOutcome>>;
}

/** The new adgroups that the oracle shows often. */
export function goodAdgroupsOf(
  { arms: { oracle } }: SeedOutcome,
  { goodAdgroups }: Pick<MarketSettings, 'goodAdgroups'>,
): ReadonlySet<number> {
  const { oracleImpressions } = goodAdgroups;
  const good = oracle?.newAdgroups.filter(({ impressions }) => impressions >= oracleImpressions);
  return new Set(good?.map(({ adgroup }) => adgroup));
}

/** The value of each measure by its name; null where it is not defined. */
export type MeasuredValues = Readonly<Record<string, number | null>>;

/** The measures of every arm of a seed. */
export function measuredArmsOf(
  seed: SeedOutcome,
  settings: MarketSettings,
): Readonly<Record<string, MeasuredValues>> {
  const good = goodAdgroupsOf(seed, settings);
  const endSeconds = (settings.firstDay + settings.days) * 24 * SECONDS_PER_HOUR;
  return Object.fromEntries(
    Object.entries(seed.arms).map(([arm, outcome]) => {
      const values = MEASURES.map(({ id, of }) => [id, of({ outcome, good, endSeconds })]);
      return [arm, Object.fromEntries(values)];
    }),
  );
}

interface MeasuredArm {
  readonly outcome: ArmOutcome;
  readonly good: ReadonlySet<number>;
  /** The end of the market, in seconds since the start of the log. */
  readonly endSeconds: number;
}

export interface Measure {
  readonly id: string;
  readonly title: string;
  readonly unit: string;
  readonly style: 'count' | 'share' | 'number';
  /** Null where it is not defined. */
  readonly of: (measured: MeasuredArm) => number | null;
}

/** In the order in which they are shown. */
export const MEASURES: readonly Measure[] = (
  [
    ['clicks', 'clicks', '', 'count', ({ outcome }) => outcome.clicks],
    [
      ...(['expectedClicks', 'expected clicks', 'by true probability', 'count'] as const),
      ({ outcome }) => outcome.expectedClicks,
    ],
    ['revenue', 'revenue', 'median bids', 'count', ({ outcome }) => outcome.revenue],
    ['smallSpent', 'spent by small', 'of their budget', 'share', spentShare('small')],
    ['mediumSpent', 'spent by medium', 'of their budget', 'share', spentShare('medium')],
    ['largeSpent', 'spent by large', 'of their budget', 'share', spentShare('large')],
    ['smallClicks', 'clicks of small', '', 'count', clicksOf('small')],
    ['mediumClicks', 'clicks of medium', '', 'count', clicksOf('medium')],
    ['largeClicks', 'clicks of large', '', 'count', clicksOf('large')],
    [
      ...(['goodFound', 'good new found', 'of all good new', 'share'] as const),
      meanOverGood(({ found }) => (found === null ? 0 : 1)),
    ],
    [
      ...(['hoursUntilFound', 'time until found', 'hours, to the end at most', 'number'] as const),
      meanOverGood(
        ({ found, arrivedSeconds }, endSeconds) =>
          ((found?.seconds ?? endSeconds) - arrivedSeconds) / SECONDS_PER_HOUR,
      ),
    ],
    [
      'impressionsUntilFound',
      ...(['impressions until found', 'all it had if not found', 'number'] as const),
      meanOverGood(({ found, impressions }) => found?.impressions ?? impressions),
    ],
    [
      ...(['goodImpressions', 'impressions of good new', 'each', 'number'] as const),
      meanOverGood(({ impressions }) => impressions),
    ],
    [
      ...(['exposureGini', 'Gini of exposure', 'over adgroups', 'number'] as const),
      ({ outcome }) => outcome.exposureGini,
    ],
    [
      ...(['regret', 'regret', 'of the best value', 'share'] as const),
      ({ outcome }) => ratio(outcome.regret, outcome.value + outcome.regret),
    ],
    [
      ...(['explored', 'explored', 'of impressions', 'share'] as const),
      ({ outcome }) => ratio(outcome.explored, outcome.impressions),
    ],
    [
      ...(['exploredRegret', 'regret by exploration', 'of the best value', 'share'] as const),
      ({ outcome }) => ratio(outcome.exploredRegret, outcome.value + outcome.regret),
    ],
    [
      ...(['calibration', 'predicted / true', 'clicks of what was shown', 'number'] as const),
      ({ outcome }) => ratio(outcome.predictedClicks, outcome.expectedClicks),
    ],
  ] satisfies [string, string, string, Measure['style'], Measure['of']][]
).map(([id, title, unit, style, of]) => ({ id, title, unit, style, of }));

function ratio(part: number, whole: number): number | null {
  return whole === 0 ? null : part / whole;
}

function spentShare(sizeClass: SizeClass): Measure['of'] {
  return ({ outcome }) => {
    const { spent, budget } = at(outcome.classes, SIZE_CLASSES.indexOf(sizeClass));
    return ratio(spent, budget);
  };
}

function clicksOf(sizeClass: SizeClass): Measure['of'] {
  return ({ outcome }) => at(outcome.classes, SIZE_CLASSES.indexOf(sizeClass)).clicks;
}

/** The mean over good new adgroups. */
function meanOverGood(
  of: (adgroup: ArmOutcome['newAdgroups'][number], endSeconds: number) => number,
): Measure['of'] {
  return ({ outcome, good, endSeconds }) => {
    const chosen = outcome.newAdgroups.filter(({ adgroup }) => good.has(adgroup));
    return ratio(
      chosen.reduce((sum, each) => sum + of(each, endSeconds), 0),
      chosen.length,
    );
  };
}
