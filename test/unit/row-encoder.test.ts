import { createHash } from 'node:crypto';
import { expect, test } from 'vitest';
import { FeatureSchema } from '../../shared/config/data-config.js';
import { QianmoError } from '../../shared/base/errors.js';
import type { ColumnTypes } from '../../shared/features/encoding-rules.js';
import { hashBucketOf, packedDictionaryOf } from '../../shared/features/packed-dictionary.js';
import { rowEncoderOf, type RowEncoder } from '../../shared/features/row-encoder.js';
import type { EncodedFeature } from '../../shared/tasks/store-manifest.js';

const SITE: EncodedFeature = {
  name: 'site',
  kind: 'category',
  rowCount: 4,
  encoding: { by: 'dictionary' },
};
const TAGS: EncodedFeature = {
  name: 'tags',
  kind: 'bag',
  rowCount: 4,
  lengthMax: 3,
  encoding: { by: 'dictionary' },
};
const PRICE: EncodedFeature = {
  name: 'price',
  kind: 'number',
  scale: 'standard',
  mean: 10,
  deviation: 4,
};

function encoderOf(
  features: readonly Record<string, unknown>[] = [
    { name: 'site', kind: 'category' },
    { name: 'tags', kind: 'bag', lengthMax: 3 },
    { name: 'price', kind: 'number' },
  ],
  columns: ColumnTypes = {},
  encodedFeatures: readonly EncodedFeature[] = [SITE, TAGS, PRICE],
): RowEncoder {
  return rowEncoderOf({
    features: features.map((feature) => FeatureSchema.parse(feature)),
    encodedFeatures,
    dictionaries: new Map([
      ['site', packedDictionaryOf([null, 'news', 'shop', '\ufffdx'])],
      ['tags', packedDictionaryOf([null, 'red', 'blue', 'green'])],
    ]),
    columns,
  });
}

function failureOf(work: () => unknown): QianmoError {
  try {
    work();
  } catch (cause) {
    if (cause instanceof QianmoError) return cause;
  }
  throw new Error('nothing of ours was thrown');
}

test('rows are encoded into their places and overwrite previous content', () => {
  const encoder = encoderOf();
  const rows = encoder.allocate(2);
  for (let pass = 0; pass < 2; pass += 1) {
    encoder.encodeInto(rows, 1, { site: 'none', tags: ['red', 'red'], price: '2' });
    encoder.encodeInto(rows, 0, { site: 'news', tags: null, price: 10 });
    expect(rows.categoryIds).toEqual([Int32Array.of(1, 0)]);
    expect(rows.bagIds).toEqual([Int32Array.of(-1, -1, -1, 1, 1, -1)]);
    expect(rows.numbers).toEqual([Float32Array.of(0, -2)]);
  }
});

test('a value of another type than its column is refused', () => {
  const columns: ColumnTypes = { site: { log: 'typed', type: 'BIGINT' } };
  for (const site of [1.5, 2n ** 63n, true, 'shop'])
    expect(
      failureOf(() => encoderOf(undefined, columns).encode({ site, tags: null, price: 1 })).report
        .what,
    ).toBe('the column "site" does not hold a whole number of the type BIGINT');
});

test('a column of whole numbers has those of 64 bits, with all of their digits', () => {
  const expression = `'ad ' || "ad"`;
  const feature = {
    name: 'site',
    kind: 'category',
    expression,
    countMin: 1,
    hashBuckets: 1e8,
  };
  const encoded = { ...SITE, rowCount: 1e8, encoding: { by: 'hash', buckets: 1e8 } } as const;
  const encoder = encoderOf([feature], { ad: { log: 'text', inferred: 'BIGINT' } }, [encoded]);
  for (const ad of ['1781234567890123457', '-9223372036854775808', '9223372036854775807'])
    expect(encoder.encode({ ad }).categoryIds).toEqual([
      Int32Array.of(hashBucketOf(`ad ${ad}`, 1e8)),
    ]);
  for (const ad of ['9223372036854775808', '007'])
    expect(failureOf(() => encoder.encode({ ad })).report.what).toContain('of 64 bits');
  for (const ad of ['NA', 'nan', '-inf', true])
    expect(encoder.encode({ ad }).categoryIds).toEqual([Int32Array.of(0)]);
  const rounded = JSON.parse('[1781234567890123457, -9007199254740993]') as number[];
  for (const ad of rounded)
    expect(failureOf(() => encoder.encode({ ad })).report).toMatchObject({
      what: 'the column "ad" does not hold a number within 2^53, or a larger one as a text',
    });
});

test('a lone surrogate counts as the replacement character, as UTF-8 writes it', () => {
  const encoder = encoderOf();
  expect(encoder.encode({ site: '\ud800x', tags: null, price: 1 }).categoryIds[0]).toEqual(
    Int32Array.of(3),
  );
  expect(hashBucketOf('\ud800x', 1_000_003)).toBe(hashBucketOf('\ufffdx', 1_000_003));
});

test('the hash bucket is the MD5 of the text, whatever its length', () => {
  for (const letter of ['a', 'é', '漢', '😀'])
    for (let length = 0; length < 200; length += 1) {
      const text = letter.repeat(length);
      const digest = createHash('md5').update(text).digest();
      const expected = 1 + Number(digest.readBigUInt64LE(8) % 99_999_998n);
      expect(hashBucketOf(text, 99_999_999)).toBe(expected);
    }
});

test('the caller must supply values of a column whose type rows cannot be read in', () => {
  const encoder = encoderOf(undefined, {
    site: { log: 'typed', type: 'DECIMAL(9,2)' },
    tags: { log: 'typed', type: 'DECIMAL(9,2)[]' },
    price: { log: 'typed', type: 'DECIMAL(9,2)' },
  });
  expect(encoder.broughtValues.map(({ feature, form, reason }) => [feature, form, reason])).toEqual(
    [
      [
        'site',
        'text or null',
        'the column "site" has the type DECIMAL(9,2), which rows are not read in',
      ],
      [
        'tags',
        'list of texts or null',
        'the column "tags" has the type DECIMAL(9,2)[], which rows are not read in',
      ],
      [
        'price',
        'number or null',
        'the column "price" has the type DECIMAL(9,2), which rows are not read in',
      ],
    ],
  );
  const rows = encoder.encode({}, { site: 'news', tags: ['blue', null, 'red'], price: 14 });
  expect(rows.categoryIds).toEqual([Int32Array.of(1)]);
  expect(rows.bagIds).toEqual([Int32Array.of(2, 1, -1)]);
  expect(rows.numbers).toEqual([Float32Array.of(1)]);
  expect(failureOf(() => encoder.encode({}, { site: 'news' })).report.what).toBe(
    'no value was brought for the feature "tags"',
  );
  expect(failureOf(() => encoder.encode({}, { site: 5 })).report.what).toBe(
    'the value brought for the feature "site" has the wrong form',
  );
});
