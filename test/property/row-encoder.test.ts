// The row encoder equals the SQL of prepare, bit for bit, on random rows of unusual values: the
// same ids, bags and numbers, and the same rows rejected for the same reasons.
import { expect, test } from 'vitest';
import { randomStream } from '../../shared/base/random.js';
import type { RawRow } from '../../shared/features/encoding-rules.js';
import { compareWithStore, encoderOfStore } from '../fixtures/encoded-store.js';
import {
  jsonBag,
  jsonLine,
  jsonNumber,
  jsonValue,
  momentText,
  oddNumber,
  oddText,
  pick,
  wholeNumber,
} from '../fixtures/odd-values.js';
import { prepareRoom } from '../fixtures/stores/prepared-store.js';
import { writeTypedLog } from '../fixtures/typed-log.js';

const TEXT_ROW_COUNT = 12_000;
const TYPED_ROW_COUNT = 9_000;
const EXPRESSION_ROW_COUNT = 6_000;
const TASKS = ['a', 'b', 'c', 'd', 'e', 'f', 'g', 'h', 'i', 'j', 'k', 'l'];

const WHOLE_TASKS = {
  rejectedRowsMax: 1_000_000,
  rowSplit: { by: 'hash', supportRowsMax: 1_000_000, queryRowsMax: 1_000_000 },
  taskSplit: { by: 'hash', validationShare: 0, testShare: 0.3 },
};

test('rows of text columns', async () => {
  const stream = randomStream(1, 'rows of text columns');
  const rows: RawRow[] = Array.from({ length: TEXT_ROW_COUNT }, () => ({
    ad: pick(stream, TASKS),
    clicked: stream.below(2),
    plain: jsonValue(stream),
    frequent: jsonValue(stream),
    bag: jsonBag(stream, '|'),
    list: jsonBag(stream, ', '),
    number: jsonNumber(stream, 4),
    size: jsonNumber(stream, 4),
    bare: jsonNumber(stream, 2, 3.6e38),
  }));
  const room = await prepareRoom();
  try {
    await room.write('log.jsonl', `${rows.map(jsonLine).join('\n')}\n`);
    const config = room.config({
      ...WHOLE_TASKS,
      logs: room.path('log.jsonl'),
      features: [
        { name: 'plain', kind: 'category' },
        { name: 'frequent', kind: 'category', countMin: 40 },
        { name: 'hashed', kind: 'category', column: 'plain', hashBuckets: 97 },
        { name: 'widely hashed', kind: 'category', column: 'plain', hashBuckets: 99_999_999 },
        { name: 'one bucket', kind: 'category', column: 'plain', hashBuckets: 2 },
        { name: 'seldom', kind: 'category', column: 'plain', countMin: 40, unseenBuckets: 11 },
        { name: 'seen', kind: 'category', column: 'plain', unseenBuckets: 1 },
        { name: 'bag', kind: 'bag', lengthMax: 3, countMin: 3 },
        { name: 'short bag', kind: 'bag', column: 'bag', lengthMax: 1 },
        { name: 'list', kind: 'bag', separator: ', ', lengthMax: 4, hashBuckets: 50 },
        { name: 'number', kind: 'number', missing: -1.5 },
        { name: 'size', kind: 'number', scale: 'log-standard', missing: 0 },
        { name: 'bucket', kind: 'number', column: 'size', scale: 'log-bucket', missing: 7 },
        { name: 'bare', kind: 'number', scale: 'none' },
        { name: 'bare bucket', kind: 'number', column: 'bare', scale: 'log-bucket' },
      ],
    });
    const manifest = await room.prepare(config);
    const encoder = await encoderOfStore(config, manifest);
    expect(encoder.broughtValues).toEqual([]);
    const found = await compareWithStore(config, encoder, rows);
    expect(found.differences).toEqual([]);
    expect(found.storedRowCount + found.rejectedRowCount).toBe(TEXT_ROW_COUNT);
    expect(found.rejectedRowCount).toBeGreaterThan(500);
  } finally {
    await room.remove();
  }
});

const TYPES = {
  ad: 'VARCHAR',
  clicked: 'BOOLEAN',
  text: 'VARCHAR',
  whole: 'BIGINT',
  small: 'SMALLINT',
  unsigned: 'UBIGINT',
  double: 'DOUBLE',
  float: 'FLOAT',
  flag: 'BOOLEAN',
  texts: 'VARCHAR[]',
  wholes: 'INTEGER[]',
  doubles: 'DOUBLE[]',
};

test('rows of typed columns', async () => {
  const stream = randomStream(2, 'rows of typed columns');
  const nullOr = <Value>(value: Value): Value | null => (stream.below(20) === 0 ? null : value);
  const nonFinite = (number: number): number =>
    stream.below(30) === 0 ? pick(stream, [NaN, Infinity, -Infinity]) : number;
  const list = <Value>(draw: () => Value): (Value | null)[] =>
    Array.from({ length: stream.below(6) }, () => nullOr(draw()));
  const rows: RawRow[] = Array.from({ length: TYPED_ROW_COUNT }, () => ({
    ad: pick(stream, TASKS),
    clicked: stream.below(2) === 0,
    text: nullOr(pick(stream, [oddText(stream), '[1,2]|x', '["a","b"]', '12'])),
    whole: nullOr(wholeNumber(stream, 64)),
    small: nullOr(wholeNumber(stream, 16)),
    unsigned: nullOr(pick(stream, [0, 1, 12, 2n ** 64n - 1n, 2n ** 63n, 2 ** 52])),
    double: nullOr(nonFinite(oddNumber(stream))),
    float: nullOr(nonFinite(Math.fround(oddNumber(stream)))),
    flag: nullOr(stream.below(2) === 0),
    texts: nullOr(list(() => pick(stream, ['a', 'b', '', '|', oddText(stream)]))),
    wholes: nullOr(list(() => Number(wholeNumber(stream, 32)))),
    doubles: nullOr(list(() => nonFinite(oddNumber(stream)))),
  }));
  const room = await prepareRoom();
  try {
    await writeTypedLog(room.path('log.parquet'), TYPES, rows);
    const config = room.config({
      ...WHOLE_TASKS,
      logs: room.path('log.parquet'),
      features: [
        ...['text', 'whole', 'small', 'unsigned', 'double', 'flag'].map((name) => ({
          name,
          kind: 'category',
          ...(stream.below(2) === 0 ? { hashBuckets: 1000 } : {}),
        })),
        ...['texts', 'wholes', 'doubles'].map((name) => ({ name, kind: 'bag', lengthMax: 3 })),
        { name: 'text parts', kind: 'bag', column: 'text', lengthMax: 2 },
        { name: 'whole number', kind: 'number', column: 'whole', missing: 0 },
        {
          name: 'unsigned number',
          kind: 'number',
          column: 'unsigned',
          missing: 0,
          scale: 'log-standard',
        },
        { name: 'double number', kind: 'number', column: 'double', missing: 0, scale: 'none' },
        {
          name: 'float number',
          kind: 'number',
          column: 'float',
          missing: -3.25,
          scale: 'log-standard',
        },
        { name: 'float bucket', kind: 'number', column: 'float', missing: 0, scale: 'log-bucket' },
        { name: 'small number', kind: 'number', column: 'small', scale: 'none' },
      ],
    });
    const manifest = await room.prepare(config);
    const encoder = await encoderOfStore(config, manifest);
    expect(encoder.broughtValues).toEqual([]);
    const found = await compareWithStore(config, encoder, rows);
    expect(found.differences).toEqual([]);
    expect(found.storedRowCount + found.rejectedRowCount).toBe(TYPED_ROW_COUNT);
    expect(found.rejectedRowCount).toBeGreaterThan(500);
  } finally {
    await room.remove();
  }
});

test('rows whose features are expressions', async () => {
  const stream = randomStream(7, 'rows whose features are expressions');
  const nullOr = <Value>(value: Value): Value | null => (stream.below(25) === 0 ? null : value);
  const textOr = <Value>(value: Value): Value | string =>
    stream.below(2) === 0 ? value : String(value);
  const rows: RawRow[] = Array.from({ length: EXPRESSION_ROW_COUNT }, () => ({
    ad: pick(stream, TASKS),
    clicked: stream.below(2),
    rating: nullOr(pick(stream, [textOr(stream.below(11) / 2), textOr(oddNumber(stream))])),
    year: nullOr(textOr(1900 + stream.below(130))),
    second: nullOr(textOr(stream.below(2 ** 31))),
    seen: nullOr(
      `${momentText(stream).replace(/\..*/, '')}${pick(stream, ['', 'Z', '+02:30', '-08'])}`,
    ),
    member: nullOr(pick(stream, [true, false, 'TRUE', 'false'])),
    title: nullOr(oddText(stream)),
  }));
  const room = await prepareRoom();
  try {
    await room.write('log.jsonl', `${rows.map(jsonLine).join('\n')}\n`);
    const config = room.config({
      ...WHOLE_TASKS,
      logs: room.path('log.jsonl'),
      features: [
        { name: 'decade', kind: 'category', expression: 'floor(year / 10)' },
        { name: 'hour', kind: 'category', expression: '(second // 3600) % 24' },
        { name: 'high', kind: 'category', expression: 'rating >= 3.5 OR member' },
        { name: 'weekday', kind: 'category', expression: 'dayofweek(seen)' },
        { name: 'initial', kind: 'category', expression: "upper(left(trim(title), 1)) || '.'" },
        { name: 'clock', kind: 'category', expression: 'hour(to_timestamp(second))' },
        // Always null, by an expression outside the subset.
        { name: 'parts', kind: 'category', expression: 'regexp_extract(NULL, title)' },
        { name: 'length', kind: 'number', expression: 'length(title)', missing: -1 },
        { name: 'age', kind: 'number', expression: '2026 - year' },
        {
          name: 'half',
          kind: 'number',
          expression: 'round(rating / 0.3, 2)',
          missing: 0,
          scale: 'log-standard',
        },
        {
          name: 'size',
          kind: 'number',
          expression: 'CASE WHEN member THEN rating ELSE -year END',
          missing: 0,
          scale: 'log-bucket',
        },
      ],
    });
    const manifest = await room.prepare(config);
    // By the types that prepare has inferred.
    const encoder = await encoderOfStore(config, manifest);
    expect(encoder.broughtValues.map(({ feature, reason }) => [feature, reason])).toEqual([
      ['parts', 'the function regexp_extract is not of the subset'],
    ]);
    const found = await compareWithStore(config, encoder, rows, { parts: null });
    expect(found.differences).toEqual([]);
    expect(found.storedRowCount + found.rejectedRowCount).toBe(EXPRESSION_ROW_COUNT);
    expect(found.rejectedRowCount).toBeGreaterThan(150);
  } finally {
    await room.remove();
  }
});
