// Numbers are written as text, and read from text and from SQL, as DuckDB does.
import { expect, test } from 'vitest';
import {
  booleanOfText,
  doubleOfSqlLiteral,
  doubleOfText,
  doubleText,
  floatText,
} from '../../shared/features/values/number-text.js';
import { randomStream, type RandomStream } from '../../shared/base/random.js';
import { withDuckDb } from '../fixtures/duckdb-for-test.js';
import { numberText } from '../fixtures/odd-values.js';

const NUMBER_COUNT = 60_000;
/** DuckDB 1.5 misprints three powers of two: 2^81, 2^91 and 2^807. */
const MISPRINTED = new Set([2 ** 81, 2 ** 91, 2 ** 807]);

function anyNumber(stream: RandomStream): number {
  switch (stream.below(6)) {
    case 0: {
      const bits = new DataView(new ArrayBuffer(8));
      bits.setUint32(0, stream.uint32());
      bits.setUint32(4, stream.uint32());
      return bits.getFloat64(0);
    }
    case 1:
      return stream.normal() * 10 ** (stream.below(40) - 20);
    case 2:
      return stream.uint32() / 4;
    case 3:
      return (stream.uint32() * 2 ** 21 + stream.below(2 ** 21)) / 2 ** stream.below(60);
    case 4:
      return (stream.below(2) === 0 ? 1 : -1) * 2 ** (stream.below(2000) - 1000);
    default:
      return stream.below(1_000_000) / 100;
  }
}

test.each(['DOUBLE', 'FLOAT'] as const)('the text of a %s', async (type) => {
  const stream = randomStream(3, 'texts of numbers', type);
  const isDouble = type === 'DOUBLE';
  const numbers = Array.from({ length: NUMBER_COUNT }, () => anyNumber(stream))
    .map((value) => (isDouble ? value : Math.fround(value)))
    .filter((value) => !Number.isNaN(value) && !(isDouble && MISPRINTED.has(Math.abs(value))));
  const texts = await withDuckDb(async (connection) => {
    await connection.run(`CREATE TABLE numbers (value ${type})`);
    const appender = await connection.createAppender('numbers');
    for (const value of numbers) {
      if (isDouble) appender.appendDouble(value);
      else appender.appendFloat(value);
      appender.endRow();
    }
    appender.closeSync();
    const reader = await connection.runAndReadAll('SELECT CAST(value AS VARCHAR) FROM numbers');
    return reader.getRows().map(([text]) => String(text));
  });
  const found = numbers.map(isDouble ? doubleText : floatText);
  expect(found.filter((text, index) => text !== texts[index]).slice(0, 10)).toEqual([]);
});

test('texts read as DOUBLE and as BOOLEAN', async () => {
  const stream = randomStream(4, 'texts read as numbers');
  const texts = Array.from({ length: NUMBER_COUNT }, () => numberText(stream));
  texts.push('t', 'F', 'yes', 'NO', 'y', 'n', 'True', ' true', 'on', '1', '0', '2', 'tr');
  const rows = await withDuckDb(async (connection) => {
    await connection.run('CREATE TABLE texts (value VARCHAR)');
    const appender = await connection.createAppender('texts');
    for (const text of texts) {
      appender.appendVarchar(text);
      appender.endRow();
    }
    appender.closeSync();
    const reader = await connection.runAndReadAll(
      'SELECT TRY_CAST(value AS DOUBLE), TRY_CAST(value AS BOOLEAN) FROM texts',
    );
    return reader.getRows();
  });
  const differences = texts.flatMap((text, index) => {
    const [number, truth] = rows[index] ?? [];
    const isSame =
      Object.is(doubleOfText(text), number) && booleanOfText(text) === (truth as boolean | null);
    return isSame ? [] : [`${JSON.stringify(text)}: ${String(number)}, ${String(truth)}`];
  });
  expect(differences.slice(0, 10)).toEqual([]);
});

test('numbers written in SQL become the same doubles as in DuckDB', async () => {
  const stream = randomStream(5, 'numbers in SQL');
  const literals = Array.from({ length: 8000 }, () =>
    stream.below(3) === 0
      ? `${stream.uint32()}.${stream.uint32()}${stream.uint32()}`
      : String(stream.normal() * 10 ** (stream.below(14) - 4)),
  );
  const doubles = await withDuckDb(async (connection) => {
    const found: unknown[] = [];
    for (let start = 0; start < literals.length; start += 500) {
      const batch = literals.slice(start, start + 500).map((text) => `(${text}::DOUBLE)`);
      found.push(...(await connection.runAndReadAll(`SELECT ${batch.join(', ')}`)).getRows()[0]!);
    }
    return found;
  });
  const differences = literals.filter(
    (literal, index) => !Object.is(doubleOfSqlLiteral(literal), doubles[index]),
  );
  expect(differences.slice(0, 10)).toEqual([]);
  expect(
    literals.filter((literal, index) => Number(literal) !== doubles[index]).length,
  ).toBeGreaterThan(100);
});
