/**
 * A table as a value, and its two writers: aligned text for a terminal, and HTML for a page. A report
 * states each table once. What only one of the two can show is said in the column or the cell.
 */

import { at } from '../../shared/base/arrays.js';
import { escapeHtml } from './html-text.js';

export interface Table {
  readonly columns: readonly TableColumn[];
  /** In each row one cell for each column. */
  readonly rows: readonly (readonly TableCell[])[];
}

export interface TableColumn {
  /** A terminal shows no heads when all titles are empty. */
  readonly title: string;
  /** Below the title; a page shows each line of it in small print. */
  readonly unit?: string;
  /** On a terminal, `right` by default. A page aligns its first column left and the others right. */
  readonly alignment?: 'left' | 'right';
  /** A terminal marks the best cells with a star and leaves room for one behind the others. */
  readonly marksBest?: boolean;
  /** A terminal too narrow for the table shows it without this column. */
  readonly isOptional?: boolean;
  /** The one place that shows this column; both by default. */
  readonly shownOn?: 'terminal' | 'page';
  /** The heads of a page, which has more room. */
  readonly page?: { readonly title?: string; readonly unit?: string };
}

/** A string is a cell without emphasis. */
export type TableCell = string | EmphasisedCell;

export interface EmphasisedCell {
  readonly text: string;
  /** HTML in place of the text: small print, line breaks, dots and drawings. */
  readonly page?: string;
  /** A class of the page's style sheet. A terminal writes what is worse in capitals. */
  readonly emphasis?: 'best' | 'chosen' | 'better' | 'worse' | 'undecided';
  /** How strongly a page tints the background, between 0 and 1. */
  readonly tint?: number;
}

export const BEST_MARK = '*';

/** @param outputColumns width of the terminal */
export function textTable(table: Table, outputColumns = Infinity): string {
  const whole = linesOf(shownOn('terminal', table));
  if (whole.every((line) => line.length <= outputColumns)) return whole.join('\n');
  const isKept = ({ isOptional = false }: TableColumn): boolean => !isOptional;
  return linesOf(withColumns(shownOn('terminal', table), isKept)).join('\n');
}

function linesOf({ columns, rows }: Table): string[] {
  const hasTitles = columns.some(({ title }) => title !== '');
  const hasUnits = columns.some(({ unit = '' }) => unit !== '');
  const texts = columns.map((column, index) => [
    ...(hasTitles ? [column.title] : []),
    ...(hasUnits ? [column.unit ?? ''] : []),
    ...rows.map((row) => textOf(at(row, index), column)),
  ]);
  const widths = texts.map((ofColumn) => Math.max(0, ...ofColumn.map((text) => text.length)));
  const [first = []] = texts;
  return first.map((_, line) =>
    columns
      .map(({ alignment }, index) => {
        const text = at(at(texts, index), line);
        const width = at(widths, index);
        return alignment === 'left' ? text.padEnd(width) : text.padStart(width);
      })
      .join('  ')
      .trimEnd(),
  );
}

function textOf(cell: TableCell, { marksBest = false }: TableColumn): string {
  const { text, emphasis } = asEmphasised(cell);
  const said = emphasis === 'worse' ? text.toUpperCase() : text;
  return marksBest ? said + (emphasis === 'best' ? BEST_MARK : ' ') : said;
}

/** @param kind `tight` where many columns share the page, `wrapped` where many of them hold texts */
export function htmlTable(table: Table, kind?: 'tight' | 'wrapped'): string {
  const { columns, rows } = shownOn('page', table);
  const heads = columns.map(headHtml).join('');
  const body = rows.map((row) => `<tr>${row.map(cellHtml).join('')}</tr>`).join('');
  const attribute = kind === undefined ? '' : ` class="${kind}"`;
  return `<table${attribute}><thead><tr>${heads}</tr></thead><tbody>${body}</tbody></table>`;
}

function headHtml(column: TableColumn): string {
  const { title, unit = '' } = { ...column, ...column.page };
  const lines = unit.split('\n').filter((line) => line !== '');
  const small = lines.map((line) => `<small>${escapeHtml(line)}</small>`);
  return `<th>${escapeHtml(title)}${small.join('')}</th>`;
}

function cellHtml(cell: TableCell): string {
  const { text, page, emphasis, tint } = asEmphasised(cell);
  const ofClass = emphasis === undefined ? '' : ` class="${emphasis}"`;
  const style =
    tint === undefined ? '' : ` style="background:rgba(var(--heat), ${tint.toFixed(3)})"`;
  return `<td${ofClass}${style}>${page ?? escapeHtml(text)}</td>`;
}

function asEmphasised(cell: TableCell): EmphasisedCell {
  return typeof cell === 'string' ? { text: cell } : cell;
}

function shownOn(place: 'terminal' | 'page', table: Table): Table {
  return withColumns(table, (column) => (column.shownOn ?? place) === place);
}

function withColumns({ columns, rows }: Table, isKept: (column: TableColumn) => boolean): Table {
  const kept = [...columns.keys()].filter((index) => isKept(at(columns, index)));
  return {
    columns: kept.map((index) => at(columns, index)),
    rows: rows.map((row) => kept.map((index) => at(row, index))),
  };
}
