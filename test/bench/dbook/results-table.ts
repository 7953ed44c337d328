/** Formats the page of the bench on dbook: each arm and its comparisons. */

import { grouped, markdownTable, type BenchHeader } from '../bench-header.js';
import type { ValidationCurve } from './bench-runs.js';
import { SCENARIOS, type Scenario } from './dbook-files.js';
import { QUERY_ROW_COUNT, TRAINING_DIVISION_COUNT } from './dbook-tasks.js';
import { METRICS, type MeanDifference, type Metric, type Scores } from './scores.js';

export type ByScenario<Value> = Readonly<Record<Scenario, Value>>;

export interface ArmScores {
  readonly name: string;
  readonly scores: ByScenario<Scores>;
  /** The chosen outer steps of a trained arm, and its scores on validation users during training. */
  readonly chosen: { readonly outerSteps: number; readonly curve: ValidationCurve } | null;
}

/** The difference of one arm minus another, paired by user. */
export interface ArmDifference {
  readonly first: string;
  readonly second: string;
  readonly mae: ByScenario<MeanDifference>;
  readonly rmse: ByScenario<MeanDifference>;
}

/** MAE, RMSE, nDCG@5, AUC by scenario. */
type Measured = Readonly<Record<Scenario, readonly [number, number, number, number]>>;

export const OFFICIAL_GATE = 'PAML: gate and friends';
export const OFFICIAL_BIASES = [
  'shrunk support mean and publisher bias',
  'shrunk support mean and book bias',
] as const;

/**
 * The authors' public code, and predictors without a network. They were measured elsewhere on the
 * same files (120 epochs, 3 seeds), with other shuffles than here.
 */
const OFFICIAL: ReadonlyMap<string, Measured> = new Map<string, Measured>([
  [
    OFFICIAL_GATE,
    {
      'warm-up': [0.656, 0.796, 0.746, 0.602],
      'cold users': [0.642, 0.769, 0.756, 0.581],
      'cold items': [0.648, 0.766, 0.753, 0.603],
      'both cold': [0.644, 0.773, 0.749, 0.594],
    },
  ],
  [
    'PAML without gate and friends: first-order MAML',
    {
      'warm-up': [0.661, 0.802, 0.747, 0.598],
      'cold users': [0.647, 0.775, 0.755, 0.58],
      'cold items': [0.655, 0.776, 0.75, 0.599],
      'both cold': [0.653, 0.786, 0.746, 0.585],
    },
  ],
  [
    'one network, 10 finetuning steps at test',
    {
      'warm-up': [0.651, 0.785, 0.744, 0.632],
      'cold users': [0.618, 0.74, 0.758, 0.656],
      'cold items': [0.628, 0.749, 0.755, 0.66],
      'both cold': [0.624, 0.754, 0.751, 0.65],
    },
  ],
  [
    OFFICIAL_BIASES[0],
    {
      'warm-up': [0.636, 0.769, 0.756, 0.64],
      'cold users': [0.609, 0.728, 0.762, 0.668],
      'cold items': [0.619, 0.73, 0.764, 0.67],
      'both cold': [0.617, 0.739, 0.76, 0.661],
    },
  ],
  [
    OFFICIAL_BIASES[1],
    {
      'warm-up': [0.622, 0.75, 0.779, 0.675],
      'cold users': [0.588, 0.703, 0.811, 0.714],
      'cold items': [0.626, 0.736, 0.731, 0.655],
      'both cold': [0.623, 0.746, 0.719, 0.646],
    },
  ],
]);

const isLowerBetter: Readonly<Record<Metric, boolean>> = {
  ...{ mae: true, rmse: true },
  ...{ ndcg: false, auc: false },
};

/** Cells in which `scores` are worse than the measured figures, to their three decimals. */
function worseCells(
  scores: ByScenario<Scores>,
  measured: Measured,
): { readonly scenario: Scenario; readonly metric: Metric }[] {
  return SCENARIOS.flatMap((scenario) =>
    METRICS.flatMap((metric, place) => {
      const own = rounded(scores[scenario][metric]);
      const other = measured[scenario][place] ?? NaN;
      const isWorse = isLowerBetter[metric] ? own > other : own < other;
      return isWorse ? [{ scenario, metric }] : [];
    }),
  );
}

const METRIC_WORDS: Readonly<Record<Metric, string>> = {
  ...{ mae: 'MAE', rmse: 'RMSE' },
  ...{ ndcg: 'nDCG@5', auc: 'AUC' },
};

/** The reference of a comparison, and where it was measured. */
interface Rival {
  readonly name: string;
  readonly measured: Measured;
  readonly where: string;
}

/** Returns `- arm is no worse than X in 16 of 16 cells.`, and lists the cells where it is worse. */
function comparedWords(name: string, scores: ByScenario<Scores>, against: Rival): string {
  const worse = worseCells(scores, against.measured);
  const count = SCENARIOS.length * METRICS.length;
  const fellShort = worse.map(({ scenario, metric }) => `${METRIC_WORDS[metric]} of ${scenario}`);
  const cells = `${count - worse.length} of ${count} cells`;
  return `- ${name} is no worse than "${against.name}" ${against.where} in ${cells}${worse.length === 0 ? '' : `; worse: ${fellShort.join(', ')}`}.`;
}

/**
 * The rival on the same rows, if this bench predicted it as well, followed by the rival with the
 * figures measured elsewhere.
 */
function rivalsNamed(name: string, arms: readonly ArmScores[]): Rival[] {
  const here = arms.find((arm) => arm.name === name);
  const elsewhere = OFFICIAL.get(name);
  return [
    ...(here === undefined
      ? []
      : [{ name, measured: roundedCells(here.scores), where: 'on the same rows' }]),
    ...(elsewhere === undefined
      ? []
      : [{ name, measured: elsewhere, where: 'as measured elsewhere' }]),
  ];
}

function roundedCells(scores: ByScenario<Scores>): Measured {
  const cells = (scenario: Scenario): Measured[Scenario] => {
    const { mae, rmse, ndcg, auc } = scores[scenario];
    return [rounded(mae), rounded(rmse), rounded(ndcg), rounded(auc)];
  };
  return {
    ...{ 'warm-up': cells('warm-up'), 'cold users': cells('cold users') },
    ...{ 'cold items': cells('cold items'), 'both cold': cells('both cold') },
  };
}

function rounded(score: number): number {
  return Math.round(score * 1000) / 1000;
}

export interface DbookResults {
  readonly seeds: readonly number[];
  readonly arms: readonly ArmScores[];
  readonly differences: readonly ArmDifference[];
  /** Names of arms and of their references. */
  readonly claims: readonly (readonly [string, string])[];
}

export function tableOf(header: BenchHeader, results: DbookResults): string {
  const { seeds, arms, differences, claims } = results;
  const rowHeader = ['MAE/RMSE/nDCG@5/AUC', ...SCENARIOS];
  return `${[
    '# Douban Book: preference-gated initialisation and better alternatives',
    '',
    ...introduction(header, seeds.length),
    '',
    '## Results',
    '',
    ...markdownTable(
      rowHeader,
      arms.map(({ name, scores }) => [name, ...SCENARIOS.map((each) => cellOf(scores[each]))]),
    ),
    '',
    ...claims.flatMap(([name, against]) => {
      const arm = arms.find((each) => each.name === name);
      if (arm === undefined) return [];
      return rivalsNamed(against, arms).map((rival) => comparedWords(name, arm.scores, rival));
    }),
    '',
    'The next table shows differences in MAE / RMSE, paired by user, with 95 % intervals over users. Below 0, the first arm',
    'is better.',
    '',
    ...markdownTable(
      ['first - second', ...SCENARIOS],
      differences.map(({ first, second, mae, rmse }) => [
        `${first} - ${second}`,
        ...SCENARIOS.map((each) => `${differenceCell(mae[each])} / ${differenceCell(rmse[each])}`),
      ]),
    ),
    '',
    "## Measured elsewhere: the authors' code on the same files, and predictors without a network",
    '',
    'These measurements divided the ratings by other shuffles, so the same predictors have other figures above.',
    '',
    ...markdownTable(
      rowHeader,
      [...OFFICIAL].map(([name, measured]) => [
        name,
        ...SCENARIOS.map((each) => measured[each].map(shortNumber).join('/')),
      ]),
    ),
    '',
    '## Validation users: RMSE by outer steps',
    '',
    ...curveTable(arms),
  ].join('\n')}\n`;
}

function introduction({ commit, date, machine }: BenchHeader, seedCount: number): string[] {
  return [
    `Commit ${commit}, ${date}, ${machine}. Made by \`npm run bench:dbook\`; all figures are means of ${grouped(seedCount)} seeds.`,
    'The data must not be distributed and is read from `../shared`.',
    '',
    `Each user with 13 to 23 ratings is a task. The last ${QUERY_ROW_COUNT} ratings of a seeded shuffle are judged, and the others are`,
    'the support set. Lower MAE and RMSE and higher nDCG@5 (gain 2^rating - 1) and AUC (rating >= 4, over all rows) are',
    `better. RMSE and nDCG are means over users. Each training user makes ${TRAINING_DIVISION_COUNT} tasks, each with its own shuffle.`,
    '',
    'Settings and numbers of outer steps were chosen by RMSE on a held-out tenth of the training users. Half of its weight',
    'is on their books as if nobody had rated them. The arms shown were then trained on all training users.',
    'No setting was chosen by the score of a scenario, but such scores were seen while the bench was developed.',
  ];
}

const CURVE_COLUMN_COUNT = 8;

function curveTable(arms: readonly ArmScores[]): string[] {
  const rows = arms.flatMap(({ name, chosen }) => {
    if (chosen === null) return [];
    const { curve, outerSteps } = chosen;
    const stride = Math.ceil(curve.length / CURVE_COLUMN_COUNT);
    const shown = curve.filter((_, place) => (place + 1) % stride === 0);
    const points = shown.map(
      ({ outerStep, scores }) => `${outerStep}: ${shortNumber(scores.rmse)}`,
    );
    const best = curve.find(({ outerStep }) => outerStep === outerSteps);
    return [[name, outerSteps, shortNumber(best?.scores.rmse ?? NaN), points.join(', ')]];
  });
  return markdownTable(
    ['arm', 'chosen outer steps', 'RMSE at this step', 'RMSE during training'],
    rows,
  );
}

function cellOf(scores: Scores): string {
  return METRICS.map((metric) => shortNumber(scores[metric])).join('/');
}

function shortNumber(x: number): string {
  return x.toFixed(3).replace(/^(-?)0/, '$1');
}

function differenceCell({ value, low, high }: MeanDifference): string {
  return `${signed(value)} [${signed(low)}, ${signed(high)}]`;
}

function signed(x: number): string {
  return `${x < 0 ? '-' : '+'}${shortNumber(Math.abs(x))}`;
}
