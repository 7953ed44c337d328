// Columns of a request are encoded as `RowEncoder` encodes whole rows, bit for bit, whatever form the
// columns have and however they are divided into context and candidates, with texts looked up by the addon
// and without it; what one refuses, the other does.
// Seen to fail: known texts of a feature with buckets of unseen values hashed by the addon, texts of a typed column looked up as they are, an absent value in place of the key's part,
// values written a place further, the second id of a pair read as the first.

import { expect, test } from 'vitest';
import { QianmoError } from '../../../shared/base/errors.js';
import { randomStream, type RandomStream } from '../../../shared/base/random.js';
import { FeatureSchema } from '../../../shared/config/data-config.js';
import { packedDictionaryOf } from '../../../shared/features/packed-dictionary.js';
import { rowEncoderOf } from '../../../shared/features/row-encoder.js';
import { ModelConfigSchema } from '../../../shared/models/model-config.js';
import { modelSpecOf } from '../../../shared/models/model-spec.js';
import type { EncodedFeature } from '../../../shared/tasks/store-manifest.js';
import type { TargetEncoding } from '../../../shared/tasks/target-encoding.js';
import {
  columnOfTexts,
  NULL_START,
  type CandidateColumn,
} from '../../../worker/serving/candidate-columns.js';
import { withDerived, RequestEncoder } from '../../../worker/serving/server/encoded-request.js';
import { requestLayoutOf } from '../../../worker/serving/ranking-request.js';
import { RefusedRequest } from '../../../worker/serving/server/refused-request.js';
import { expectSame } from '../../fixtures/expect-same.js';
import { compiledAddon } from '../../fixtures/serving/compiled-addon.js';

const CASES = 600;
const WORDS = ['news', 'shop', 'red', 'blue', 'größe', 'never seen', '', '7', '1.5', '2026-01-02'];
const KNOWN = [null, 'news', 'shop', 'red', 'blue', 'größe', '7', '1.5', '2026-01-02', 'a1', 'b2'];
const UNSEEN_BUCKETS = 5;

const FEATURES = [
  { name: 'site', kind: 'category' },
  { name: 'day', kind: 'category' },
  { name: 'hashed', kind: 'category', hashBuckets: 50 },
  { name: 'rare', kind: 'category', unseenBuckets: UNSEEN_BUCKETS },
  { name: 'upper', kind: 'category', expression: "lower(site) || '-' || device" },
  { name: 'advertiser', kind: 'category' },
  { name: 'odd', kind: 'category', column: 'blob' },
  { name: 'price', kind: 'number' },
  { name: 'bucket', kind: 'number', scale: 'log-bucket', missing: 0, column: 'price2' },
  { name: 'tags', kind: 'bag', lengthMax: 3 },
  { name: 'words', kind: 'bag', lengthMax: 2, separator: ' ' },
].map((feature) => FeatureSchema.parse(feature));

const rowCount = KNOWN.length;
const dictionary = { encoding: { by: 'dictionary' } } as const;
const ENCODED: readonly EncodedFeature[] = [
  { name: 'site', kind: 'category', rowCount, ...dictionary },
  { name: 'day', kind: 'category', rowCount, ...dictionary },
  { name: 'hashed', kind: 'category', rowCount: 51, encoding: { by: 'hash', buckets: 50 } },
  {
    ...{ name: 'rare', kind: 'category', rowCount: rowCount + UNSEEN_BUCKETS },
    encoding: { by: 'dictionary', unseenBuckets: UNSEEN_BUCKETS },
  },
  { name: 'upper', kind: 'category', rowCount, ...dictionary },
  { name: 'advertiser', kind: 'category', rowCount, ...dictionary },
  { name: 'odd', kind: 'category', rowCount, ...dictionary },
  { name: 'price', kind: 'number', scale: 'standard', mean: 3, deviation: 2 },
  { name: 'bucket', kind: 'category', rowCount: 129, encoding: { by: 'log-bucket' } },
  { name: 'tags', kind: 'bag', rowCount, lengthMax: 3, ...dictionary },
  { name: 'words', kind: 'bag', rowCount, lengthMax: 2, ...dictionary },
  ...(['rate', 'count'] as const).flatMap((input) => [
    encoding(`target.site.${input}`, { of: ['site'], input }),
    encoding(`target.hashed+upper.${input}`, { of: ['hashed', 'upper'], input }),
    encoding(`target.site+hashed.${input}`, { of: ['site', 'hashed'], input }),
  ]),
];

function encoding(
  name: string,
  encodes: { of: string[]; input: 'rate' | 'count' },
): EncodedFeature {
  return { name, kind: 'number', scale: 'none', mean: 0, deviation: 1, encodes };
}

/** Encodings of every value of the first category, and of every second pair. */
function encodingOf(firstCount: number, secondCount: number | null): TargetEncoding {
  const places = Array.from({ length: firstCount * (secondCount ?? 1) }, (_, place) => place);
  const kept = places.filter((place) => secondCount === null || place % 2 === 0);
  const [first, second] = [
    Int32Array.from(kept, (place) => Math.floor(place / (secondCount ?? 1))),
    Int32Array.from(kept, (place) => place % (secondCount ?? 1)),
  ];
  return {
    ids: secondCount === null ? [first] : [first, second],
    rates: Float32Array.from(kept, (place) => Math.sin(place + 1)),
    counts: Float32Array.from(kept, (place) => place + 1),
  };
}

const encoder = rowEncoderOf({
  features: FEATURES,
  encodedFeatures: ENCODED,
  dictionaries: new Map([
    ...['site', 'day', 'upper', 'advertiser', 'odd', 'tags', 'words'].map(
      (name) => [name, packedDictionaryOf(KNOWN)] as const,
    ),
    ['rare', packedDictionaryOf([...Array<null>(UNSEEN_BUCKETS).fill(null), ...KNOWN])] as const,
  ]),
  targetEncodings: new Map([
    ['encodings/site', encodingOf(rowCount, null)],
    ['encodings/hashed+upper', encodingOf(51, rowCount)],
    ['encodings/site+hashed', encodingOf(rowCount, 51)],
  ]),
  columns: {
    ...{ site: { log: 'text', inferred: 'VARCHAR' }, device: { log: 'text', inferred: 'VARCHAR' } },
    ...{ day: { log: 'typed', type: 'DATE' }, blob: { log: 'typed', type: 'BLOB' } },
  },
});
const spec = modelSpecOf(
  ModelConfigSchema.parse({ kind: 'fm', embeddingWidth: 2, hiddenWidths: [], personal: ['bias'] }),
  ENCODED,
);
const addon = await compiledAddon();
const manifest = { taskColumns: ['advertiser', 'adgroup'] };
const bundle = { manifest, model: { spec }, encoder } as unknown as ConstructorParameters<
  typeof RequestEncoder
>[0];

/** Mostly a value that the column may hold. */
function valueOf(random: RandomStream, column: string): unknown {
  if (random.below(60) === 0) return [true, 1e300, {}.constructor.name, -1][random.below(4)];
  const word = () => WORDS[random.below(WORDS.length)]!;
  const orNull = (value: unknown) => (random.below(6) === 0 ? null : value);
  if (column === 'price') return random.below(12) / 4 - 1;
  if (column === 'price2') return orNull(random.below(2) === 0 ? random.below(100) - 50 : '12.5');
  if (column === 'day') return orNull('2026-01-02');
  if (column === 'tags')
    return orNull(Array.from({ length: random.below(6) }, () => orNull(word())));
  if (column === 'words') return orNull(`${word()} ${word()}  ${word()}`);
  return orNull(word());
}

const COLUMNS = [
  'site',
  'day',
  'hashed',
  'rare',
  'device',
  'odd',
  'price',
  'price2',
  'tags',
  'words',
];

/** The column in another form, where it has one. */
function formed(random: RandomStream, values: readonly unknown[]): CandidateColumn {
  const isOf = (type: string) => values.every((value) => value === null || typeof value === type);
  if (values.length === 0 || random.below(2) === 0) return { form: 'values', values };
  if (isOf('number'))
    return {
      form: 'numbers',
      numbers: Float64Array.from(values, (value) => (value ?? NaN) as number),
    };
  if (!isOf('string')) return { form: 'values', values };
  const texts = values.map((value) => (value ?? '') as string);
  const column = columnOfTexts(texts);
  for (const [place, value] of values.entries())
    if (value === null) column.spans[2 * place] = NULL_START;
  return column;
}

/** What `RowEncoder` makes of the rows, at the places of the request; null if it refuses one. */
function expectedOf(rows: readonly Record<string, unknown>[], contextFeatures: readonly string[]) {
  const encoded = encoder.allocate(rows.length);
  try {
    for (const [at, row] of rows.entries()) encoder.encodeInto(encoded, at, row, row);
  } catch (error) {
    if (error instanceof QianmoError) return null;
    throw error;
  }
  const layout = requestLayoutOf(spec, contextFeatures);
  const columns = [...encoded.categoryIds, ...encoded.bagIds];
  const ofSide = (side: 'context' | 'candidate') => {
    const count = side === 'context' ? 1 : rows.length;
    return Array.from({ length: count }, (_, row) => ({
      ids: layout.ids.flatMap((place, feature) =>
        place.side === side
          ? [...columns[feature]!.subarray(row * place.placeCount, (row + 1) * place.placeCount)]
          : [],
      ),
      numbers: layout.numbers.flatMap((place, feature) =>
        place.side === side ? [encoded.numbers[feature]![row]!] : [],
      ),
    }));
  };
  const joined = (side: 'context' | 'candidate') => ({
    ids: ofSide(side).flatMap(({ ids }) => ids),
    numbers: ofSide(side).flatMap(({ numbers }) => numbers),
  });
  return { context: joined('context'), candidates: joined('candidate') };
}

function foundOf(
  body: Parameters<RequestEncoder['encode']>[0],
  contextFeatures: readonly string[],
) {
  const { idCounts, numberCounts } = requestLayoutOf(spec, contextFeatures);
  try {
    const count = body.candidateCount;
    const request = new RequestEncoder(bundle, contextFeatures, addon).encode(
      body,
      new Int32Array(count),
      (_, refusal) => {
        throw new RefusedRequest(refusal);
      },
    );
    return {
      context: { ids: [...request.contextIds], numbers: [...request.contextNumbers] },
      candidates: {
        ids: [...request.candidateIds.subarray(0, count * idCounts.candidate)],
        numbers: [...request.candidateNumbers.subarray(0, count * numberCounts.candidate)],
      },
    };
  } catch (error) {
    if (error instanceof RefusedRequest) return null;
    throw error;
  }
}

test('columns are encoded as rows are', () => {
  const outcomes = { encoded: 0, refused: 0 };
  for (let seed = 0; seed < CASES; seed += 1) {
    const random = randomStream(seed, 'a request in columns');
    const count = 1 + random.below(6);
    const left = random.below(30) === 0 ? COLUMNS[random.below(COLUMNS.length)] : undefined;
    const names = COLUMNS.filter((name) => name !== left);
    const ofContext = names.filter(() => random.below(3) === 0);
    const context = Object.fromEntries(ofContext.map((name) => [name, valueOf(random, name)]));
    const own = new Map(
      names
        .filter((name) => !ofContext.includes(name))
        .map((name) => [name, Array.from({ length: count }, () => valueOf(random, name))]),
    );
    if (random.below(3) === 0)
      own.set(
        'advertiser',
        Array.from({ length: count }, () => valueOf(random, 'advertiser')),
      );
    for (const values of own.values())
      if (random.below(40) === 0) values[random.below(count)] = undefined;
    const keys = Array.from({ length: count }, (_, place) => ['a1', 'b2'][place % 2]! + '\u001fx');
    const rows = keys.map((key, place) => {
      const [advertiser, adgroup] = key.split('\u001f');
      const ofCandidate = [...own].flatMap(([name, values]) =>
        values[place] === undefined ? [] : [[name, values[place]]],
      );
      return { advertiser, adgroup, ...context, ...(Object.fromEntries(ofCandidate) as object) };
    });
    const contextFeatures = withDerived(
      encoder.features.flatMap(({ name, column }) =>
        column !== null && Object.hasOwn(context, column) ? [name] : [],
      ),
      encoder,
    );
    const features = [...own].map(([name, values]): [string, CandidateColumn] => [
      name,
      values.includes(undefined) ? { form: 'values', values } : formed(random, values),
    ]);
    const expected = expectedOf(rows, contextFeatures);
    const body = {
      ...{ context, candidateCount: count, features: new Map(features) },
      ...{ adgroups: columnOfTexts(keys), keyTexts: () => keys, bids: null, pacings: null },
      ...{ squash: 1, reserve: 0, seed: null, fields: null, bundle: null, slots: null },
      ...{ requestKey: null, explain: false, dropped: new Map() },
    };
    expectSame(foundOf(body, contextFeatures), expected, `seed ${seed}`);
    outcomes[expected === null ? 'refused' : 'encoded'] += 1;
  }
  expect(outcomes.encoded).toBeGreaterThan(CASES / 3);
  expect(outcomes.refused).toBeGreaterThan(CASES / 20);
});
