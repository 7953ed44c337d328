/** What the measured facts say of small advertisers under exploring qianmo: why they spend and click as they do. */

import type { MarketArm } from '../arm-outcome.js';
import { classFacts, type ClassFacts, type ClassReport } from './class-report.js';
import type { SizeClass } from '../budgets.js';

/** Sentences, each made of measured figures. */
export function smallAdvertisers(report: ClassReport): string[] {
  const of = (arm: MarketArm, sizeClass: SizeClass = 'small'): ClassFacts =>
    classFacts(report, arm, sizeClass) ?? NOTHING;
  const [global, plain, exploring, oracle] = [
    ...[of('global'), of('qianmo'), of('qianmo-exploring'), of('oracle')],
  ] as const;
  return [
    `The log has ${number(global.loggedRows)} rows of an adgroup of a small advertiser, ` +
      `${number(of('global', 'medium').loggedRows)} of a medium and ${number(of('global', 'large').loggedRows)} of a large one.`,
    `Small advertisers have ${percent(global.candidateShare)} of the candidates and, with the oracle, ` +
      `${percent(oracle.impressionShare)} of the impressions. Global gives them ${percent(global.impressionShare)}, ` +
      `qianmo ${percent(plain.impressionShare)} without and ${percent(exploring.impressionShare)} with exploration.`,
    `Of what it shows of them, global expects ${times(global.shownCalibration)} the true clicks ` +
      `(${times(of('global', 'large').shownCalibration)} for large ones), qianmo ${times(plain.shownCalibration)}; over all their ` +
      `candidates it is ${times(global.candidateCalibration)} and ${times(plain.candidateCalibration)}. Of the auctions in which they were ` +
      `truly best, global gives them ${percent(global.wonOfDeserved)}, qianmo ${percent(plain.wonOfDeserved)} without and ` +
      `${percent(exploring.wonOfDeserved)} with exploration.`,
    `What they spend is impressions x click rate x price: against global ${signed(plain.impressionsChange)} x ` +
      `${signed(plain.clickRateChange)} x ${signed(plain.priceChange)} without exploration, ` +
      `${signed(exploring.impressionsChange)} x ${signed(exploring.clickRateChange)} x ${signed(exploring.priceChange)} with it, ` +
      `which chose ${percent(exploring.exploredShare)} of their impressions.`,
    `Budgets hold back ${percent(exploring.exhaustedShare)} of their candidates, and pacing lowers their bids to ` +
      `${percent(exploring.pacedBids)}.`,
  ];
}

const NOTHING: ClassFacts = {
  sizeClass: 'small',
  ...{ loggedRows: null, candidateShare: null, deservedShare: null, impressionShare: null },
  ...{ wonOfDeserved: null, candidateCalibration: null, shownCalibration: null },
  ...{ clicksPerImpression: null, pricePerClick: null, exhaustedShare: null, pacedBids: null },
  ...{ exploredShare: null, impressionsChange: null, clickRateChange: null, priceChange: null },
};

function percent(share: number | null): string {
  return share === null ? '-' : `${(100 * share).toFixed(1)} %`;
}

function signed(change: number | null): string {
  return change === null ? '-' : `${change < 0 ? '' : '+'}${percent(change)}`;
}

function times(value: number | null): string {
  return value === null ? '-' : `${value.toFixed(2)} times`;
}

function number(value: number | null): string {
  return value === null ? '-' : value.toFixed(0);
}
