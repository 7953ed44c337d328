// Expressions of the subset give the results of DuckDB within TRY(...), in type and value, on
// random rows.
import type { DuckDBConnection } from '@duckdb/node-api';
import { expect, test } from 'vitest';
import { randomStream, type RandomStream } from '../../shared/base/random.js';
import {
  type ColumnTypes,
  doubleOfSqlLiteral,
  doubleOfText,
  doubleText,
  type RawRow,
} from '../../shared/features/encoding-rules.js';
import { compileExpression } from '../../shared/features/expression.js';
import { withDuckDb } from '../fixtures/duckdb-for-test.js';
import {
  BELOW_POWER_OF_TWO,
  dayText,
  momentText,
  numberText,
  oddNumber,
  oddText,
  pick,
  wholeNumber,
} from '../fixtures/odd-values.js';
import { createTypedTable } from '../fixtures/typed-log.js';

const EXPRESSION_TYPES = {
  i: 'INTEGER',
  j: 'INTEGER',
  b: 'BIGINT',
  c: 'BIGINT',
  d: 'DOUBLE',
  e: 'DOUBLE',
  v: 'VARCHAR',
  w: 'VARCHAR',
  numeral: 'VARCHAR',
  t: 'BOOLEAN',
  day: 'DATE',
  moment: 'TIMESTAMP',
} as const;

type Type = 'INTEGER' | 'BIGINT' | 'DOUBLE' | 'VARCHAR' | 'BOOLEAN';

const TYPES: readonly Type[] = ['INTEGER', 'BIGINT', 'DOUBLE', 'DOUBLE', 'VARCHAR', 'BOOLEAN'];

function expressionRow(stream: RandomStream): RawRow {
  const nullOr = <Value>(value: Value): Value | null => (stream.below(12) === 0 ? null : value);
  const number = (): number =>
    stream.below(12) === 0 ? pick(stream, [NaN, Infinity, -Infinity, -0]) : halves(stream);
  return {
    i: nullOr(wholeNumber(stream, 32)),
    j: nullOr(stream.below(7) - 3),
    b: nullOr(wholeNumber(stream, 64)),
    c: nullOr(stream.below(2001) - 1000),
    d: nullOr(number()),
    e: nullOr(number()),
    v: nullOr(text(stream)),
    w: nullOr(pick(stream, ['a', '', 'b', ' ', 'é', text(stream)])),
    numeral: nullOr(pick(stream, ['1', '0.5', '-2e3', 'nan', 'x', '', '1_000', '.5', ' 7 '])),
    t: nullOr(stream.below(2) === 0),
    day: nullOr(dayText(stream)),
    moment: nullOr(momentText(stream).replace(/\..*/, '')),
  };
}

function halves(stream: RandomStream): number {
  const number = stream.below(3) === 0 ? (stream.below(41) - 20) / 4 : oddNumber(stream);
  // In DuckDB, casting the number just below 2^31 to INTEGER overflows without an error.
  return number === BELOW_POWER_OF_TWO ? 0.75 : number;
}

function text(stream: RandomStream): string {
  if (stream.below(3) === 0) return oddText(stream);
  const letters = [
    'a',
    'b',
    'A',
    'ß',
    'Σ',
    'ς',
    'İ',
    'ǆ',
    'ŉ',
    '😀',
    ',',
    ' ',
    '\u00a0',
    '\ue000',
    '%',
    '.',
  ];
  return Array.from({ length: stream.below(8) }, () => pick(stream, letters)).join('');
}

/**
 * Half of the expressions have parts that fail on some rows. Those have no COALESCE and produce no
 * texts: where a part fails within TRY, DuckDB 1.5 crashes in COALESCE and reads freed memory of
 * texts. In the condition of a CASE, DuckDB evaluates parts in its own order and stops early, so that
 * conditions of those are columns.
 */
function anyExpression(stream: RandomStream, depth: number): string {
  return expression(stream, pick(stream, TYPES), depth, stream.below(2) === 0);
}

function expression(stream: RandomStream, type: Type, depth: number, mayFail: boolean): string {
  if (depth === 0) return leaf(stream, type, mayFail);
  const inner = (wanted: Type): string => expression(stream, wanted, depth - 1, mayFail);
  if (stream.below(5) === 0 && !(mayFail && type === 'VARCHAR'))
    return conditional(stream, type, inner, mayFail);
  const drawn = pick(stream, BY_TYPE[type](stream, inner));
  if (typeof drawn === 'string') return drawn;
  return mayFail ? pick(stream, drawn.failing) : leaf(stream, type, false);
}

type Inner = (type: Type) => string;

function conditional(stream: RandomStream, type: Type, inner: Inner, mayFail: boolean): string {
  const condition = (): string => (mayFail ? 't' : inner('BOOLEAN'));
  return pick(stream, [
    `CASE WHEN ${condition()} THEN ${inner(type)} ELSE ${inner(type)} END`,
    `CASE WHEN ${condition()} THEN ${inner(type)} WHEN ${condition()} THEN ${inner(type)} END`,
    `CASE j WHEN 1 THEN ${inner(type)} WHEN 2 THEN ${inner(type)} END`,
    `if(${condition()}, ${inner(type)}, ${inner(type)})`,
    `nullif(${inner(type)}, ${pick(stream, LITERALS[type])})`,
    `${pick(stream, ['greatest', 'least'])}(${inner(type)}, ${inner(type)})`,
    ...(mayFail ? [] : [`coalesce(${inner(type)}, ${inner(type)})`]),
  ]);
}

/** Next to a constant, DuckDB may rewrite a part so that it does not fail: `x + 7 = 9` to `x = 2`. */
function leaf(stream: RandomStream, type: Type, mayFail: boolean): string {
  const columns = Object.entries(EXPRESSION_TYPES).flatMap(([name, found]) =>
    found === type ? [name] : [],
  );
  return mayFail || stream.below(3) > 0 ? pick(stream, columns) : pick(stream, LITERALS[type]);
}

const LITERALS: Readonly<Record<Type, readonly string[]>> = {
  INTEGER: ['0', '1', '2', '7', '2147483647', '(-3)'],
  BIGINT: ['3000000000', '9223372036854775807', '5::BIGINT', 'CAST(0 AS BIGINT)'],
  DOUBLE: [
    '0.5::DOUBLE',
    '2e0',
    '1e300',
    '(-2.5)::DOUBLE',
    '0.1::DOUBLE',
    '3.141592653589793238::DOUBLE',
  ],
  VARCHAR: ["''", "'a'", "','", "'it''s'", "'é'", "'😀'"],
  BOOLEAN: ['true', 'FALSE'],
};

/** Expressions, and those that fail on some rows. */
type Drawn = string | { readonly failing: readonly string[] };

function wholes(type: 'INTEGER' | 'BIGINT', inner: Inner): Drawn[] {
  return [
    `round(${inner(type)})`,
    `CAST(${inner('BOOLEAN')} AS ${type})`,
    `TRY_CAST(${inner('DOUBLE')} AS ${type})`,
    `(${inner(type)} // 3)`,
    `(${inner(type)} % 7)`,
    {
      failing: [
        ...['+', '-', '*', '//', '%'].map(
          (operator) => `(${inner(type)} ${operator} ${inner(type)})`,
        ),
        `(- ${inner(type)})`,
        `abs(${inner(type)})`,
        `CAST(${inner('DOUBLE')} AS ${type})`,
        `CAST(${inner('BIGINT')} AS ${type})`,
      ],
    },
  ];
}

const PARTS = [
  'year',
  'quarter',
  'month',
  'week',
  'day',
  'dayofweek',
  'weekday',
  'isodow',
  'hour',
  'minute',
  'second',
];

const BY_TYPE: Readonly<Record<Type, (stream: RandomStream, inner: Inner) => readonly Drawn[]>> = {
  INTEGER: (_stream, inner) => wholes('INTEGER', inner),
  BIGINT: (stream, inner) => [
    ...wholes('BIGINT', inner),
    `extract(${pick(stream, PARTS)} FROM ${pick(stream, ['day', 'moment'])})`,
    `date_part('${pick(stream, [...PARTS, 'dow']).toUpperCase()}', moment)`,
    `${pick(stream, PARTS)}(${pick(stream, ['day', 'moment', 'coalesce(moment, day)'])})`,
    `hour(to_timestamp(${pick(stream, ['i', 'c', 'd'])}))`,
    `length(${inner('VARCHAR')})`,
  ],
  DOUBLE: (stream, inner) => [
    `${pick(stream, ['floor', 'ceil'])}(${inner(pick(stream, ['DOUBLE', 'BIGINT', 'INTEGER'] as const))})`,
    `${pick(stream, ['round', 'abs', '-'])}(${inner('DOUBLE')})`,
    `round(${inner('DOUBLE')}, ${pick(stream, ['0', '1', '2', '3'])})`,
    `(${inner('BIGINT')} / ${inner('INTEGER')})`,
    `CAST(${inner(pick(stream, ['INTEGER', 'BIGINT', 'BOOLEAN'] as const))} AS DOUBLE)`,
    `TRY_CAST(numeral AS DOUBLE)`,
    `sqrt(abs(${inner('DOUBLE')}))`,
    `(${inner('DOUBLE')} ${pick(stream, ['*', '+', '-'])} ${pick(stream, ['0.1', '2.75', '-1.5', '3.5823412341234123'])})`,
    `(${inner('DOUBLE')} ${pick(stream, ['+', '-', '*', '/', '%'])} ${inner(pick(stream, ['DOUBLE', 'BIGINT'] as const))})`,
    { failing: ['CAST(numeral AS DOUBLE)', `sqrt(${inner('DOUBLE')})`] },
  ],
  VARCHAR: (stream, inner) => {
    const part = (): string => inner('VARCHAR');
    return [
      `${pick(stream, ['lower', 'upper', 'trim', 'ltrim', 'rtrim'])}(${part()})`,
      `${pick(stream, ['substr', 'substring'])}(${part()}, ${1 + stream.below(4)}, ${stream.below(4)})`,
      `left(${part()}, ${stream.below(3)})`,
      `replace(${part()}, ${part()}, ${part()})`,
      `split_part(${part()}, ${pick(stream, ["','", "' '", 'w'])}, ${pick(stream, ['1', '2', '(-1)', 'j'])})`,
      `concat(${part()}, ${inner(pick(stream, ['INTEGER', 'DOUBLE', 'BOOLEAN'] as const))})`,
      `(${part()} || ${inner(pick(stream, ['VARCHAR', 'INTEGER', 'BOOLEAN'] as const))})`,
      `CAST(${inner(pick(stream, ['BIGINT', 'DOUBLE', 'BOOLEAN'] as const))} AS VARCHAR)`,
    ];
  },
  BOOLEAN: (stream, inner) => {
    const type = pick(stream, TYPES);
    const operator = pick(stream, ['=', '<>', '!=', '<', '<=', '>', '>=', '==']);
    const not = pick(stream, ['', 'NOT ']);
    const number = (): string => inner(pick(stream, ['DOUBLE', 'BIGINT', 'INTEGER'] as const));
    return [
      `(${inner('BOOLEAN')} ${pick(stream, ['AND', 'OR'])} ${inner('BOOLEAN')})`,
      `(NOT ${inner('BOOLEAN')})`,
      `(${inner(type)} IS ${not}NULL)`,
      `(${inner(type)} ${not}BETWEEN ${inner(type)} AND ${inner(type)})`,
      `(${inner(type)} ${not}IN (${inner(type)}, ${inner(type)}, ${inner(type)}))`,
      `(${inner('VARCHAR')} ${not}LIKE ${pick(stream, ["'a%'", "'%b_'", "'%.%'", "'_'"])})`,
      `${pick(stream, ['starts_with', 'ends_with', 'contains'])}(${inner('VARCHAR')}, ${inner('VARCHAR')})`,
      `(${number()} ${operator} ${number()})`,
      `(${inner(pick(stream, ['INTEGER', 'DOUBLE'] as const))} ${operator} ${pick(stream, ['3.5', '-1.5', '2.0', '.25'])})`,
      `(${pick(stream, ['day', 'moment'])} ${operator} moment)`,
      `(${inner(type)} ${operator} ${inner(type)})`,
    ];
  },
};

const BATCH_COUNT = 10;
const ROWS_PER_BATCH = 400;
const EXPRESSIONS_PER_BATCH = 24;
const DIFFERENCES_MAX = 12;
/** Powers of two that DuckDB 1.5 misprints. */
const MISPRINTED = /2\.4178516392292583e\+24|2\.4758800785707605e\+27/;

const COLUMNS: ColumnTypes = Object.fromEntries(
  Object.entries(EXPRESSION_TYPES).map(([name, type]) => [name, { log: 'typed', type } as const]),
);

test('random expressions', async () => {
  const stream = randomStream(6, 'random expressions');
  const differences: string[] = [];
  await withDuckDb(async (connection) => {
    // DuckDB moves a part that two expressions share out of TRY, where a failure ends the query.
    await connection.run("SET disabled_optimizers = 'common_subexpressions'");
    await connection.run("SET TimeZone = 'UTC'");
    for (let batch = 0; batch < BATCH_COUNT; batch += 1) {
      const rows = Array.from({ length: ROWS_PER_BATCH }, () => expressionRow(stream));
      await createTypedTable(connection, 'log', EXPRESSION_TYPES, rows);
      for (let drawn = 0; drawn < EXPRESSIONS_PER_BATCH; drawn += 1) {
        const sql = anyExpression(stream, 1 + stream.below(3));
        const difference = await differenceOf(connection, sql, rows);
        if (difference !== null) differences.push(difference);
      }
      if (differences.length >= DIFFERENCES_MAX) break;
    }
  });
  expect(differences.slice(0, DIFFERENCES_MAX)).toEqual([]);
});

/** Describes the first row on which the expression differs. Each expression has a separate query; see above. */
async function differenceOf(
  connection: DuckDBConnection,
  sql: string,
  rows: readonly RawRow[],
): Promise<string | null> {
  const reader = await connection.runAndReadAll(
    `SELECT CAST(TRY((${sql})) AS VARCHAR), typeof(TRY((${sql}))) FROM log`,
  );
  const found = reader.getRows() as (string | null)[][];
  const compiled = compileExpression(sql, COLUMNS);
  if (!compiled.isComputed) return `${sql}: ${compiled.reason}`;
  const { type, evaluate } = compiled;
  const foundType = found[0]?.[1];
  // DuckDB forgets the type of a value that is always null.
  if (foundType !== '"NULL"' && foundType !== type)
    return `${sql}: type ${String(foundType)}, ours ${type}`;
  const textOf = (row: RawRow): string | null => {
    const value = evaluate(row);
    if (value === null) return null;
    return type === 'DOUBLE' ? doubleText(Number(value)) : String(value);
  };
  // DuckDB's client drops a byte order mark; the sign of NaN depends on the processor.
  const index = rows.findIndex((row, at) => {
    const text =
      textOf(row)
        ?.replace(/^\ufeff/, '')
        .replaceAll('-nan', 'nan') ?? null;
    if (MISPRINTED.test(text ?? '')) return false;
    return text !== (found[at]?.[0]?.replaceAll('-nan', 'nan') ?? null);
  });
  const row = rows[index];
  if (row === undefined) return null;
  return `${sql} on ${describe(row)}: ${describe(found[index]?.[0])}, ours ${describe(textOf(row))}`;
}

function describe(value: unknown): string {
  return JSON.stringify(value, (_key, part: unknown) =>
    typeof part === 'bigint' || (typeof part === 'number' && !Number.isFinite(part))
      ? String(part)
      : part,
  );
}

const PRECEDENCE = [
  'c - j - i // 3 % 2',
  '-d::BIGINT',
  '- c % 5',
  '2 * c + 3 * j',
  'c + j * 2 - 7 // 2',
  'c / 4 * 2',
  'NOT c = j OR t AND c < 5',
  'NOT t IS NULL',
  't AND c = 1 OR j > 0',
  'c = j IS NULL',
  'c + 1 BETWEEN j AND j + 10 AND t',
  'c + 1 IN (1, 2, 3) AND NOT t',
  'c NOT IN (1, 2) = t',
  "v || c + 1 LIKE '%1' OR t",
  "v || 'a' = w || 'a'",
  'CASE c WHEN 1 THEN 2 ELSE 3 END + 1',
  'c -- a comment\n + 1',
  '"c" + "j"',
  "'it''s' || v",
  'd * 1.5 + .5',
  'c > 3.5 AND c <= -2.5 OR c = 7.0',
  'COALESCE(c, 0) == 0',
  'extract(YEAR from moment) // 10',
  'd ::BIGINT::VARCHAR',
  'd = 0.1 OR d BETWEEN -1.5 AND 2.25',
  'd IN (0.1, 1.5, -2.5)',
  'if(t, c, 0) + greatest(c, j, 3)',
];

test('expressions are read with the operator precedence of DuckDB', async () => {
  const stream = randomStream(8, 'precedence');
  const rows = Array.from({ length: 250 }, () => ({
    ...expressionRow(stream),
    c: stream.below(12) - 4,
    j: stream.below(7) - 3,
    i: stream.below(100) - 50,
  }));
  const differences = await withDuckDb(async (connection) => {
    await createTypedTable(connection, 'log', EXPRESSION_TYPES, rows);
    const found: (string | null)[] = [];
    for (const sql of PRECEDENCE) found.push(await differenceOf(connection, sql, rows));
    return found;
  });
  expect(differences.filter((difference) => difference !== null)).toEqual([]);
});

test('strptime of forms, on texts that almost have them', async () => {
  const stream = randomStream(3, 'written forms');
  const differences: string[] = [];
  await withDuckDb(async (connection) => {
    for (const form of ['%d.%m.%Y', '%-d/%-m/%Y %H:%M', '%Y%m%d%H', '%Y-%m-%dT%H.%M.%S', '(%d %m)'])
      for (const part of ['hour', 'day', 'month', 'year']) {
        const rows = Array.from({ length: 200 }, () => ({ v: writtenMoment(stream, form) }));
        await createTypedTable(connection, 'log', { v: 'VARCHAR' }, rows);
        const sql = `${part}(strptime(v, '${form}'))`;
        const difference = await differenceOf(connection, sql, rows);
        if (difference !== null) differences.push(difference);
      }
  });
  expect(differences).toEqual([]);
});

function writtenMoment(stream: RandomStream, form: string): string {
  const text = form.replaceAll(/%-?(.)/g, (_part, letter: string) => {
    if (letter === 'Y') return pick(stream, ['2026', '1999', '2024', '26', '10000']);
    const value = String(stream.below(letter === 'd' ? 33 : letter === 'm' ? 14 : 25));
    return stream.below(3) === 0 ? value : value.padStart(2, '0');
  });
  if (stream.below(3) > 0) return text;
  const at = stream.below(text.length + 1);
  return text.slice(0, at) + pick(stream, ['', ' ', '1', 'é']) + text.slice(at + stream.below(2));
}

test('numbers are written and read as DuckDB does', async () => {
  const stream = randomStream(4, 'texts of numbers');
  const texts = Array.from({ length: 3_000 }, () => numberText(stream));
  const numbers = Array.from({ length: 3_000 }, () => oddNumber(stream) / pick(stream, [1, 7]));
  const literals = Array.from({ length: 2_000 }, () =>
    stream.below(3) === 0
      ? `${stream.uint32()}.${stream.uint32()}${stream.uint32()}`
      : String(stream.normal() * 10 ** (stream.below(14) - 4)),
  );
  await withDuckDb(async (connection) => {
    const rows = texts.map((text, index) => ({ text, number: numbers[index] }));
    await createTypedTable(connection, 'log', { text: 'VARCHAR', number: 'DOUBLE' }, rows);
    const found = await connection.runAndReadAll(
      'SELECT TRY_CAST(text AS DOUBLE), CAST(number AS VARCHAR) FROM log',
    );
    expect(found.getRows()).toEqual(
      rows.map(({ text, number }) => [doubleOfText(text), doubleText(number ?? NaN)]),
    );
    for (let start = 0; start < literals.length; start += 500) {
      const batch = literals.slice(start, start + 500);
      const sql = `SELECT ${batch.map((text) => `(${text}::DOUBLE)`).join(', ')}`;
      const [doubles] = (await connection.runAndReadAll(sql)).getRows();
      expect(doubles).toEqual(batch.map(doubleOfSqlLiteral));
    }
  });
});

test.each([
  ['ln(d)', 'the function ln is not of the subset'],
  ['c * 0.5', 'a number with a point beside none: write 0.5::DOUBLE'],
  ['v > 5', 'values of the types VARCHAR and INTEGER side by side: write a CAST'],
  ['unknown + 1', 'the type that the logs give the column "unknown" is not known'],
  ['c < j < i', 'a comparison of a comparison needs parentheses'],
  ['v[1]', '"[1]" is not of the subset'],
  ['c + INTERVAL 1 DAY', 'INTERVAL is not of the subset here'],
  ['(SELECT 1)', 'SELECT is not of the subset here'],
  ['moment', 'a date or a timestamp as the result'],
  ["hour(strptime(v, '%d.%m.%Y %f'))", '"%f" in a form of strptime'],
])('the caller must supply the value of %s', (sql, reason) => {
  expect(compileExpression(sql, COLUMNS)).toEqual({ isComputed: false, reason });
});
