/** The page of the policies of exploration: the arms, and each against the same models without exploration. */

import type { ArmOutcome } from '../../../coordinator/market/arm-outcome.js';
import { intervalOver } from '../../../coordinator/market/seed-intervals.js';
import { measureOf, type MeasuredArm } from '../../../coordinator/market/seed-measures.js';
import type { ExplorationConfig } from '../../../shared/config/exploration-config.js';
import type { MarketConfig } from '../../../shared/config/market-config.js';
import { grouped, markdownTable, type BenchHeader } from '../bench-header.js';

type Contextual = Pick<ExplorationConfig, 'policy' | 'weight'> & { readonly columns?: string[] };

/** The settings that differ from those of the example. The oracle says which new adgroups are good. */
const SETTINGS = {
  qianmo: null,
  'epsilon-greedy': { policy: 'epsilon-greedy', weight: 1 },
  promotion: { policy: 'promotion', weight: 1 },
  ucb: { policy: 'ucb', weight: 1 },
  thompson: { policy: 'thompson', weight: 1 },
  'lin-ucb': { policy: 'lin-ucb', weight: 1 },
  'lin-ucb, category': { policy: 'lin-ucb', weight: 1, columns: ['category'] },
  'logistic-thompson': { policy: 'logistic-thompson', weight: 1 },
  'logistic-thompson, category': {
    ...{ policy: 'logistic-thompson', weight: 1, columns: ['category'] },
  },
  oracle: null,
} satisfies Record<string, Contextual | null>;

export type ArmName = keyof typeof SETTINGS;
export const ARMS = Object.keys(SETTINGS) as readonly ArmName[];

export function settingsOf(name: ArmName, example: ExplorationConfig): ExplorationConfig {
  const varied: Contextual | null = SETTINGS[name];
  if (varied === null) return example;
  const { columns = [], ...changed } = varied;
  return { ...example, ...changed, weights: { ...example.weights, columns } };
}

export interface PoliciesRecord extends BenchHeader {
  readonly config: MarketConfig;
  readonly seeds: readonly {
    readonly seed: number;
    readonly processorSeconds: number;
    readonly arms: Readonly<Record<string, ArmOutcome>>;
  }[];
}

/** Compared with the arm without exploration: relative for counts, in points for shares, else in units. */
const COMPARED = [
  ['clicks', 'clicks, %', 'relative'],
  ['smallClicks', 'clicks of small, %', 'relative'],
  ['smallSpent', 'spent by small, pt', 'points'],
  ['goodFound', 'good new found, pt', 'points'],
  ['hoursUntilFound', 'hours until found', 'units'],
  ['exploredRegret', 'regret by exploration, pt', 'points'],
] as const;

/** The seeds below which intervals are too wide to say anything. */
const INTERVAL_SEEDS_MIN = 4;
const SECONDS_PER_DAY = 86_400;

export function policiesPage({ config, seeds, ...header }: PoliciesRecord): string {
  const { traffic, days } = config;
  const processor = seeds.reduce((sum, { processorSeconds }) => sum + processorSeconds, 0);
  return [
    ...['# Policies of exploration in a market', ''],
    `Commit ${header.commit}, ${header.date}, ${header.machine}, load ${header.loadBefore} before. Made by \`npm run bench -- market policies\`; ${grouped(processor)} s of the processor for ${seeds.length} seeds.`,
    '',
    `The market is that of [infra/examples/market.yaml](../examples/market.yaml), with ${grouped(traffic.auctionsPerDay)} auctions a day over ${days} days. Each seed is a world with one trained model; every`,
    'policy has the same auctions, the same share of them (15 % among adgroups of small advertisers, 5 % among others), the weight 1, and the same model, whose blocks adapt as rows settle.',
    'Contextual policies learn 32 weights: of an intercept and the adgroup, and of the column that is named.',
    '',
    `Differences from the same model without exploration (\`qianmo\`), paired by seed${seeds.length < INTERVAL_SEEDS_MIN ? ': each of the seeds, too few for intervals.' : ', with 95 % intervals over seeds (Student).'}`,
    '',
    ...markdownTable(
      ['policy', 'explored, %', ...COMPARED.map(([, title]) => title)],
      ARMS.filter((name) => name !== 'qianmo').map((name) => rowOf(name, config, seeds)),
    ),
    '',
  ].join('\n');
}

type Seeds = PoliciesRecord['seeds'];

function rowOf(name: ArmName, config: MarketConfig, seeds: Seeds): string[] {
  const explored = valuesOf('explored', name, config, seeds);
  const mean = explored.reduce((sum, value) => sum + value, 0) / explored.length;
  return [
    name,
    (100 * mean).toFixed(1),
    ...COMPARED.map(([id, , style]) => {
      const own = valuesOf(id, name, config, seeds);
      const reference = valuesOf(id, 'qianmo', config, seeds);
      const differences = own.map((value, place) => {
        const other = reference[place] ?? NaN;
        const difference = value - other;
        if (style === 'relative') return (100 * difference) / other;
        return style === 'points' ? 100 * difference : difference;
      });
      const interval = intervalOver(differences);
      if (interval === null || differences.length < INTERVAL_SEEDS_MIN)
        return differences.map(signed).join(', ');
      const { value, low, high } = interval;
      return `${signed(value)} [${signed(low)}, ${signed(high)}]`;
    }),
  ];
}

/** The compared measures of each seed and arm, which the page is made of. */
export function recordedSeeds({ config, seeds }: Pick<PoliciesRecord, 'config' | 'seeds'>): object {
  return seeds.map(({ seed, processorSeconds }, place) => ({
    ...{ seed, processorSeconds },
    arms: Object.fromEntries(
      ARMS.map((name) => [
        name,
        Object.fromEntries(
          [...COMPARED.map(([id]) => id), 'explored'].map((id) => [
            id,
            valuesOf(id, name, config, seeds)[place],
          ]),
        ),
      ]),
    ),
  }));
}

function valuesOf(id: string, name: ArmName, config: MarketConfig, seeds: Seeds): number[] {
  const endSeconds = (config.firstDay + config.days) * SECONDS_PER_DAY;
  return seeds.map(({ arms }) => {
    const { oracle, [name]: outcome } = arms;
    if (oracle === undefined || outcome === undefined) throw new Error(`a seed lacks ${name}`);
    const { oracleImpressions } = config.goodAdgroups;
    const good = oracle.newAdgroups.filter(({ impressions }) => impressions >= oracleImpressions);
    const measured: MeasuredArm = {
      outcome,
      good: new Set(good.map(({ adgroup }) => adgroup)),
      endSeconds,
    };
    return measureOf(id).of(measured) ?? NaN;
  });
}

function signed(value: number): string {
  return `${value < 0 ? '' : '+'}${value.toFixed(1)}`;
}
