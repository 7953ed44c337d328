// Expressions of the subset give the results of DuckDB within TRY(...), in type and value, on
// random rows.
import type { DuckDBConnection } from '@duckdb/node-api';
import { expect, test } from 'vitest';
import { textOfValue } from '../../shared/features/expressions/casts.js';
import { compileExpression } from '../../shared/features/expressions/compile-expression.js';
import type { ColumnTypes } from '../../shared/features/values/column-type.js';
import type { RawRow } from '../../shared/features/values/raw-row.js';
import { randomStream } from '../../shared/base/random.js';
import { withDuckDb } from '../fixtures/duckdb-for-test.js';
import { anyExpression, EXPRESSION_TYPES, expressionRow } from '../fixtures/random-expressions.js';
import { createTypedTable } from '../fixtures/typed-log.js';

const ROW_COUNT = 100_000;
const ROWS_PER_BATCH = 2_000;
const EXPRESSIONS_PER_BATCH = 24;
const DIFFERENCES_MAX = 12;
/** Powers of two that DuckDB 1.5 misprints; see the test of number texts. */
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
    for (let done = 0; done < ROW_COUNT; done += ROWS_PER_BATCH) {
      const rows = Array.from({ length: ROWS_PER_BATCH }, () => expressionRow(stream));
      await createTypedTable(connection, 'log', EXPRESSION_TYPES, rows);
      const expressions = Array.from({ length: EXPRESSIONS_PER_BATCH }, () =>
        anyExpression(stream, 1 + stream.below(4)),
      );
      for (const sql of expressions) {
        const difference = await differenceOf(connection, sql, rows);
        if (difference !== null) differences.push(difference);
      }
      if (differences.length >= DIFFERENCES_MAX) break;
    }
  });
  expect(differences.slice(0, DIFFERENCES_MAX)).toEqual([]);
});

/**
 * Describes the first row on which the expression differs. Each expression has a separate query;
 * see above.
 */
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
  if (!compiled.isComputed)
    return compiled.reason.includes('date_trunc') ? null : `${sql}: ${compiled.reason}`;
  const { type, evaluate } = compiled;
  const foundType = found[0]?.[1];
  // DuckDB forgets the type of a value that is always null.
  if (foundType !== '"NULL"' && foundType !== type)
    return `${sql}: type ${String(foundType)}, ours ${type}`;
  const textOf = (row: RawRow): string | null => {
    const value = evaluate(row);
    return value === null ? null : textOfValue(type, value);
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
    typeof part === 'bigint'
      ? `${part}n`
      : typeof part === 'number' && !Number.isFinite(part)
        ? String(part)
        : part,
  );
}

test('letter case and spaces of every character', async () => {
  const points = Array.from({ length: 0x110000 }, (_, point) => point).filter(
    (point) => point > 0 && (point < 0xd800 || point > 0xdfff) && point !== 0xfeff,
  );
  const functions = ['lower', 'upper', 'trim'];
  const compiled = functions.map((name) => evaluatorOf(`${name}(v)`));
  const found = await withDuckDb(async (connection) => {
    const reader = await connection.runAndReadAll(
      `SELECT lower(chr(i::INTEGER)), upper(chr(i::INTEGER)), trim(chr(i::INTEGER))
        FROM range(1, 1114112) t(i) WHERE (i < 55296 OR i > 57343) AND i <> 65279`,
    );
    return reader.getRows();
  });
  const differences = points.flatMap((point, index) =>
    functions.flatMap((name, place) => {
      const ours = compiled[place]!({ v: String.fromCodePoint(point) });
      return ours === found[index]?.[place] ? [] : [`${name} of U+${point.toString(16)}`];
    }),
  );
  expect(differences.slice(0, DIFFERENCES_MAX)).toEqual([]);
});

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
  'c < j + 2 IS DISTINCT FROM t',
  'CASE c WHEN 1 THEN 2 ELSE 3 END + 1',
  'c -- a comment\n + 1',
  '"c" + "j"',
  "'it''s' || v",
  'd * 1.5 + .5',
  'c > 3.5 AND c <= -2.5 OR c = 7.0',
  '1_000 + c',
  'COALESCE(c, 0) == 0',
  'extract(YEAR from moment) // 10',
  'd ::BIGINT::VARCHAR',
  'c != 1 AND c <> 2',
  'd = 0.1 OR d BETWEEN -1.5 AND 2.25',
  'd IN (0.1, 1.5, -2.5)',
  "day > '2000-01-01' AND moment < '2024-06-01 12:00:00'",
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
    for (const sql of PRECEDENCE)
      found.push(await differenceOf(connection, sql.replace('\\n', '\n'), rows));
    return found;
  });
  expect(differences.filter((difference) => difference !== null)).toEqual([]);
});

test.each([
  ['ln(d)', 'the function ln is not of the subset'],
  ["regexp_matches(v, 'a')", 'the function regexp_matches is not of the subset'],
  ['c * 0.5', 'a number with a point that is not beside a DOUBLE: write it as 0.5::DOUBLE'],
  ['v > 5', 'values of the types VARCHAR and INTEGER side by side: write a CAST'],
  ["c = '5'", 'values of the types BIGINT and VARCHAR side by side: write a CAST'],
  ['unknown + 1', 'the type that the logs give the column "unknown" is not known'],
  ['c < j < i', 'a comparison of a comparison needs parentheses'],
  ['v[1]', '"[1]" is not of the subset'],
  ['c + INTERVAL 1 DAY', 'INTERVAL is not of the subset here'],
  ['(SELECT 1)', 'SELECT is not of the subset here'],
  ["date_trunc('day', moment) > moment", 'a comparison of date_trunc'],
])('the caller must supply the value of %s', (sql, reason) => {
  expect(compileExpression(sql, COLUMNS)).toEqual({ isComputed: false, reason });
});

function evaluatorOf(sql: string): (row: RawRow) => unknown {
  const compiled = compileExpression(sql, COLUMNS);
  if (!compiled.isComputed) throw new Error(compiled.reason);
  return compiled.evaluate;
}
