/** Writes a document for a terminal: aligned tables and wrapped sentences, without charts and forms. */

import { at } from '../../../shared/base/arrays.js';
import { printableText } from '../../../shared/base/printable-text.js';
import {
  markedCell,
  piecesOf,
  type Block,
  type Cell,
  type Document,
  type Table,
  type TableColumn,
  type Text,
} from './document.js';

export const BEST_MARK = '*';
const OUTPUT_COLUMNS_DEFAULT = 100;

/** @param outputColumns width of the terminal; tables wider than that lose their optional columns */
export function asText(document: Document, outputColumns = OUTPUT_COLUMNS_DEFAULT): string {
  const { title, subtitle, blocks } = document;
  const heading = title === undefined ? [] : [title];
  if (subtitle !== undefined) heading.push(plainText(subtitle));
  const head = heading.length === 0 ? [] : [wrap(heading.join(': '), outputColumns)];
  return [...head, ...blocksText(blocks, outputColumns)].join('\n\n');
}

function blocksText(blocks: readonly Block[], outputColumns: number): string[] {
  return blocks.map((block) => blockText(block, outputColumns)).filter((text) => text !== '');
}

function blockText(block: Block, outputColumns: number): string {
  if ('on' in block && block.on === 'page') return '';
  switch (block.kind) {
    case 'facts': {
      const facts = block.facts.map(([value, name, small]) => {
        return `${value} ${name}${small === undefined ? '' : ` (${small})`}`;
      });
      return wrap(facts.join(', '), outputColumns);
    }
    case 'fields':
      return fieldsText(block.fields);
    case 'table':
      return textTable(block.table, outputColumns);
    case 'text':
      return wrap(plainText(block.text), outputColumns);
    case 'list':
      return block.items.map((item) => wrap(plainText(item), outputColumns)).join('\n');
    case 'section': {
      const { title, note, blocks } = block;
      const content = blocksText(blocks, outputColumns);
      const head = [title, plainText(note)].filter((text) => text !== '').join(': ');
      if (content.length === 0) return '';
      return [...(head === '' ? [] : [wrap(head, outputColumns)]), ...content].join('\n');
    }
    default:
      return '';
  }
}

function fieldsText(fields: readonly (readonly [Text, Text])[]): string {
  const names = fields.map(([name]) => plainText(name));
  const width = Math.max(0, ...names.map((name) => name.length));
  return fields
    .map(([, value], index) => `${at(names, index).padEnd(width)} ${plainText(value)}`.trimEnd())
    .join('\n');
}

/** Text without its styles, harmless to a terminal. */
function plainText(text: Text): string {
  return piecesOf(text)
    .map((piece) => (piece.on === 'page' ? '' : printableText(piece.text)))
    .join('');
}

/** At word boundaries; a continued line is indented. */
export function wrap(sentence: string, columnCount: number): string {
  const lines: string[] = [];
  let line = '';
  for (const word of sentence.split(' ')) {
    if (line.trim() !== '' && line.length + 1 + word.length > columnCount) {
      lines.push(line);
      line = `  ${word}`;
    } else line = line === '' ? word : `${line} ${word}`;
  }
  return [...lines, line].join('\n');
}

/** A table that is too wide loses its optional columns, then continues below with its left columns repeated. */
function textTable(table: Table, outputColumns = Infinity): string {
  const shown = columnsOn('terminal', table);
  const fits = (lines: readonly string[]): boolean =>
    lines.every((line) => line.length <= outputColumns);
  const whole = linesOf(shown);
  if (fits(whole)) return whole.join('\n');
  const kept = withColumns(shown, ({ isOptional = false }) => !isOptional);
  const leftCount = Math.max(
    1,
    kept.columns.findIndex(({ align }) => align === undefined),
  );
  const left = kept.columns.slice(0, leftCount);
  const linesWith = (columns: readonly TableColumn[]): string[] =>
    linesOf(withColumns(kept, (each) => left.includes(each) || columns.includes(each)));
  const folds: TableColumn[][] = [[]];
  for (const column of kept.columns.slice(leftCount)) {
    const last = folds.at(-1) ?? [];
    if (last.length > 0 && !fits(linesWith([...last, column]))) folds.push([column]);
    else last.push(column);
  }
  return folds.map((columns) => linesWith(columns).join('\n')).join('\n\n');
}

function linesOf({ columns, rows }: Table): string[] {
  const hasTitles = columns.some(({ title }) => title !== '');
  const hasUnits = columns.some(({ unit = '' }) => unit !== '');
  const texts = columns.map((column, index) => [
    ...(hasTitles ? [column.title] : []),
    ...(hasUnits ? [column.unit ?? ''] : []),
    ...rows.map((row) => cellText(at(row, index), column)),
  ]);
  const headCount = Number(hasTitles) + Number(hasUnits);
  const widths = texts.map((ofColumn) => Math.max(0, ...ofColumn.map((text) => text.length)));
  const [first = []] = texts;
  return first.map((_, line) =>
    columns
      .map(({ align, marksBest = false }, index) => {
        const width = at(widths, index);
        const whole = at(at(texts, index), line);
        // Heads leave room above the stars, as far as they fit.
        const isHead = marksBest && line < headCount && whole.length < width;
        const text = isHead ? `${whole} ` : whole;
        return align === undefined ? text.padStart(width) : text.padEnd(width);
      })
      .join('  ')
      .trimEnd(),
  );
}

/** A form has no text. */
function cellText(cell: Cell, { marksBest = false }: Partial<TableColumn> = {}): string {
  if (typeof cell === 'object' && 'kind' in cell) return '';
  const { cell: content, emphasis } = markedCell(cell);
  const text = plainText(content);
  const shown = emphasis === 'worse' ? text.toUpperCase() : text;
  return marksBest ? shown + (emphasis === 'best' ? BEST_MARK : ' ') : shown;
}

export function columnsOn(place: 'terminal' | 'page', table: Table): Table {
  return withColumns(table, (column) => (column.on ?? place) === place);
}

function withColumns({ columns, rows }: Table, isKept: (column: TableColumn) => boolean): Table {
  const kept = [...columns.keys()].filter((index) => isKept(at(columns, index)));
  return {
    columns: kept.map((index) => at(columns, index)),
    rows: rows.map((row) => kept.map((index) => at(row, index))),
  };
}
