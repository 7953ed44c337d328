/** The page of the bench: the product beside its peers, set by set. */

import { sumOf } from '../../../coordinator/scoring/metrics.js';
import { counted } from '../../../shared/names/counted.js';
import { grouped, markdownTable } from '../bench-header.js';
import { differenceText, loglossText, verdictOf } from './difference-text.js';
import { MEANS_HEADINGS, meansRows } from './real-means.js';
import { armNamed, isCompared } from './recorded-cell.js';
import type { RealRecord, RecordedCell } from './real-record.js';

const NO_WORSE = 0.002;

export function realPage({ cells }: RealRecord): string {
  const all = Object.values(cells);
  const compared = all.filter(isCompared);
  return [
    '# Beside independent peers on real sets',
    '',
    'Made by `npm run bench -- real`. Every side reads the same file of rows and roles, fits on training tasks, chooses on the query rows of',
    'validation tasks, and is scored by the same code on the same query rows of test tasks. Differences are logloss of the product',
    'minus that of the peer, with 95 % intervals over 2,000 bootstrap draws of test tasks; below 0, the product is better.',
    'Peers are in Python (`test/bench/real/peers`): logistic regression and LightGBM over target encodings out of fold by task with',
    'log counts, the smoothed support rate and the support size; a DeepFM in PyTorch with early stopping, dropout and id dropout,',
    'with and without the support rate as an input; and each DeepFM fine-tuned on the support rows. `real.json` has every arm, its',
    'settings, its seconds, commit and machine. The product is `qianmo auto` on a config with data only: of the model that it ends',
    'with, the arm that `export` serves (`global`, or `meta-chosen` where something adapts). Searches are limited to the same minutes on one thread each, but for cells whose line below counts',
    'trials of `auto`: those were made on a machine that other work kept busy, where minutes say little. Peers that a cell does not list were not run.',
    'A peer runs once for the rows that it reads, so the commit of a cell is that of the product.',
    'The cell `movielens-demo` has the division of the demo (`infra/examples/movielens.yaml`); its key in `real.json` is `movielens-demo`.',
    '',
    '## Chosen on validation',
    '',
    ...markdownTable(
      [
        ...[
          'set',
          'support',
          'seed',
          'test tasks',
          'rows',
          'peer',
          'logloss',
          'product',
          'logloss',
        ],
        ...['difference', 'from the best peer in hindsight', 'verdict'],
      ],
      compared.map(chosenRow),
    ),
    '',
    ...summaryLines(compared),
    '',
    '## Means over seeds',
    '',
    'Differences of the cells above, and their intervals as if seeds were independent. The best peer in hindsight is the one with the lowest',
    'test loss in its cell, which no choice can be sure of; the last column is the seed on which the product is worst beside it.',
    '',
    ...markdownTable(MEANS_HEADINGS, meansRows(compared)),
    '',
    '## The plain models',
    '',
    "The product's DeepFM for all tasks, without any input from support rows, and PyTorch's, on the same fields.",
    '',
    ...markdownTable(
      ['set', 'support', 'seed', 'PyTorch', 'product', 'difference'],
      all.flatMap((cell) => {
        const { plain } = cell.differences;
        if (plain === null) return [];
        const [peer, product] = [armNamed(cell, plain.from), armNamed(cell, plain.arm)];
        const figures = [
          loglossText(peer.logloss),
          loglossText(product.logloss),
          differenceText(plain),
        ];
        return [[cell.set, cell.support, cell.seed, ...figures]];
      }),
    ),
    '',
    '## Every arm',
    '',
    'Logloss of the test rows, and AUC in brackets.',
    ...all.flatMap(armLines),
    '',
  ].join('\n');
}

function chosenRow(cell: RecordedCell): (string | number)[] {
  const { set, support, seed, taskCounts, testRowCount, differences } = cell;
  const [peer, product] = [cell.chosenPeer ?? '', cell.chosenProduct ?? ''];
  return [
    ...[set, support, seed, taskCounts.test, testRowCount],
    ...[peer, loglossText(armNamed(cell, peer).logloss)],
    ...[product.replace(/^qianmo-/, ''), loglossText(armNamed(cell, product).logloss)],
    ...[differenceText(differences.chosen), differenceText(differences.hindsight)],
    verdictOf(differences.chosen),
  ];
}

function summaryLines(compared: readonly RecordedCell[]): string[] {
  const verdicts = compared.map(({ differences }) => verdictOf(differences.chosen));
  const count = (wanted: string): number => verdicts.filter((verdict) => verdict === wanted).length;
  const lost = compared.filter(({ differences }) => (differences.hindsight?.value ?? 0) > NO_WORSE);
  const differences = compared.map(({ differences: { chosen } }) => chosen?.value ?? NaN);
  return [
    `Of ${compared.length} cells, the product is better in ${count('better')}, level in ${count('level')} and worse in ${count('worse')}; ` +
      `the mean difference is ${loglossText(sumOf(differences) / differences.length)}. Against the best peer in hindsight it is behind by more than ${NO_WORSE} in ${lost.length}.`,
  ];
}

function armLines(cell: RecordedCell): string[] {
  const arms = [...cell.arms].sort((one, other) => one.logloss - other.logloss);
  const listed = arms.map(({ name, logloss, auc }) => {
    const isChosen = name === cell.chosenPeer || name === cell.chosenProduct;
    const shown = `${name} ${loglossText(logloss)} (${auc === null ? 'none' : auc.toFixed(3)})`;
    return isChosen ? `**${shown}**` : shown;
  });
  const { set, support, seed, clickRate, trunkRowCount, commit, machine, loadBefore } = cell;
  return [
    '',
    `- ${set}, ${support}, seed ${seed} (click rate ${loglossText(clickRate)}; ${grouped(trunkRowCount)} rows of small tasks; commit ${commit}, ${machine}, load ${loadBefore}; ${searchText(cell)}): ${listed.join(', ')}`,
  ];
}

function searchText(cell: RecordedCell): string {
  const { budgetMinutes, trialsMax, chosenProduct } = cell;
  const tried =
    chosenProduct === null ? undefined : armNamed(cell, chosenProduct).settings['tried'];
  if (trialsMax !== null)
    return `${budgetMinutes} min for each peer, ${counted(trialsMax, 'trial')} of auto`;
  const began = typeof tried === 'number' ? `, in which auto began ${tried} of its trials` : '';
  return `${budgetMinutes} min for each search${began}`;
}
