/** Who wins what: what advertisers of each size meet under each arm. */

import type { ClassFacts } from '../../market/class-report.js';
import type { MarketReport } from '../../market/market-report.js';
import type { Table } from '../table.js';

const NOTHING = '-';

/** In the order of the rows. */
const FACTS: readonly [string, (facts: ClassFacts) => string][] = [
  ['rows in the log', ({ loggedRows }) => plain(loggedRows, 0)],
  ['candidates', ({ candidateShare }) => percent(candidateShare)],
  ['truly best', ({ deservedShare }) => percent(deservedShare)],
  ['won of these', ({ wonOfDeserved }) => percent(wonOfDeserved)],
  ['impressions', ({ impressionShare }) => percent(impressionShare)],
  ['explored', ({ exploredShare }) => percent(exploredShare)],
  ['predicted / true, candidates', ({ candidateCalibration }) => plain(candidateCalibration, 2)],
  ['predicted / true, shown', ({ shownCalibration }) => plain(shownCalibration, 2)],
  ['click rate', ({ clicksPerImpression }) => percent(clicksPerImpression)],
  ['price', ({ pricePerClick }) => plain(pricePerClick, 2)],
  ['no budget', ({ exhaustedShare }) => percent(exhaustedShare)],
  ['paced bids', ({ pacedBids }) => percent(pacedBids)],
];

export const CLASSES_LEGEND =
  'Rows in the log: of an adgroup, before the market. Candidates, truly best and impressions are parts of all; ' +
  'won of these is the part of the auctions with their truly best candidate that they won, explored the part of their impressions that exploration chose. Price: of a click.';

export function classesTable({ classes: arms }: Pick<MarketReport, 'classes'>): Table {
  const sizes = arms[0]?.classes.map(({ sizeClass }) => sizeClass) ?? [];
  return {
    columns: [
      { title: 'mean over seeds', alignment: 'left' },
      { title: 'advertisers', alignment: 'left' },
      ...arms.map(({ arm }) => ({ title: arm })),
    ],
    rows: FACTS.flatMap(([title, written]) =>
      sizes.map((sizeClass) => [
        ...[title, sizeClass],
        ...arms.map(({ classes }) => {
          const facts = classes.find((each) => each.sizeClass === sizeClass);
          return facts === undefined ? NOTHING : written(facts);
        }),
      ]),
    ),
  };
}

function percent(share: number | null): string {
  return share === null ? NOTHING : `${(100 * share).toFixed(1)} %`;
}

function plain(value: number | null, digits: number): string {
  return value === null ? NOTHING : value.toFixed(digits);
}
