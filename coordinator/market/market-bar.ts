/** The bar of the market: what exploring qianmo must be, compared with one global model, and why where it is not. */

import type { Interval } from '../scoring/evaluation-report.js';
import type { MarketArm } from './arm-outcome.js';
import type { SizeClass } from './budgets.js';
import { classFacts, type ClassFacts, type ClassReport } from './class-report.js';
import { measureOf } from './seed-measures.js';

/** Clicks are called not lower if, at 95 %, they are not lower by more than this part. */
const CLICKS_MARGIN = 0.01;

const JUDGED: MarketArm = 'qianmo-exploring';

interface MeasuredArms {
  readonly id: string;
  readonly arms: readonly {
    readonly arm: MarketArm;
    readonly mean: Interval | null;
    readonly difference: Interval | null;
    readonly relative: Interval | null;
  }[];
}

interface Claim {
  readonly claim: string;
  readonly measure: string;
  readonly holds: (compared: {
    readonly difference: Interval;
    readonly relative: Interval | null;
  }) => boolean;
}

const CLAIMS: readonly Claim[] = [
  {
    claim: 'total clicks are not lower',
    measure: 'clicks',
    holds: ({ relative }) => relative !== null && relative.low > -CLICKS_MARGIN,
  },
  {
    claim: 'small advertisers spend more',
    measure: 'smallSpent',
    holds: ({ difference }) => difference.low > 0,
  },
  {
    claim: 'small advertisers have more clicks',
    measure: 'smallClicks',
    holds: ({ difference }) => difference.low > 0,
  },
  {
    claim: 'good new adgroups are found faster',
    measure: 'hoursUntilFound',
    holds: ({ difference }) => difference.high < 0,
  },
];

interface BarItem {
  readonly claim: string;
  readonly measure: string;
  readonly holds: boolean;
  readonly difference: Interval | null;
  readonly relative: Interval | null;
  readonly why: string | null;
}

export function barOf(measures: readonly MeasuredArms[], classes: ClassReport): BarItem[] {
  const armOf = (id: string, arm: MarketArm) =>
    measures.find((each) => each.id === id)?.arms.find((each) => each.arm === arm);
  const meanOf = (id: string, arm: MarketArm): number | null => armOf(id, arm)?.mean?.value ?? null;
  return CLAIMS.map(({ claim, measure, holds }) => {
    const { difference = null, relative = null } = armOf(measure, JUDGED) ?? {};
    const isHeld = difference !== null && holds({ difference, relative });
    const why = isHeld ? null : whyNot(measure, { difference, relative }, { meanOf, classes });
    return { claim, measure, holds: isHeld, difference, relative, why };
  });
}

type MeanOf = (id: string, arm: MarketArm) => number | null;

interface Measured {
  readonly meanOf: MeanOf;
  readonly classes: ClassReport;
}

/** What the other measures say of it. */
function whyNot(
  id: string,
  { difference, relative }: Pick<BarItem, 'difference' | 'relative'>,
  measured: Measured,
): string {
  if (difference === null) return 'It is not defined for two seeds or more.';
  const { better } = measureOf(id);
  const isOpen = difference.low <= 0 && difference.high >= 0;
  const isWrong = better === 'lower' ? difference.low > 0 : difference.high < 0;
  const said = isOpen
    ? 'The interval holds 0: more seeds or a longer market would decide it.'
    : isWrong
      ? 'It is the other way round.'
      : `The interval reaches below -${percent(CLICKS_MARGIN)}, as far as ${percent(relative?.low ?? null)}.`;
  return `${said} ${CAUSES[id]?.(measured) ?? ''}`.trim();
}

const CAUSES: Readonly<Record<string, (measured: Measured) => string>> = {
  clicks: ({ meanOf }) =>
    `Exploration took ${percent(meanOf('explored', JUDGED))} of the impressions and cost ` +
    `${percent(meanOf('exploredRegret', JUDGED))} of the best value; all regret was ` +
    `${percent(meanOf('regret', JUDGED))}, that of global ${percent(meanOf('regret', 'global'))} and that of ` +
    `qianmo without exploration ${percent(meanOf('regret', 'qianmo'))}.`,
  smallSpent: spending,
  smallClicks: clicking,
  hoursUntilFound: ({ meanOf }) =>
    `Of the good new adgroups, global found ${percent(meanOf('goodFound', 'global'))}, qianmo ` +
    `${percent(meanOf('goodFound', 'qianmo'))} without and ${percent(meanOf('goodFound', JUDGED))} with exploration, ` +
    `the oracle ${percent(meanOf('goodFound', 'oracle'))}; they had ` +
    `${number(meanOf('goodImpressions', 'global'))}, ${number(meanOf('goodImpressions', 'qianmo'))}, ` +
    `${number(meanOf('goodImpressions', JUDGED))} and ${number(meanOf('goodImpressions', 'oracle'))} impressions.`,
};

function spending({ meanOf, classes }: Measured): string {
  const spent =
    `Small advertisers spent ${percent(meanOf('smallSpent', 'global'))} of their budgets with global, ` +
    `${percent(meanOf('smallSpent', 'qianmo'))} with qianmo without exploration, ` +
    `${percent(meanOf('smallSpent', JUDGED))} with it, and ${percent(meanOf('smallSpent', 'oracle'))} with the oracle, ` +
    'which is what they deserve by truth.';
  return `${spent} ${smallAdvertisers(classes).spending}`;
}

function clicking({ meanOf, classes }: Measured): string {
  const clicks = (arm: MarketArm): string => number(meanOf('smallClicks', arm));
  const had =
    `They had ${clicks('global')} clicks with global, ${clicks('qianmo')} with qianmo without exploration, ` +
    `${clicks(JUDGED)} with it, and ${clicks('oracle')} with the oracle.`;
  return `${had} ${smallAdvertisers(classes).impressions}`;
}

type SmallAdvertisers = Readonly<
  Record<'evidence' | 'impressions' | 'estimates' | 'spending' | 'budgets', string>
>;

/** Why small advertisers spend and click as they do: sentences, each made of measured figures. */
export function smallAdvertisers(report: ClassReport): SmallAdvertisers {
  const of = (arm: MarketArm, sizeClass: SizeClass = 'small'): ClassFacts =>
    classFacts(report, arm, sizeClass) ?? NOTHING;
  const [global, plain, exploring, oracle] = [
    ...[of('global'), of('qianmo'), of('qianmo-exploring'), of('oracle')],
  ] as const;
  const evidence =
    `The log has ${number(global.loggedRows)} rows of an adgroup of a small advertiser, ` +
    `${number(of('global', 'medium').loggedRows)} of a medium and ${number(of('global', 'large').loggedRows)} of a large one.`;
  const impressions =
    `Small advertisers have ${percent(global.candidateShare)} of the candidates and, with the oracle, ` +
    `${percent(oracle.impressionShare)} of the impressions. Global gives them ${percent(global.impressionShare)}, ` +
    `qianmo ${percent(plain.impressionShare)} without and ${percent(exploring.impressionShare)} with exploration.`;
  const estimates =
    `Of what global shows of them, it expects ${times(global.shownCalibration)} the true clicks ` +
    `(${times(of('global', 'large').shownCalibration)} for large ones), qianmo ${times(plain.shownCalibration)}; over all their ` +
    `candidates it is ${times(global.candidateCalibration)} and ${times(plain.candidateCalibration)}. Of the auctions in which they were ` +
    `truly best, global gives them ${percent(global.wonOfDeserved)}, qianmo ${percent(plain.wonOfDeserved)} without and ` +
    `${percent(exploring.wonOfDeserved)} with exploration.`;
  const spending =
    `What they spend is impressions x click rate x price: on average, against global, ${signed(plain.impressionsChange)} x ` +
    `${signed(plain.clickRateChange)} x ${signed(plain.priceChange)} without exploration, ` +
    `${signed(exploring.impressionsChange)} x ${signed(exploring.clickRateChange)} x ${signed(exploring.priceChange)} with it, ` +
    `which chose ${percent(exploring.exploredShare)} of their impressions.`;
  const budgets =
    `Budgets hold back ${percent(exploring.exhaustedShare)} of their candidates, and pacing lowers their bids to ` +
    `${percent(exploring.pacedBids)}.`;
  return { evidence, impressions, estimates, spending, budgets };
}

const NOTHING: ClassFacts = {
  sizeClass: 'small',
  ...{ loggedRows: null, candidateShare: null, deservedShare: null, impressionShare: null },
  ...{ wonOfDeserved: null, candidateCalibration: null, shownCalibration: null },
  ...{ clicksPerImpression: null, pricePerClick: null, exhaustedShare: null, pacedBids: null },
  ...{ exploredShare: null, impressionsChange: null, clickRateChange: null, priceChange: null },
};

function signed(change: number | null): string {
  return change === null ? '-' : `${change < 0 ? '' : '+'}${percent(change)}`;
}

function times(value: number | null): string {
  return value === null ? '-' : `${value.toFixed(2)} times`;
}

function percent(share: number | null): string {
  return share === null ? '-' : `${(100 * share).toFixed(1)} %`;
}

function number(value: number | null): string {
  return value === null ? '-' : value.toFixed(0);
}
