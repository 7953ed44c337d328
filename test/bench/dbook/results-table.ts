/** The page of the bench on dbook: each arm, and what it is held against. */

import { grouped, markdownTable, type BenchHeader } from '../bench-header.js';
import { SCENARIOS, type Scenario } from './dbook-files.js';
import type { Scores } from './scores.js';

export interface ArmScores {
  readonly name: string;
  readonly scores: Readonly<Record<Scenario, Scores>>;
}

/**
 * The authors' public code, run on these files (120 epochs, 3 seeds): MAE, RMSE, nDCG@5, AUC. RMSE and
 * nDCG are means over users.
 */
const OFFICIAL: readonly (readonly [string, ...string[]])[] = [
  [
    'PAML, gate and friends',
    '.656/.796/.746/.602',
    '.642/.769/.756/.581',
    '.648/.766/.753/.603',
    '.644/.773/.749/.594',
  ],
  [
    'the same without either, first-order MAML',
    '.661/.802/.747/.598',
    '.647/.775/.755/.580',
    '.655/.776/.750/.599',
    '.653/.786/.746/.585',
  ],
  [
    'network, 10 finetuning steps at test',
    '.651/.785/.744/.632',
    '.618/.740/.758/.656',
    '.628/.749/.755/.660',
    '.624/.754/.751/.650',
  ],
];

export function tableOf(
  { commit, date, machine }: BenchHeader,
  seedCount: number,
  arms: readonly ArmScores[],
): string {
  const cell = ({ mae, rmse, ndcg, auc }: Scores): string =>
    [mae, rmse, ndcg, auc].map((x) => x.toFixed(3).replace(/^0/, '')).join('/');
  const header = ['MAE/RMSE/nDCG@5/AUC', ...SCENARIOS];
  return `${[
    '# Douban Book: preference-gated starts, and what is better here',
    '',
    `Commit ${commit}, ${date}, ${machine}. \`npm run bench:dbook\`, means of ${grouped(seedCount)} seeds.`,
    'Users with 13 to 23 ratings are tasks, the last 10 of a seeded shuffle are judged. Lower MAE and RMSE, higher',
    'nDCG@5 (gain 2^rating - 1) and AUC (rating >= 4) are better. A tenth of the training users train nothing: their',
    'scores are printed, to choose settings by.',
    '',
    '## Here',
    '',
    ...markdownTable(
      header,
      arms.map(({ name, scores }) => [name, ...SCENARIOS.map((each) => cell(scores[each]))]),
    ),
    '',
    "## The authors' code on the same files",
    '',
    ...markdownTable(header, OFFICIAL),
  ].join('\n')}\n`;
}
