/** The columns of the logs: their names and types, and the search for a column that a config names. */

import { QianmoError, errorOf } from '../../shared/base/errors.js';
import { nearestName } from '../../shared/names/nearest-name.js';
import { type DuckSession, shortDuckMessage } from './duckdb-session.js';
import type { LogFile } from './log-files.js';
import { LINE_BYTE_COUNT_MAX, tooLongLine } from './long-lines.js';
import { literal } from './sql.js';

export interface LogColumn {
  readonly name: string;
  /** DuckDB's type if the file has one; null for text whose type must be inferred. */
  readonly type: string | null;
  /** The type in which texts are kept; VARCHAR by default. */
  readonly keptAs?: KeptType;
}

const JSON_SAMPLE_LINES = 1000;

/**
 * Reads each physical line as a row, whatever the compression. U+001F occurs in no well-formed log. In strict mode, lines of a
 * delimited file that end within quotes would have to end as all others do.
 */
export function linesOf(file: LogFile, limits = ''): string {
  const isStrict = file.format === 'jsonl';
  return `read_csv(${literal(file.path)}, columns = {'line': 'VARCHAR'}, auto_detect = false,
    header = false, delim = chr(31), quote = '', escape = '', buffer_size = ${LINE_BYTE_COUNT_MAX},
    strict_mode = ${isStrict}${limits})`;
}

/** @throws QianmoError of kind `data` if the file cannot be read or has no header. */
export async function columnsOf(file: LogFile, session: DuckSession): Promise<LogColumn[]> {
  try {
    switch (file.format) {
      case 'csv':
      case 'tsv':
        return await headerColumns(file, session);
      case 'jsonl':
        return await jsonColumns(file, session);
      case 'parquet':
        return await parquetColumns(file, session);
    }
  } catch (cause) {
    throw unreadableLog(file, cause);
  }
}

export function unreadableLog(file: LogFile, cause: unknown): unknown {
  if (cause instanceof QianmoError) return cause;
  const tooLong = tooLongIn(file, cause);
  if (tooLong !== null) return tooLong;
  if (cause instanceof Error && cause.message.includes('reached an invalid state'))
    return unlikeLineEnds(file);
  // Without the line, which may be long, or noise of a file that is no text.
  const found = shortDuckMessage(cause).replace(/Original Line: .*\n/, '');
  const cure = 'check that the file is whole and that its name or data.format says what it is';
  return errorOf('data', 'a log file cannot be read', {
    where: file.name,
    expected: `a whole file in the format ${file.format}`,
    found,
    cure: /not utf-8 encoded/i.test(found)
      ? `write it in UTF-8: iconv -f UTF-16 -t UTF-8, or -f WINDOWS-1252 where it is not UTF-16, as reports of ad platforms are; or ${cure}`
      : cure,
  });
}

/** A message about it names options of DuckDB. */
function unlikeLineEnds({ name }: LogFile): QianmoError {
  return errorOf('data', 'a log file cannot be read', {
    where: name,
    expected: 'rows that end alike, by LF or by CR and LF',
    found: 'rows that end in two ways, or a CR within a text without quotes',
    cure: "take CR out of the log: tr -d '\\r' < OLD > NEW",
  });
}

/** The report about a line that is too long, if that is the cause: the message of DuckDB names options of its own. */
export function tooLongIn(file: LogFile, cause: unknown): QianmoError | null {
  const message = cause instanceof Error ? cause.message : String(cause);
  if (!/Maximum line size|does not support a full read/.test(message)) return null;
  const numberIn = (pattern: RegExp): number | null => {
    const [, digits] = pattern.exec(message) ?? [];
    return digits === undefined ? null : Number(digits);
  };
  return tooLongLine(file, numberIn(/on Line: (\d+)/), numberIn(/Actual Size: ?(\d+)/));
}

async function headerColumns(file: LogFile, session: DuckSession): Promise<LogColumn[]> {
  const line = await headerOf(file, session);
  if (line === null) return [];
  const names = splitHeader(line, separatorOf(file, line));
  const repeated = names.find((name, index) => names.indexOf(name) !== index);
  if (repeated !== undefined)
    throw errorOf('data', 'two columns of a log have the same name', {
      where: `${file.name}, line 1`,
      found: `"${repeated}"`,
      cure: 'rename one of them',
    });
  return names.map((name) => ({ name, type: null }));
}

async function headerOf(file: LogFile, session: DuckSession): Promise<string | null> {
  const [line] = await session.row(`SELECT line FROM ${linesOf(file)} LIMIT 1`);
  return typeof line === 'string' ? withoutMarks(line) : null;
}

function withoutMarks(line: string): string {
  return line.replace(/^\ufeff/, '').replace(/\r$/, '');
}

/** Lines in which a header is looked for that the first one does not have: titles of reports are short. */
const LINES_ABOVE_HEADER_MAX = 20;

/**
 * Reports of ad platforms begin with a title and its dates.
 *
 * @param name the column that the first line lacks; null if any line of more than two fields is a header
 * @throws QianmoError of kind `data` if a line further down is the header.
 */
export async function requireHeaderFirst(
  file: LogFile,
  name: string | null,
  session: DuckSession,
): Promise<void> {
  if (file.format !== 'csv' && file.format !== 'tsv') return;
  const rows = await session.rows(
    `SELECT line FROM ${linesOf(file)} LIMIT ${LINES_ABOVE_HEADER_MAX + 1}`,
  );
  const lines = rows.map(([line]) => (typeof line === 'string' ? withoutMarks(line) : ''));
  const above = lines.findIndex((line) => {
    const names = splitHeader(line, separatorOf(file, line));
    return name === null ? names.length > 2 : names.includes(name);
  });
  if (above < 1) return;
  throw errorOf('data', 'the first line of a log is not its header', {
    where: file.name,
    expected: `the names of the columns${name === null ? '' : `, "${name}" among them`}`,
    found: `"${lines[0] ?? ''}"; line ${above + 1} has ${name === null ? 'more fields' : 'it'}`,
    cure: `remove the ${above === 1 ? 'line' : `${above} lines`} above the header: tail -n +${above + 1}`,
  });
}

/** The separator of fields in a delimited file, as its header shows it. */
export async function separatorIn(file: LogFile, session: DuckSession): Promise<string> {
  return separatorOf(file, (await headerOf(file, session)) ?? '');
}

/** Programs of countries with decimal commas write CSV with semicolons. A comma in the header decides for commas. */
function separatorOf(file: LogFile, header: string): string {
  if (file.format === 'tsv') return '\t';
  const isSplitBy = (separator: string): boolean => splitHeader(header, separator).length > 1;
  return [',', ';', '\t', '|'].find(isSplitBy) ?? ',';
}

/** The fields of one line, quoted by `"` if they contain the separator; `""` is a quote within. */
function splitHeader(line: string, separator: string): string[] {
  const fields: string[] = [];
  let field = '';
  let quoted = false;
  for (let at = 0; at < line.length; at += 1) {
    const letter = line.charAt(at);
    if (letter === '"' && quoted && line.charAt(at + 1) === '"') {
      field += '"';
      at += 1;
    } else if (letter === '"') quoted = !quoted;
    else if (letter === separator && !quoted) {
      fields.push(field);
      field = '';
    } else field += letter;
  }
  return [...fields, field];
}

async function jsonColumns(file: LogFile, session: DuckSession): Promise<LogColumn[]> {
  const rows = await session.rows(
    `SELECT DISTINCT unnest(TRY(json_keys(line))) AS name FROM
      (SELECT line FROM ${linesOf(file)} LIMIT ${JSON_SAMPLE_LINES}) ORDER BY name`,
  );
  return rows.map(([name]) => ({ name: String(name), type: null }));
}

export function parquetScan(file: LogFile): string {
  const hive = file.path.includes('=');
  return `read_parquet(${literal(file.path)}${hive ? ', hive_partitioning = true, hive_types_autocast = false' : ', hive_partitioning = false'})`;
}

async function parquetColumns(file: LogFile, session: DuckSession): Promise<LogColumn[]> {
  const rows = await session.rows(
    `SELECT column_name, column_type FROM (DESCRIBE SELECT * FROM ${parquetScan(file)})`,
  );
  return rows.map(([name, type]) => ({ name: String(name), type: String(type) }));
}

/** @throws QianmoError of kind `usage` that lists the columns and suggests the nearest. */
export function requireColumn(
  columns: readonly LogColumn[],
  name: string,
  configPath: string,
  fileName: string,
): LogColumn {
  const exact = columns.find((column) => column.name === name);
  if (exact !== undefined) return exact;
  const names = columns.map((column) => column.name);
  const nearest = nearestName(name, names);
  throw errorOf('usage', `the logs have no column "${name}"`, {
    where: `${configPath}, ${fileName}`,
    expected: `one of ${names.slice(0, 40).join(', ')}${names.length > 40 ? ', ...' : ''}`,
    found: `"${name}"`,
    cure:
      nearest === null
        ? `correct ${configPath}`
        : `correct ${configPath}: did you mean "${nearest}"?`,
  });
}

export interface FileColumns {
  readonly file: LogFile;
  /** The columns that the config uses, in the order of the config. */
  readonly used: readonly LogColumn[];
}

const NUMERIC = /^(U?(TINY|SMALL|BIG|HUGE)?INT(EGER)?|FLOAT|DOUBLE|DECIMAL\(.*\))$/;
const LIST = /\]$/;
const NESTED = /\]$|^(STRUCT|MAP|UNION)\b/;

/**
 * Reading a later file into the types of the first would silently round 3.5 to 4. Types that differ
 * become the wider number, or text whose type is inferred from every row.
 *
 * @throws QianmoError of kind `data` if a column is a list in one file and not in another.
 */
export async function commonColumns(
  files: readonly FileColumns[],
  session: DuckSession,
): Promise<LogColumn[]> {
  const names = files[0]?.used.map(({ name }) => name) ?? [];
  const columns: LogColumn[] = [];
  for (const [index, name] of names.entries()) {
    const fileByType = new Map(files.map(({ file, used }) => [used[index]?.type ?? null, file]));
    columns.push({ name, type: await commonType(name, fileByType, session) });
  }
  return columns;
}

async function commonType(
  name: string,
  fileByType: ReadonlyMap<string | null, LogFile>,
  session: DuckSession,
): Promise<string | null> {
  const types = [...fileByType.keys()];
  const [only = null] = types;
  if (types.length === 1) return only;
  const isAll = (kind: RegExp): boolean => types.every((type) => type !== null && kind.test(type));
  if (isAll(NUMERIC) || isAll(LIST)) {
    const each = types.map((type) => `SELECT NULL::${type} AS c`).join(' UNION ALL ');
    const [wider] = await session.row(`SELECT column_type FROM (DESCRIBE ${each})`);
    return String(wider);
  }
  if (types.some((type) => type !== null && NESTED.test(type)))
    throw errorOf('data', `the column "${name}" has another type in another log file`, {
      where: [...fileByType.values()].map((file) => file.name).join(', '),
      expected: 'one type in all files',
      found: types.map((type) => type ?? 'text').join(', '),
      cure: 'write the files again with one type for the column',
    });
  return null;
}

/** The part of its texts that a config needs of a column: their spelling, or the number that they are. */
export type ColumnNeed = 'text' | 'number';

/** The types in which texts of logs are kept. */
type KeptType = 'VARCHAR' | 'INTEGER' | 'BIGINT' | 'DOUBLE';

const SAMPLE_ROW_COUNT = 2048;
const OF_ANOTHER_TYPE = 'a text of the logs has another type than the first ones';

/** @returns whether a failure says that a log must be read as texts. */
export function isOfAnotherType(cause: unknown): boolean {
  return cause instanceof Error && cause.message.includes(OF_ANOTHER_TYPE);
}

/**
 * @param needs of each column; undefined where all of its text may be read
 * @param rows SQL of rows of a log whose columns `t0`, `t1`, ... are texts
 * @returns the type of each column; null without any row
 */
export async function keptTypesOf(
  needs: readonly (ColumnNeed | undefined)[],
  rows: string,
  session: DuckSession,
): Promise<KeptType[] | null> {
  const candidates = needs.map((need): readonly KeptType[] => {
    if (need === undefined) return [];
    return need === 'number' ? ['DOUBLE'] : ['INTEGER', 'BIGINT'];
  });
  const conditions = candidates.flatMap((types, index) =>
    types.map(
      (type) =>
        `count(t${index}) > 0 AND bool_and(t${index} IS NULL OR coalesce(${isSame(index, type)}, false))`,
    ),
  );
  if (conditions.length === 0) return needs.map(() => 'VARCHAR');
  const sampled = `(SELECT *, ${numbersOf(candidates)} FROM (${rows} LIMIT ${SAMPLE_ROW_COUNT}))`;
  const answers = await session.row(
    `SELECT ${[...conditions, 'count(*) > 0'].join(', ')} FROM ${sampled}`,
  );
  if (answers[conditions.length] !== true) return null;
  let place = 0;
  return candidates.map((types) => {
    const fitting = types.filter((_, nth) => answers[place + nth] === true);
    place += types.length;
    return fitting[0] ?? 'VARCHAR';
  });
}

/**
 * SQL of the kept values of rows.
 *
 * @param rows SQL of rows whose columns `t0`, `t1`, ... are texts
 */
export function keptRowsSql(types: readonly KeptType[], rows: string): string {
  const values = types.map((type, index) =>
    type === 'VARCHAR'
      ? `t${index}`
      : `CASE WHEN ${isSame(index, type)} THEN ${numberName(index, type)}
          WHEN t${index} IS NOT NULL THEN error('${OF_ANOTHER_TYPE}') END`,
  );
  const numbers = numbersOf(types.map((type) => (type === 'VARCHAR' ? [] : [type])));
  return `SELECT ${values.join(', ')} FROM ${numbers === '' ? `(${rows})` : `(SELECT *, ${numbers} FROM (${rows}))`}`;
}

function numberName(index: number, type: KeptType): string {
  return `"${type}${index}"`;
}

function numbersOf(types: readonly (readonly KeptType[])[]): string {
  return types
    .flatMap((ofColumn, index) =>
      ofColumn.map((type) => `TRY_CAST(t${index} AS ${type}) AS ${numberName(index, type)}`),
    )
    .join(', ');
}

/** SQL for whether the number says all of the text that is needed. `007` is another text than `7`. */
function isSame(index: number, type: KeptType): string {
  const number = numberName(index, type);
  return type === 'DOUBLE' ? `${number} IS NOT NULL` : `t${index} = CAST(${number} AS VARCHAR)`;
}

/** SQL of one field of `judged`, and the conditions under which it makes the row refused. */
export interface JudgedField {
  readonly sql: string;
  /** Pairs of a condition and SQL of the reason. */
  readonly refusals: readonly (readonly [condition: string, reason: string])[];
}

export class RawColumns {
  private readonly numberIndexes = new Set<number>();

  /** @param hasEmptyTexts false if the reader of the logs has replaced empty texts by null. */
  constructor(
    private readonly columns: readonly LogColumn[],
    private readonly hasEmptyTexts = true,
  ) {}

  index(name: string): number {
    const index = this.columns.findIndex((column) => column.name === name);
    if (index < 0) throw new Error(`the column ${name} was not read`);
    return index;
  }
  type(name: string): string | null {
    return this.columns[this.index(name)]?.type ?? null;
  }
  sql(name: string): string {
    return `"qm$${this.index(name)}"`;
  }
  /** An empty text counts as missing. */
  text(name: string): string {
    if (this.isNumber(name)) return `CAST(${this.sql(name)} AS VARCHAR)`;
    if (this.type(name) === null && !this.hasEmptyTexts) return this.sql(name);
    return `nullif(CAST(${this.sql(name)} AS VARCHAR), '')`;
  }
  /** A text, or the number that is kept in its place: either tells two values apart. */
  value(name: string): string {
    return this.isNumber(name) ? this.sql(name) : this.text(name);
  }
  number(name: string): string {
    if (this.isNumber(name)) return this.sql(name);
    this.numberIndexes.add(this.index(name));
    return `"qn$${this.index(name)}"`;
  }
  private isNumber(name: string): boolean {
    const column = this.columns[this.index(name)];
    return column !== undefined && isKeptNumber(column);
  }
  /**
   * SQL of `typed_logs` with the numbers that fields have asked for so far. A text is read as a number once,
   * however often fields and conditions name it.
   */
  source(): string {
    const numbers = [...this.numberIndexes].map(
      (index) => `, TRY_CAST("qm$${index}" AS DOUBLE) AS "qn$${index}"`,
    );
    return `(SELECT *${numbers.join('')} FROM typed_logs)`;
  }
}

/** True if the numbers of a column are kept, and not its texts. */
export function isKeptNumber({ keptAs = 'VARCHAR' }: LogColumn): boolean {
  return keptAs !== 'VARCHAR';
}

/** SQL of `the column "x" holds "abc", expected ...`. */
export function foundIn(name: string, expected: string, raw: RawColumns): string {
  return `${literal(`the column "${name}" holds `)} || coalesce('"' || CAST(${raw.sql(name)} AS VARCHAR) || '"', 'nothing') || ${literal(`, expected ${expected}`)}`;
}
