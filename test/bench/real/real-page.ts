/** The page of the bench: the product beside its peers, set by set. */

import { sumOf } from '../../../coordinator/scoring/metrics.js';
import { grouped, markdownTable } from '../bench-header.js';
import { armNamed, isCompared } from './recorded-cell.js';
import type { RealRecord, RecordedCell, RecordedDifference } from './real-record.js';

export function realPage({ cells }: RealRecord): string {
  const all = Object.values(cells);
  const compared = all.filter(isCompared);
  return [
    '# Beside independent peers on real sets',
    '',
    'Every side reads the same rows and roles, chooses on the query rows of validation tasks, and is scored on those of test tasks. Differences',
    'are logloss of the product minus that of the peer, with 95 % intervals over 2,000 bootstrap draws of test tasks; below 0, the product is better.',
    'Peers are those of `test/bench/real/peers`, the product is `qianmo auto` on a config with data only. `real.json` has settings, seconds, commit',
    'and machine of every arm.',
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
    '## Means over seeds',
    '',
    'Intervals are as if seeds were independent. The best peer in hindsight has the lowest test loss in its cell.',
    '',
    ...markdownTable(MEANS_HEADINGS, meansRows(compared)),
    '',
    '## The plain models',
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

function armLines(cell: RecordedCell): string[] {
  const arms = [...cell.arms].sort((one, other) => one.logloss - other.logloss);
  const listed = arms.map(({ name, logloss, auc }) => {
    const isChosen = name === cell.chosenPeer || name === cell.chosenProduct;
    const shown = `${name} ${loglossText(logloss)} (${auc === null ? 'none' : auc.toFixed(3)})`;
    return isChosen ? `**${shown}**` : shown;
  });
  const { set, support, seed, clickRate, trunkRowCount, commit, machine } = cell;
  return [
    '',
    `- ${set}, ${support}, seed ${seed} (click rate ${loglossText(clickRate)}; ${grouped(trunkRowCount)} rows of small tasks; commit ${commit}, ${machine}): ${listed.join(', ')}`,
  ];
}

const MEANS_HEADINGS: readonly string[] = [
  ...['set', 'support', 'seeds', 'from the peer chosen on validation', 'verdict'],
  ...['from the best peer in hindsight', 'worst seed in hindsight'],
];

/** A row for each set and support size, in the order of the cells. */
function meansRows(cells: readonly RecordedCell[]): (string | number)[][] {
  const bySet = new Map<string, RecordedCell[]>();
  for (const cell of cells.filter(isCompared)) {
    const key = `${cell.set}, ${cell.support}`;
    bySet.set(key, [...(bySet.get(key) ?? []), cell]);
  }
  return [...bySet.values()].map(meansRow);
}

function meansRow(cells: readonly RecordedCell[]): (string | number)[] {
  const [first] = cells;
  if (first === undefined) throw new Error('a group has cells');
  const chosen = meanOver(cells.map(({ differences }) => differences.chosen));
  const hindsight = cells.map(({ differences }) => differences.hindsight);
  const worst = cells.reduce((one, other) => (behind(other) > behind(one) ? other : one));
  return [
    ...[first.set, first.support, cells.length],
    ...[differenceText(chosen), verdictOf(chosen), differenceText(meanOver(hindsight))],
    `${worst.seed}, ${behind(worst).toFixed(4)}`,
  ];
}

function behind({ differences }: RecordedCell): number {
  return differences.hindsight?.value ?? -Infinity;
}

/**
 * The mean of intervals as if they were independent: their distances on either side add up by their squares. Seeds divide the
 * rows of the same real logs anew, so that they share some, and the interval is too narrow by an amount that is not known.
 */
function meanOver(found: readonly (Difference | null)[]): Difference | null {
  const intervals = found.filter((interval) => interval !== null);
  const count = intervals.length;
  if (count === 0) return null;
  const value = sumOf(intervals.map((interval) => interval.value)) / count;
  const distance = (of: (interval: Difference) => number): number =>
    Math.sqrt(sumOf(intervals.map((interval) => of(interval) ** 2))) / count;
  return {
    value,
    low: value - distance((interval) => interval.value - interval.low),
    high: value + distance((interval) => interval.high - interval.value),
  };
}

type Difference = Pick<RecordedDifference, 'value' | 'low' | 'high'>;

function verdictOf(difference: Difference | null): string {
  if (difference === null) return '';
  if (difference.high < 0) return 'better';
  return difference.low > 0 ? 'worse' : 'level';
}

/** `-0.0021 [-0.0049, 0.0007]` */
function differenceText(difference: Difference | null): string {
  if (difference === null) return '';
  const { value, low, high } = difference;
  return `${loglossText(value)} [${loglossText(low)}, ${loglossText(high)}]`;
}

function loglossText(value: number): string {
  return value.toFixed(4);
}
