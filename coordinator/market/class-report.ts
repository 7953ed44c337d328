/**
 * The report of who wins what: what advertisers of each size meet under each arm, as means over seeds, and how their clicks
 * and spending follow from it.
 */

import { z } from 'zod';
import { at } from '../../shared/base/arrays.js';
import { MARKET_ARMS, type ArmOutcome, type ClassOutcome, type MarketArm } from './arm-outcome.js';
import { SIZE_CLASSES, type SizeClass } from './budgets.js';
import { outcomeOf, type SeedOutcome } from './seed-measures.js';

/** Null where no seed has it. */
const mean = z.number().nullable();

const ClassFactsSchema = z.strictObject({
  sizeClass: z.enum(SIZE_CLASSES),
  /** Rows of an adgroup in the log before the market. */
  loggedRows: mean,
  /** Parts of all candidates, of the auctions in which one of them was truly best, and of the impressions. */
  candidateShare: mean,
  deservedShare: mean,
  impressionShare: mean,
  /** The part of the auctions with their truly best candidate that they won. */
  wonOfDeserved: mean,
  /** Estimated over true clicks: of all candidates with budget, and of what was shown. */
  candidateCalibration: mean,
  shownCalibration: mean,
  clicksPerImpression: mean,
  pricePerClick: mean,
  /** The part of their candidates that had no budget left, and bids after pacing as a part of the bids. */
  exhaustedShare: mean,
  pacedBids: mean,
  /** The part of their impressions that exploration chose. */
  exploredShare: mean,
  /** Against global with the same seed, as parts of it: spent = impressions x click rate x price. */
  impressionsChange: mean,
  clickRateChange: mean,
  priceChange: mean,
});
export type ClassFacts = z.infer<typeof ClassFactsSchema>;

export const ClassReportSchema = z.array(
  z.strictObject({ arm: z.enum(MARKET_ARMS), classes: z.array(ClassFactsSchema) }),
);
export type ClassReport = z.infer<typeof ClassReportSchema>;

export function classReportOf(seeds: readonly SeedOutcome[]): ClassReport {
  return MARKET_ARMS.map((arm) => ({
    arm,
    classes: SIZE_CLASSES.map((sizeClass) => factsOf(seeds, arm, sizeClass)),
  }));
}

/** The facts of one class under one arm. */
export function classFacts(
  report: ClassReport,
  arm: MarketArm,
  sizeClass: SizeClass,
): ClassFacts | null {
  const classes = report.find((each) => each.arm === arm)?.classes;
  return classes?.find((each) => each.sizeClass === sizeClass) ?? null;
}

/** One class in one seed, with the whole arm and the class under global. */
interface Seen {
  readonly own: ClassOutcome;
  readonly outcome: ArmOutcome;
  readonly global: ClassOutcome;
}

function factsOf(seeds: readonly SeedOutcome[], arm: MarketArm, sizeClass: SizeClass): ClassFacts {
  const seen = seeds.map((seed): Seen => {
    const outcome = outcomeOf(seed, arm);
    const global = classIn(outcomeOf(seed, 'global'), sizeClass);
    return { own: classIn(outcome, sizeClass), outcome, global };
  });
  const meanOf = (of: (each: Seen) => number | null): number | null => {
    const values = seen.flatMap((each) => of(each) ?? []);
    return ratio(
      values.reduce((sum, value) => sum + value, 0),
      values.length,
    );
  };
  const ofOwn = (part: keyof ClassOutcome, whole: keyof ClassOutcome) =>
    meanOf(({ own }) => ratio(Number(own[part]), Number(own[whole])));
  const change = (part: keyof ClassOutcome, whole: keyof ClassOutcome) =>
    meanOf(({ own, global }) =>
      changeOf(
        ratio(Number(own[part]), Number(own[whole])),
        ratio(Number(global[part]), Number(global[whole])),
      ),
    );
  return {
    sizeClass,
    loggedRows: ofOwn('loggedRows', 'adgroupCount'),
    candidateShare: meanOf(({ own, outcome }) =>
      ratio(own.candidacies, sumOf(outcome, 'candidacies')),
    ),
    deservedShare: meanOf(({ own, outcome }) => ratio(own.best, sumOf(outcome, 'best'))),
    impressionShare: meanOf(({ own, outcome }) => ratio(own.impressions, outcome.impressions)),
    wonOfDeserved: ofOwn('bestWon', 'best'),
    candidateCalibration: ofOwn('predicted', 'expected'),
    shownCalibration: ofOwn('predictedShown', 'expectedShown'),
    clicksPerImpression: ofOwn('clicks', 'impressions'),
    pricePerClick: ofOwn('spent', 'clicks'),
    exhaustedShare: ofOwn('exhausted', 'candidacies'),
    pacedBids: ofOwn('bids', 'fullBids'),
    exploredShare: ofOwn('explored', 'impressions'),
    impressionsChange: meanOf(({ own, global }) => changeOf(own.impressions, global.impressions)),
    clickRateChange: change('clicks', 'impressions'),
    priceChange: change('spent', 'clicks'),
  };
}

function classIn({ classes }: ArmOutcome, sizeClass: SizeClass): ClassOutcome {
  return at(
    classes,
    classes.findIndex((each) => each.sizeClass === sizeClass),
  );
}

function sumOf({ classes }: ArmOutcome, field: 'candidacies' | 'best'): number {
  return classes.reduce((sum, each) => sum + each[field], 0);
}

function ratio(part: number, whole: number): number | null {
  return whole === 0 ? null : part / whole;
}

function changeOf(value: number | null, reference: number | null): number | null {
  return value === null || reference === null || reference === 0 ? null : value / reference - 1;
}
