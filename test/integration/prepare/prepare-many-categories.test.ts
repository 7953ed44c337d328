// Logs of more categories than one query can join with their dictionaries in bounded memory.
import { expect, test } from 'vitest';
import { encodedAs, withFewJoins } from '../../../coordinator/prepare/feature-encoding.js';
import { hashBucketOf } from '../../../shared/features/packed-dictionary.js';
import { roomOfEachTest } from '../../fixtures/stores/prepared-store.js';

const room = roomOfEachTest();

const NAMES = Array.from({ length: 100 }, (_, column) => `c${column}`);
const BUCKETS = 10;
/** Every third feature has a least count, every fifth buckets for unseen values. */
const featureOf = (name: string, column: number) => ({
  ...{ name, kind: 'category', countMin: column % 3 === 1 ? 4 : 1 },
  ...(column % 5 === 0 ? { unseenBuckets: BUCKETS } : {}),
});
const configOf = () =>
  room.config({
    ...{ time: 'at', rowSplit: { by: 'time' }, features: NAMES.map(featureOf) },
    targetEncodings: { of: ['c0', ['c1', 'c2']] },
  });

/** Column 7 is always empty, and the last has a value of its own in each row. */
function valueOf(row: number, column: number): string {
  if (column === 7) return '';
  return column === NAMES.length - 1
    ? `own ${row}`
    : `é${(row * (column + 1)) % (3 + (column % 9))}`;
}

const HEADER = `ad,at,clicked,${NAMES.join(',')}\n`;
const logOf = (rows: readonly number[]): string =>
  HEADER +
  rows
    .map(
      (row) => `a${row % 4},${row},${row % 2},${NAMES.map((_, c) => valueOf(row, c)).join(',')}\n`,
    )
    .join('');

/** By descending count, and then by value. */
function dictionaryOf(values: readonly string[], countMin: number): string[] {
  const counts = new Map<string, number>();
  for (const value of values) if (value !== '') counts.set(value, (counts.get(value) ?? 0) + 1);
  return [...counts]
    .filter(([, count]) => count >= countMin)
    .sort(([a, ofA], [b, ofB]) => ofB - ofA || Buffer.compare(Buffer.from(a), Buffer.from(b)))
    .map(([value]) => value);
}

function expectedIds(column: number, values: readonly string[], dictionary: readonly string[]) {
  const buckets = featureOf('', column).unseenBuckets ?? 0;
  return values.map((value) => {
    const place = dictionary.indexOf(value);
    if (place >= 0) return buckets + place + 1;
    return value === '' || buckets === 0 ? 0 : hashBucketOf(value, buckets + 1);
  });
}

async function idsByColumn(): Promise<number[][]> {
  const ids = NAMES.map((): number[] => []);
  for (const { logRows, categoryIds } of (await room.stored()).rows)
    for (const [column, ofColumn] of ids.entries())
      for (const [place, row] of logRows.entries()) ofColumn[row] = categoryIds[column]![place]!;
  return ids;
}

test('100 categories are prepared within 512 MiB, each by its dictionary, and grow', async () => {
  const early = Array.from({ length: 60 }, (_, row) => row);
  const late = Array.from({ length: 8 }, (_, row) => 60 + row);
  await room.write('log.csv', logOf(early));
  const manifest = await room.prepare(configOf());
  expect(manifest.rowCount).toBe(60);
  const dictionaries = NAMES.map((_, column) =>
    dictionaryOf(
      early.map((row) => valueOf(row, column)),
      featureOf('', column).countMin,
    ),
  );
  const idsOf = (rows: readonly number[]) =>
    NAMES.map((_, column) =>
      expectedIds(
        column,
        rows.map((row) => valueOf(row, column)),
        dictionaries[column]!,
      ),
    );
  expect(await idsByColumn()).toEqual(idsOf(early));

  await room.write('late.csv', logOf(late));
  await room.append(configOf(), 'late.csv');
  // Only the last column has values that it did not have before.
  dictionaries.at(-1)?.push(...late.map((row) => valueOf(row, NAMES.length - 1)));
  expect(await idsByColumn()).toEqual(idsOf([...early, ...late]));
});

test('values of dictionaries alone count towards how many may be enumerated', async () => {
  const encodings = Array.from({ length: 200 }, (_, index) =>
    encodedAs(index, {
      ...{ name: `f${index}`, kind: 'category', rowCount: 10_008 },
      encoding: { by: 'dictionary', unseenBuckets: 10_000 },
    }),
  );
  const session = { memoryMiBPerThread: 1, run: () => Promise.resolve() };
  const found = await withFewJoins(encodings, {}, session);
  expect(found.filter(({ join }) => join !== null)).toEqual([]);
});
