/** Formats the page of the methods' world: gap closed by adgroup size, and paired differences, over seeds. */

import type { KeptArm, KeptCell, KeptInterval } from './kept-cells.js';

/** The arm and the method that others are compared with. */
export const FINETUNED = 'finetuned';
export const PLAIN_MAML = 'maml';
/** The arms at the two ends of the gap. */
const GLOBAL = 'global';
const ORACLE = 'oracle';
/**
 * The required closed gap of the recommended method divided by that of finetuning, in the strong
 * setting at a click rate of 10 %.
 */
const RATIO_MIN = 1.15;
/** If finetuning closes less than this share of the gap, a multiple of it is meaningless. */
const SHARE_MIN = 0.05;

/** Cells of one setting and click rate. */
export interface Group {
  readonly title: string;
  readonly cells: readonly KeptCell[];
  /** The seeds of `cells`; an arm without one of them counts as missing. */
  readonly seeds: readonly number[];
}

/** One arm over the seeds of a group that have it. */
interface ArmRow {
  readonly name: string;
  readonly seeds: readonly number[];
  readonly logloss: number;
  /**
   * The closed share of the gap between global and oracle, as the mean over seeds, by slice. The
   * first slice has all adgroups.
   */
  readonly gapsClosed: readonly number[];
  /**
   * The closed gap divided by that of finetuning, for all adgroups and the same seeds; null if
   * finetuning closes nearly nothing.
   */
  readonly ratio: number | null;
  /**
   * The difference in logloss per impression from finetuning and from plain MAML, as the mean over
   * seeds, by slice.
   */
  readonly minusFinetuned: readonly KeptInterval[];
  readonly minusMaml: readonly KeptInterval[];
}

/** Returns null if no cell has the arm. */
export function armRow(cells: readonly KeptCell[], name: string): ArmRow | null {
  const having = cells.filter(({ arms }) => arms[name] !== undefined);
  const [first] = having;
  if (first === undefined) return null;
  const bySlice = <Result>(of: (slice: number) => Result): Result[] =>
    first.slices.map((_, slice) => of(slice));
  const gapOf = (arm: string, slice: number): number =>
    mean(having.map((cell) => gapClosed(cell, arm, slice)));
  const differenceTo = (other: string): KeptInterval[] => {
    const compared = having.flatMap((cell) => armOf(cell, name).differences[other] ?? []);
    return compared.length === 0
      ? []
      : bySlice((slice) =>
          pooled(having.flatMap((cell) => armOf(cell, name).differences[other]?.[slice] ?? [])),
        );
  };
  return {
    name,
    seeds: having.map(({ seed }) => seed),
    logloss: mean(having.map((cell) => loglossOf(cell, name, 0))),
    gapsClosed: bySlice((slice) => gapOf(name, slice)),
    ratio: ratioOf(gapOf(name, 0), gapOf(FINETUNED, 0)),
    minusFinetuned: differenceTo(FINETUNED),
    minusMaml: differenceTo(PLAIN_MAML),
  };
}

function ratioOf(gap: number, ofFinetuning: number): number | null {
  return ofFinetuning < SHARE_MIN ? null : gap / ofFinetuning;
}

const NONE: KeptInterval = { value: NaN, low: NaN, high: NaN };

function armOf({ arms, setting, clickRate, seed }: KeptCell, name: string): KeptArm {
  const arm = arms[name];
  if (arm === undefined)
    throw new Error(`the cell ${setting}, ${clickRate}, seed ${seed} has no arm ${name}`);
  return arm;
}

function loglossOf(cell: KeptCell, name: string, slice: number): number {
  return armOf(cell, name).logloss[slice] ?? NaN;
}

function gapClosed(cell: KeptCell, name: string, slice: number): number {
  const at = (arm: string): number => loglossOf(cell, arm, slice);
  return (at(GLOBAL) - at(name)) / (at(GLOBAL) - at(ORACLE));
}

/**
 * Seeds are independent, so the half width of the mean's interval is the root of their summed
 * squares divided by n.
 */
function pooled(all: readonly KeptInterval[]): KeptInterval {
  const value = mean(all.map((each) => each.value));
  const half = Math.hypot(...all.map(({ low, high }) => (high - low) / 2)) / all.length;
  return { value, low: value - half, high: value + half };
}

interface PageSettings {
  readonly header: readonly string[];
  /** Arm names in page order. */
  readonly arms: readonly string[];
  /** The method that is compared with finetuning. */
  readonly offered: string;
  /** The methods compared with plain MAML by adgroup size. */
  readonly againstMaml: readonly string[];
  readonly footer: readonly string[];
}

export function methodsPage(groups: readonly Group[], settings: PageSettings): string {
  const { header, footer, offered } = settings;
  const lines = ['# Methods on the synthetic world', '', ...header, ''];
  lines.push(`## ${offered} against finetuning`, '', ...verdictLines(groups, offered), '');
  for (const group of groups) lines.push(...groupLines(group, settings));
  return [...lines, ...footer, ''].join('\n');
}

function verdictLines(groups: readonly Group[], offered: string): string[] {
  const lines = [
    `| world | seeds | gap closed by finetuned | gap closed by ${offered} | ratio | logloss difference from finetuned | verdict |`,
    '|---|---|---|---|---|---|---|',
  ];
  for (const { title, cells } of groups) {
    const row = armRow(cells, offered);
    const finetuned = row === null ? null : armRow(cellsWith(cells, offered), FINETUNED);
    const [difference] = row?.minusFinetuned ?? [];
    if (row === null || finetuned === null || difference === undefined) continue;
    lines.push(
      `| ${title} | ${row.seeds.join(', ')} | ${percent(finetuned.gapsClosed[0])} | ${percent(row.gapsClosed[0])} | ` +
        `${row.ratio?.toFixed(3) ?? ''} | ${intervalText(difference)} | ${verdictOf(difference)} |`,
    );
  }
  return lines;
}

function cellsWith(cells: readonly KeptCell[], name: string): KeptCell[] {
  return cells.filter(({ arms }) => arms[name] !== undefined);
}

function verdictOf({ low, high }: KeptInterval): string {
  if (high < 0) return 'better';
  return low > 0 ? 'worse' : 'within noise';
}

function groupLines(
  { title, cells, seeds }: Group,
  { arms, offered, againstMaml }: PageSettings,
): string[] {
  const [first] = cells;
  if (first === undefined) return [`## ${title}`, '', 'Not computed yet.', ''];
  const slices = first.slices.map(({ name }) => name);
  const rows = arms.map((name) => armRow(cells, name)).filter((row) => row !== null);
  const missing = arms.filter((name) => !rows.some((row) => row.name === name));
  const lines = [
    `## ${title}`,
    '',
    `| arm or method | logloss | difference from finetuned | gap closed / finetuned | ${slices.map((s) => `gap closed, ${s}`).join(' | ')} |`,
    `|---|---|---|---|${slices.map(() => '---|').join('')}`,
  ];
  for (const row of rows) {
    const fewer = row.seeds.length < seeds.length ? ` (seeds ${row.seeds.join(', ')})` : '';
    const [difference = NONE] = row.minusFinetuned;
    const compared =
      row.name === FINETUNED
        ? ' | '
        : `${intervalText(difference)} | ${row.ratio?.toFixed(2) ?? ''}`;
    const gaps = row.gapsClosed.map(percent).join(' | ');
    lines.push(`| ${row.name}${fewer} | ${row.logloss.toFixed(4)} | ${compared} | ${gaps} |`);
  }
  lines.push('', `Seeds ${seeds.join(', ')}.`);
  if (missing.length > 0) lines.push(`Not computed yet: ${missing.join(', ')}.`);
  return [...lines, '', ...mamlLines(cells, slices, againstMaml), ...seedLines(cells, offered)];
}

function mamlLines(
  cells: readonly KeptCell[],
  slices: readonly string[],
  names: readonly string[],
): string[] {
  const rows = names.map((name) => armRow(cells, name)).filter((row) => row !== null);
  const known = rows.filter(({ minusMaml }) => minusMaml.length > 0);
  if (known.length === 0) return [];
  return [
    `Logloss difference from ${PLAIN_MAML}, by number of support rows:`,
    '',
    `| method | ${slices.join(' | ')} |`,
    `|---|${slices.map(() => '---|').join('')}`,
    ...known.map(
      ({ name, minusMaml }) => `| ${name} | ${minusMaml.map(intervalText).join(' | ')} |`,
    ),
    '',
  ];
}

function seedLines(cells: readonly KeptCell[], offered: string): string[] {
  const having = cellsWith(cells, offered);
  if (having.length === 0) return [];
  const times = having.flatMap((cell) => {
    const ratio = ratioOf(gapClosed(cell, offered, 0), gapClosed(cell, FINETUNED, 0));
    return ratio === null ? [] : [`${ratio.toFixed(3)} (${cell.seed})`];
  });
  if (times.length === 0) return [];
  return [
    `Gap closed by ${offered} divided by that of finetuned, with the seed in brackets: ${times.join(', ')}.`,
    '',
  ];
}

/** Returns whether the method's claim holds in the available cells; null while a cell is missing. */
export function whatMustHold(
  groups: readonly Group[],
  offered: string,
  seedCount: number,
): readonly { readonly claim: string; readonly holds: boolean | null }[] {
  const rows = groups.map(({ title, cells }) => ({ title, row: armRow(cells, offered) }));
  const of = (word: string): typeof rows => rows.filter(({ title }) => title.startsWith(word));
  const judged = (chosen: typeof rows, holds: (row: ArmRow) => boolean): boolean | null => {
    const there = chosen.flatMap(({ row }) => (row === null ? [] : [row]));
    if (there.some((row) => !holds(row))) return false;
    const isWhole = chosen.every(({ row }) => row !== null && row.seeds.length >= seedCount);
    return isWhole ? true : null;
  };
  const high = (row: ArmRow): number => row.minusFinetuned[0]?.high ?? NaN;
  const low = (row: ArmRow): number => row.minusFinetuned[0]?.low ?? NaN;
  return [
    {
      claim: 'strong: better than finetuning, intervals below 0',
      holds: judged(of('strong'), (row) => high(row) < 0),
    },
    {
      claim: `strong, click rate 10 %: at least ${RATIO_MIN} times the gap that finetuning closes`,
      holds: judged(
        of('strong, click rate 10 %'),
        ({ ratio }) => ratio !== null && ratio >= RATIO_MIN,
      ),
    },
    {
      claim: 'nowhere worse than finetuning',
      holds: judged(rows, (row) => !(low(row) > 0)),
    },
  ];
}

function intervalText({ value, low, high }: KeptInterval): string {
  return `${value.toFixed(5)} [${low.toFixed(5)}, ${high.toFixed(5)}]`;
}

function percent(share: number | undefined): string {
  return `${(100 * (share ?? NaN)).toFixed(1)} %`;
}

function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}
