/** The measures of a market for one seed and arm, by which arms are compared. */

import { at } from '../../shared/base/arrays.js';
import type { MarketConfig } from '../../shared/config/market-config.js';
import type { ArmOutcome, ClassOutcome, MarketArm } from './arm-outcome.js';
import type { SizeClass } from './budgets.js';

const SECONDS_PER_HOUR = 3600;

/** The outcomes of all arms with one seed. */
export interface SeedOutcome {
  readonly seed: number;
  readonly arms: readonly ArmOutcome[];
}

export function outcomeOf({ seed, arms }: SeedOutcome, arm: MarketArm): ArmOutcome {
  const found = arms.find((each) => each.arm === arm);
  if (found === undefined) throw new Error(`seed ${seed} has no arm ${arm}`);
  return found;
}

/** The new adgroups that the oracle shows often. */
export function goodAdgroupsOf(
  seed: SeedOutcome,
  { oracleImpressions }: MarketConfig['goodAdgroups'],
): ReadonlySet<number> {
  const { newAdgroups } = outcomeOf(seed, 'oracle');
  const good = newAdgroups.filter(({ impressions }) => impressions >= oracleImpressions);
  return new Set(good.map(({ adgroup }) => adgroup));
}

export interface MeasuredArm {
  readonly outcome: ArmOutcome;
  readonly good: ReadonlySet<number>;
  /** The end of the market, in seconds since the start of the log. */
  readonly endSeconds: number;
}

export interface Measure {
  readonly id: string;
  readonly title: string;
  readonly unit: string;
  /** Which differences are good; null where neither is. */
  readonly better: 'higher' | 'lower' | null;
  /** How values are written. */
  readonly style: 'count' | 'share' | 'number';
  /** Null where it is not defined. */
  readonly of: (measured: MeasuredArm) => number | null;
}

/** In the order in which they are shown. */
export const MEASURES: readonly Measure[] = [
  measure('clicks', ['clicks', '', 'higher', 'count'], ({ outcome }) => outcome.clicks),
  measure(
    'expectedClicks',
    ['expected clicks', 'by true probability', 'higher', 'count'],
    ({ outcome }) => outcome.expectedClicks,
  ),
  measure(
    'revenue',
    ['revenue', 'median bids', 'higher', 'count'],
    ({ outcome }) => outcome.revenue,
  ),
  measure(
    'smallSpent',
    ['spent by small', 'of their budget', 'higher', 'share'],
    spentShare('small'),
  ),
  measure(
    'mediumSpent',
    ['spent by medium', 'of their budget', null, 'share'],
    spentShare('medium'),
  ),
  measure('largeSpent', ['spent by large', 'of their budget', null, 'share'], spentShare('large')),
  measure('smallClicks', ['clicks of small', '', 'higher', 'count'], clicksOf('small')),
  measure('mediumClicks', ['clicks of medium', '', null, 'count'], clicksOf('medium')),
  measure('largeClicks', ['clicks of large', '', null, 'count'], clicksOf('large')),
  measure('goodFound', ['good new found', 'of all good new', 'higher', 'share'], (measured) =>
    meanOver(measured, ({ found }) => (found === null ? 0 : 1)),
  ),
  measure(
    'hoursUntilFound',
    ['time until found', 'hours, to the end at most', 'lower', 'number'],
    (measured) =>
      meanOver(
        measured,
        ({ found, arrivedSeconds }) =>
          ((found?.seconds ?? measured.endSeconds) - arrivedSeconds) / SECONDS_PER_HOUR,
      ),
  ),
  measure(
    'impressionsUntilFound',
    ['impressions until found', 'all it had if not found', null, 'number'],
    (measured) => meanOver(measured, ({ found, impressions }) => found?.impressions ?? impressions),
  ),
  measure('goodImpressions', ['impressions of good new', 'each', 'higher', 'number'], (measured) =>
    meanOver(measured, ({ impressions }) => impressions),
  ),
  measure(
    'exposureGini',
    ['Gini of exposure', 'over adgroups', null, 'number'],
    ({ outcome }) => outcome.exposureGini,
  ),
  measure('regret', ['regret', 'of the best value', 'lower', 'share'], ({ outcome }) =>
    ratio(outcome.regret, outcome.value + outcome.regret),
  ),
  measure('explored', ['explored', 'of impressions', null, 'share'], ({ outcome }) =>
    ratio(outcome.explored, outcome.impressions),
  ),
  measure(
    'exploredRegret',
    ['regret by exploration', 'of the best value', null, 'share'],
    ({ outcome }) => ratio(outcome.exploredRegret, outcome.value + outcome.regret),
  ),
  measure(
    'calibration',
    ['predicted / true', 'clicks of what was shown', null, 'number'],
    ({ outcome }) => ratio(outcome.predictedClicks, outcome.expectedClicks),
  ),
];

function measure(
  id: string,
  [title, unit, better, style]: readonly [string, string, Measure['better'], Measure['style']],
  of: Measure['of'],
): Measure {
  return { id, title, unit, better, style, of };
}

export function measureOf(id: string): Measure {
  const found = MEASURES.find((each) => each.id === id);
  if (found === undefined) throw new Error(`there is no measure ${id}`);
  return found;
}

function ratio(part: number, whole: number): number | null {
  return whole === 0 ? null : part / whole;
}

function classOf({ outcome }: MeasuredArm, sizeClass: SizeClass): ClassOutcome {
  const index = outcome.classes.findIndex((each) => each.sizeClass === sizeClass);
  return at(outcome.classes, index);
}

function spentShare(sizeClass: SizeClass): Measure['of'] {
  return (measured) => {
    const { spent, budget } = classOf(measured, sizeClass);
    return ratio(spent, budget);
  };
}

function clicksOf(sizeClass: SizeClass): Measure['of'] {
  return (measured) => classOf(measured, sizeClass).clicks;
}

type NewAdgroup = ArmOutcome['newAdgroups'][number];

/** The mean over good new adgroups. */
function meanOver(
  { outcome, good }: MeasuredArm,
  of: (adgroup: NewAdgroup) => number,
): number | null {
  const chosen = outcome.newAdgroups.filter(({ adgroup }) => good.has(adgroup));
  return ratio(
    chosen.reduce((sum, each) => sum + of(each), 0),
    chosen.length,
  );
}
