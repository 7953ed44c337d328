/** The record of the methods' world and its page: gap closed by adgroup size, and paired differences, over seeds. */

import { sumOf } from '../../../coordinator/scoring/metrics.js';
import { markdownTable } from '../bench-header.js';

interface Difference {
  readonly value: number;
  readonly low: number;
  readonly high: number;
}

interface WorldArm {
  /** Logloss per impression, in the order of the slices. */
  readonly logloss: readonly number[];
  /** The difference of logloss from `finetuned` over all adgroups; null for that arm. */
  readonly minusFinetuned: Difference | null;
}

export interface WorldCell {
  readonly setting: string;
  readonly clickRate: number;
  readonly seed: number;
  /** Commit, date and machine; several where arms differ in them. */
  readonly made: string;
  /** All adgroups first, then buckets of support rows. */
  readonly slices: readonly string[];
  readonly arms: Readonly<Record<string, WorldArm>>;
}

export interface WorldRecord {
  readonly rows: number;
  readonly adgroups: number;
  readonly cells: readonly WorldCell[];
}

export const FINETUNED = 'finetuned';
const GLOBAL = 'global';
const ORACLE = 'oracle';
/** The method that the project recommends where adgroups differ. */
const OFFERED = 'shifts-by-evidence';

export function methodsPage({ rows, adgroups, cells }: WorldRecord): string {
  const groups = new Map<string, WorldCell[]>();
  for (const cell of cells) {
    const title = `${cell.setting}, click rate ${Math.round(100 * cell.clickRate)} %`;
    groups.set(title, [...(groups.get(title) ?? []), cell]);
  }
  return [
    '# Methods on the synthetic world',
    '',
    `Each world has ${rows} rows and ${adgroups} adgroups. All figures are of the test adgroups. The gap closed is`,
    '(logloss of global - logloss of the arm) / (logloss of global - logloss of the oracle), averaged over seeds.',
    'Differences are per impression, as means over seeds, with 95 % intervals from the paired bootstrap of each seed over',
    'adgroups; below 0 is better. Every arm chose its settings from a grid of the same size on validation adgroups.',
    'Made by `npm run bench -- methods-world` at:',
    '',
    ...[...new Set(cells.flatMap(({ made }) => made.split('; ')))]
      .sort()
      .map((made) => `- ${made}`),
    '',
    `## ${OFFERED} against finetuning`,
    '',
    ...markdownTable(
      ['world', 'gap closed by finetuned', `gap closed by ${OFFERED}`, 'difference', 'verdict'],
      [...groups].filter(isOffered).map(([title, group]) => {
        const difference = meanDifference(group, OFFERED);
        const gaps = [FINETUNED, OFFERED].map((name) => percent(meanGap(group, name, 0)));
        return [title, ...gaps, differenceText(difference), verdictOf(difference)];
      }),
    ),
    ...[...groups].flatMap(([title, group]) => ['', `## ${title}`, '', ...groupLines(group)]),
    '',
  ].join('\n');
}

function isOffered([, cells]: readonly [string, readonly WorldCell[]]): boolean {
  return cells.every(({ arms }) => arms[OFFERED] !== undefined);
}

function groupLines(cells: readonly WorldCell[]): string[] {
  const [first] = cells;
  if (first === undefined) return [];
  const rows = Object.keys(first.arms).map((name) => [
    ...[name, meanOf(cells, (cell) => loglossOf(cell, name, 0)).toFixed(4)],
    name === FINETUNED ? '' : differenceText(meanDifference(cells, name)),
    ...first.slices.map((_, slice) => percent(meanGap(cells, name, slice))),
  ]);
  return [
    `Seeds ${cells.map(({ seed }) => seed).join(', ')}.`,
    '',
    ...markdownTable(
      [
        ...['arm or method', 'logloss', 'difference from finetuned'],
        ...first.slices.map((slice) => `gap closed, ${slice}`),
      ],
      rows,
    ),
  ];
}

function meanOf(cells: readonly WorldCell[], valueOf: (cell: WorldCell) => number): number {
  return sumOf(cells.map(valueOf)) / cells.length;
}

function loglossOf({ arms }: WorldCell, name: string, slice: number): number {
  return arms[name]?.logloss[slice] ?? NaN;
}

function meanGap(cells: readonly WorldCell[], name: string, slice: number): number {
  return meanOf(cells, (cell) => {
    const at = (arm: string): number => loglossOf(cell, arm, slice);
    return (at(GLOBAL) - at(name)) / (at(GLOBAL) - at(ORACLE));
  });
}

/** Seeds are independent, so squared half widths add up. */
function meanDifference(cells: readonly WorldCell[], name: string): Difference {
  const all = cells.flatMap(({ arms }) => arms[name]?.minusFinetuned ?? []);
  const value = sumOf(all.map((each) => each.value)) / all.length;
  const half = Math.hypot(...all.map(({ low, high }) => (high - low) / 2)) / all.length;
  return { value, low: value - half, high: value + half };
}

function differenceText({ value, low, high }: Difference): string {
  return `${value.toFixed(5)} [${low.toFixed(5)}, ${high.toFixed(5)}]`;
}

function verdictOf({ low, high }: Difference): string {
  if (high < 0) return 'better';
  return low > 0 ? 'worse' : 'within noise';
}

function percent(share: number): string {
  return `${(100 * share).toFixed(1)} %`;
}
