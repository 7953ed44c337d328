// Expressions of the subset give the results of DuckDB within TRY(...), in type and value, on
// random rows.
import type { DuckDBConnection } from '@duckdb/node-api';
import { expect, test } from 'vitest';
import { randomStream, type RandomStream } from '../../shared/base/random.js';
import { compileExpression } from '../../shared/features/expression.js';
import {
  doubleOfSqlLiteral,
  doubleOfText,
  doubleText,
  type ColumnTypes,
  type RawRow,
} from '../../shared/features/encoding-rules.js';
import { withDuckDb } from '../fixtures/duckdb-for-test.js';
import { numberText, oddNumber, pick } from '../fixtures/odd-values.js';
import { anyExpression, EXPRESSION_TYPES, expressionRow } from '../fixtures/random-expressions.js';
import { createTypedTable } from '../fixtures/typed-log.js';

const ROW_COUNT = 20_000;
const ROWS_PER_BATCH = 2_000;
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
    for (let done = 0; done < ROW_COUNT; done += ROWS_PER_BATCH) {
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
  columns = COLUMNS,
): Promise<string | null> {
  const reader = await connection.runAndReadAll(
    `SELECT CAST(TRY((${sql})) AS VARCHAR), typeof(TRY((${sql}))) FROM log`,
  );
  const found = reader.getRows() as (string | null)[][];
  const compiled = compileExpression(sql, columns);
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
    const text = textOf(row)?.replace(/^\ufeff/, '') ?? null;
    if (MISPRINTED.test(text ?? '')) return false;
    return text !== (found[at]?.[0]?.replace(/^-nan$/, 'nan') ?? null);
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
  const rows = Array.from({ length: 500 }, () => ({
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
  const texts = Array.from({ length: 5_000 }, () => numberText(stream));
  const numbers = Array.from({ length: 5_000 }, () => oddNumber(stream) / pick(stream, [1, 7]));
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
