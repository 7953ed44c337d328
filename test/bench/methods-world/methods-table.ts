/** The methods' world as a Markdown table: gap closed by adgroup size, and differences to finetuning. */

import { REFERENCE_ARMS, type Cell, type CellComparison } from './method-runs.js';

export interface ComparedCell {
  readonly cell: Cell;
  readonly report: CellComparison;
}

/** One row of the table, over the seeds of a setting and click rate. */
export interface MethodRow {
  readonly name: string;
  /** By slice, all adgroups first; of the gap between global and oracle, mean over seeds. */
  readonly gapsClosed: readonly number[];
  /** Logloss per impression minus finetuning's, mean over seeds, with its 95 % interval. */
  readonly difference: { readonly value: number; readonly low: number; readonly high: number };
  readonly logloss: number;
}

/** @param methods in the order of the comparison, after the reference arms. */
export function methodRows(
  cells: readonly ComparedCell[],
  methods: readonly string[],
): MethodRow[] {
  const references = ['finetuned', ...REFERENCE_ARMS.filter((arm) => arm !== 'finetuned')];
  const names = [...references, ...methods];
  return names.map((name, place) => ({
    name,
    gapsClosed: sliceNames(cells).map((slice) =>
      mean(cells.map((cell) => gapClosed(cell, names, slice, place))),
    ),
    difference: pooled(cells, place),
    logloss: mean(cells.map(({ report }) => loglossOf(report, 'all', place))),
  }));
}

export function sliceNames(cells: readonly ComparedCell[]): string[] {
  return cells[0]?.report.slices.map(({ name }) => name) ?? [];
}

function gapClosed(
  { report }: ComparedCell,
  names: readonly string[],
  slice: string,
  place: number,
): number {
  const at = (name: string): number => loglossOf(report, slice, names.indexOf(name));
  return (at('global') - loglossOf(report, slice, place)) / (at('global') - at('oracle'));
}

function loglossOf({ slices }: CellComparison, name: string, place: number): number {
  const slice = slices.find((each) => each.name === name);
  return slice?.runs[place]?.metrics.logloss ?? NaN;
}

/** Seeds are independent: the mean's interval is the root of the summed squares of theirs over n. */
function pooled(cells: readonly ComparedCell[], place: number): MethodRow['difference'] {
  const all = cells.map(({ report }) => {
    const [slice] = report.slices;
    return slice?.runs[place]?.differences?.logloss ?? { value: 0, low: 0, high: 0 };
  });
  const value = mean(all.map((each) => each.value));
  const half = Math.hypot(...all.map(({ low, high }) => (high - low) / 2)) / all.length;
  return { value, low: value - half, high: value + half };
}

export function methodsTable(
  header: readonly string[],
  groups: ReadonlyMap<string, readonly ComparedCell[]>,
  methods: readonly string[],
): string {
  const lines = ['# Methods on the synthetic world', '', ...header, ''];
  for (const [title, cells] of groups) {
    const slices = sliceNames(cells);
    lines.push(
      `## ${title}`,
      '',
      `| arm or method | logloss | minus finetuned | ${slices.map((s) => `gap closed, ${s}`).join(' | ')} |`,
      `|---|---|---|${slices.map(() => '---|').join('')}`,
    );
    for (const { name, logloss, difference, gapsClosed } of methodRows(cells, methods)) {
      const { value, low, high } = difference;
      const interval = `${value.toFixed(5)} [${low.toFixed(5)}, ${high.toFixed(5)}]`;
      const gaps = gapsClosed.map((gap) => `${(100 * gap).toFixed(1)} %`).join(' | ');
      const against = name === 'finetuned' ? '' : interval;
      lines.push(`| ${name} | ${logloss.toFixed(4)} | ${against} | ${gaps} |`);
    }
    lines.push('');
  }
  return lines.join('\n');
}

function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}
