/** The forms of texts, on the flaws that the tutorial lists. */

import { describe, expect, test } from 'vitest';
import {
  findBagSeparator,
  readNames,
  readNumbers,
  readTimes,
  readTruth,
  readWords,
} from '../../../coordinator/propose/text-forms.js';

describe('numbers', () => {
  test.each([
    ['plain', ['1', '-2.5', '3e2'], null, [1, -2.5, 300]],
    [
      'decimal commas',
      ['7,35', '5,04'],
      `TRY_CAST(replace("x", ',', '.') AS DOUBLE)`,
      [7.35, 5.04],
    ],
    [
      'decimal commas and dots of thousands',
      ['1.278,50', '3,5'],
      `TRY_CAST(replace(replace("x", '.', ''), ',', '.') AS DOUBLE)`,
      [1278.5, 3.5],
    ],
    ['thousands', ['1,278', '12'], `TRY_CAST(replace("x", ',', '') AS DOUBLE)`, [1278, 12]],
    [
      'currencies',
      ['$6.77', '14.70 EUR'],
      `TRY_CAST(replace(replace("x", ' EUR', ''), '$', '') AS DOUBLE)`,
      [6.77, 14.7],
    ],
  ])('%s', (_name, texts, expression, values) => {
    const read = readNumbers('x', texts);
    expect(read?.expression).toBe(expression);
    expect(texts.map((text) => read?.valueOf(text))).toEqual(values);
  });

  test('words among numbers are empty, and words alone are no numbers', () => {
    const texts = ['1', '2', '3', '4', '5', '6', '7', '8', '9', 'n/a'];
    expect(readNumbers('x', texts)).toMatchObject({
      expression: 'TRY_CAST("x" AS DOUBLE)',
      leavesOut: true,
    });
    expect(readNumbers('x', ['phone', 'tablet'])).toBeNull();
  });
});

test.each([
  [['2026-10-01 00:00:34'], null, 'hour("t")'],
  [['2026-10-01'], null, null],
  [['1759276834'], null, 'CAST(floor(CAST("t" AS DOUBLE) / 3600) AS BIGINT) % 24'],
  [
    ['1759276834123'],
    'CAST("t" AS DOUBLE) / 1000',
    'CAST(floor(CAST("t" AS DOUBLE) / 1000 / 3600) AS BIGINT) % 24',
  ],
  [
    ['01/10/2026 20:15', '31/10/2026 20:15'],
    `strptime("t", '%d/%m/%Y %H:%M')`,
    `hour(strptime("t", '%d/%m/%Y %H:%M'))`,
  ],
  [['10/31/2026'], `strptime("t", '%m/%d/%Y')`, null],
  [['1.10.2026'], `strptime("t", '%d.%m.%Y')`, null],
])('times such as %s', (texts, expression, hour) => {
  expect(readTimes('t', texts)).toMatchObject({ expression, hour });
});

test('texts of a file with types are parsed, since expressions do not take them for times', () => {
  const texts = ['2026-10-01 00:00:34', '2026-10-01 00:02:21'];
  expect(readTimes('t', texts, 'VARCHAR')?.hour).toBe(`hour(strptime("t", '%Y-%m-%d %H:%M:%S'))`);
  expect(readTimes('t', ['2026-10-01T00:00'], 'VARCHAR')?.hour).toBe(
    `hour(strptime("t", '%Y-%m-%dT%H:%M'))`,
  );
  expect(readTimes('t', [...texts, '2026-10-01'], 'VARCHAR')?.hour).toBeNull();
  expect(readTimes('t', texts, 'TIMESTAMP')?.hour).toBe('hour("t")');
});

test('numbers that are no times, and words, are not times', () => {
  expect(readTimes('t', ['14', '15'])).toBeNull();
  expect(readTimes('t', ['phone'])).toBeNull();
});

test('words for clicks become a condition, and 0 and 1 need none', () => {
  const texts = ['yes', 'No', 'yes', 'no', 'no', 'no', 'no', 'no', 'no', '?'];
  expect(readTruth('c', texts)?.expression).toBe(
    `CASE WHEN lower(trim(CAST("c" AS VARCHAR))) IN ('yes') THEN true ` +
      `WHEN lower(trim(CAST("c" AS VARCHAR))) IN ('no') THEN false END`,
  );
  expect(readTruth('c', ['0', '1'])?.expression).toBeNull();
  expect(readTruth('c', ['phone', 'tablet'])).toBeNull();
  expect(readTruth('c', ['yes', 'yes'])).toBeNull();
});

test('parts of a bag recur more often than whole texts', () => {
  const sports = ['running', 'cooking', 'travel', 'games'];
  const pairs = sports.flatMap((a) => sports.filter((b) => b !== a).map((b) => `${a} ${b}`));
  expect(findBagSeparator(pairs)).toBe(' ');
  expect(findBagSeparator(pairs.map((text) => text.replace(' ', '; ')))).toBe('; ');
  expect(findBagSeparator(['New York', 'Los Angeles', 'San Diego'])).toBeNull();
});

test('spellings are joined, and words for no adgroup are no name', () => {
  expect(readWords('s', [' NEWS.EXAMPLE', 'news.example'])).toEqual({
    expression: 'lower(trim(CAST("s" AS VARCHAR)))',
    reason: '2 spellings of 1 value',
  });
  expect(readWords('s', ['A', 'B']).expression).toBeNull();
  expect(readNames('s', ['AG-1', 'NULL']).expression).toBe(
    `CASE WHEN lower(trim(CAST("s" AS VARCHAR))) NOT IN ('null') THEN lower(trim(CAST("s" AS VARCHAR))) END`,
  );
});
