/**
 * A report as a value: titled sections of facts, fields, tables, charts and texts. It is stated once and
 * written as text for a terminal, as HTML for a page, and as JSON for programs.
 */

export interface Document {
  /** Absent where the output of a command needs no title. */
  readonly title?: string;
  readonly subtitle?: Text;
  readonly blocks: readonly Block[];
  /** The record behind the document, which programs read as JSON. */
  readonly data: unknown;
}

/** The one place that shows a block, a column or a piece of text; both by default. */
type Place = 'terminal' | 'page';

/** Plain text may hold commands between backticks, which a page shows as code. */
export type Text = string | Piece | readonly (string | Piece)[];

export interface Piece {
  readonly text: string;
  readonly on?: Place;
  readonly style?: 'code' | 'small' | 'strong' | 'time' | 'warning' | 'none';
  /** A path of the dashboard. */
  readonly href?: string;
  /** The link to the present one of several choices. */
  readonly isCurrent?: boolean;
  /** The color of a dot before the text, as charts use it for that name. */
  readonly dot?: string;
  readonly badge?: Tone;
}

export type Tone = 'good' | 'bad' | 'wait' | 'live' | 'plain';

export interface Table {
  readonly columns: readonly TableColumn[];
  /** In each row one cell for each column. */
  readonly rows: readonly (readonly Cell[])[];
}

export interface TableColumn {
  /** A terminal shows no heads when all titles are empty. */
  readonly title: string;
  readonly unit?: string;
  /** Right by default. A page breaks long words of `wrap`. */
  readonly align?: 'left' | 'wrap';
  /** A terminal marks the best cells with a star and leaves room for one behind the others. */
  readonly marksBest?: boolean;
  /** A terminal too narrow for the table shows it without this column. */
  readonly isOptional?: boolean;
  readonly on?: Place;
}

type Emphasis = 'best' | 'chosen' | 'better' | 'worse' | 'undecided';

/** A terminal writes worse values in capitals. */
interface MarkedCell {
  readonly cell: Text;
  readonly emphasis: Emphasis;
}

export type Cell = Text | MarkedCell | Form;

/** A big number, its name, and small print. */
export type Fact = readonly [value: string, name: string, small?: string];

export interface Chart {
  readonly x: Axis;
  readonly y: Axis;
  /** `intervals` and `bands` draw low and high; `bars` are stacked. */
  readonly look: 'lines' | 'intervals' | 'bands' | 'bars';
  readonly series: readonly Series[];
  readonly size?: 'page' | 'half' | 'wide' | 'small';
}

interface Axis {
  readonly title: string;
  /** Labels of places 0, 1, 2...; a line break begins a second line. */
  readonly categories?: readonly string[];
  readonly min?: number;
  readonly max?: number;
  /** Draws a line at 0. */
  readonly hasZeroLine?: boolean;
}

export interface Series {
  readonly name: string;
  readonly color: string;
  readonly points: readonly ChartPoint[];
  readonly look?: 'dashed' | 'dots' | 'steps' | 'faint' | 'diamond' | 'guide';
}

export interface ChartPoint {
  readonly x: number;
  readonly y: number;
  readonly low?: number;
  readonly high?: number;
}

/** A chart with its title, and a table with its values. Only pages show figures. */
export interface Figure {
  readonly kind: 'figure';
  readonly title: string;
  readonly summary?: string;
  /** Several charts stand side by side, each with a title of its own. */
  readonly panels: readonly {
    readonly title?: string;
    readonly note?: string;
    readonly chart: Chart;
  }[];
  readonly table?: Table;
}

export interface Form {
  readonly kind: 'form';
  readonly action: string;
  readonly method: 'get' | 'post';
  readonly hidden?: Readonly<Record<string, string>>;
  readonly fields?: readonly FormField[];
  readonly buttons: readonly FormButton[];
}

interface FormField {
  readonly label: string;
  readonly name: string;
  readonly value: string;
  /** The values of a choice, or suggestions for a text. */
  readonly options?: readonly (string | { readonly value: string; readonly text: string })[];
  readonly isText?: boolean;
}

interface FormButton {
  readonly text: string;
  readonly name?: string;
  readonly value?: string;
  readonly label?: string;
  readonly isDanger?: boolean;
}

export type Block =
  | { readonly kind: 'facts'; readonly facts: readonly Fact[] }
  | { readonly kind: 'fields'; readonly fields: readonly (readonly [name: Text, value: Text])[] }
  | { readonly kind: 'table'; readonly label: string; readonly table: Table }
  | Figure
  | { readonly kind: 'figures'; readonly figures: readonly Figure[] }
  | {
      readonly kind: 'text';
      readonly text: Text;
      readonly look?: 'note' | 'none' | 'crumbs' | 'reason' | Emphasis;
      readonly on?: Place;
    }
  /** `log` is a scrolled region. */
  | { readonly kind: 'list'; readonly label?: string; readonly items: readonly Text[] }
  | { readonly kind: 'links'; readonly label: string; readonly links: Text }
  | {
      readonly kind: 'progress';
      readonly label: string;
      readonly done: number;
      readonly total: number;
    }
  | { readonly kind: 'details'; readonly summary: string; readonly blocks: readonly Block[] }
  | Form
  | Section;

export interface Section {
  readonly kind: 'section';
  readonly title: string;
  readonly note: Text;
  readonly blocks: readonly Block[];
  readonly on?: Place;
}

export function piecesOf(text: Text): readonly Piece[] {
  if (typeof text === 'string') return [{ text }];
  if ('text' in text) return [text];
  return text.map((piece) => (typeof piece === 'string' ? { text: piece } : piece));
}

export function markedCell(cell: Text | MarkedCell): { cell: Text; emphasis?: Emphasis } {
  return typeof cell === 'object' && 'cell' in cell ? cell : { cell };
}

/** A section without blocks is left out. */
export function section(title: string, note: Text, blocks: readonly Block[], on?: Place): Section {
  return { kind: 'section', title, note, blocks, ...(on === undefined ? {} : { on }) };
}

export function tableBlock(label: string, table: Table): Block {
  return { kind: 'table', label, table };
}

export function textBlock(
  text: Text,
  look?: 'note' | 'none' | 'crumbs' | 'reason' | Emphasis,
): Block {
  return { kind: 'text', text, ...(look === undefined ? {} : { look }) };
}

/** A sentence in place of something that is absent. */
export function absence(text: string): Block {
  return textBlock(text, 'none');
}

export function factsBlock(...facts: readonly Fact[]): Block {
  return { kind: 'facts', facts };
}

/** Names and values; a field whose value is null is left out. */
export function fieldsBlock(fields: readonly (readonly [name: Text, value: Text | null])[]): Block {
  return {
    kind: 'fields',
    fields: fields.flatMap(([name, value]) => (value === null ? [] : [[name, value] as const])),
  };
}

export function figure(title: string, summary: string, chart: Chart, table?: Table): Figure {
  return {
    ...{ kind: 'figure', title, summary, panels: [{ chart }] },
    ...(table === undefined ? {} : { table }),
  };
}

export function code(text: string): Piece {
  return { text, style: 'code' };
}

export function small(text: string): Piece {
  return { text, style: 'small' };
}

export function link(href: string, text: string): Piece {
  return { text, href };
}

/** The left column names its rows. */
export function leftColumn(title: string, unit?: string): TableColumn {
  return { title, align: 'left', ...(unit === undefined ? {} : { unit }) };
}

/** Columns by their titles: `<name` is aligned left, `~name` may break within words. */
export function columnsOf(...titles: readonly string[]): TableColumn[] {
  return titles.map((title) => {
    if (title.startsWith('<')) return { title: title.slice(1), align: 'left' };
    return title.startsWith('~') ? { title: title.slice(1), align: 'wrap' } : { title };
  });
}
