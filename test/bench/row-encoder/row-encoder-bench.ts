/**
 * How many rows per second the row encoder encodes on one core: ten features of all kinds, rows of
 * JSON values as ranking receives them. The result is the median of five rounds by processor time,
 * which other load changes less than wall-clock time.
 *
 *   npm run bench:row-encoder
 */

import { FeatureSchema } from '../../../shared/config/data-config.js';
import type { ColumnTypes } from '../../../shared/features/values/column-type.js';
import type { RawRow } from '../../../shared/features/values/raw-row.js';
import {
  packedDictionaryOf,
  type PackedDictionary,
} from '../../../shared/features/packed-dictionary.js';
import { rowEncoderOf } from '../../../shared/features/row-encoder.js';
import { randomStream } from '../../../shared/base/random.js';
import type { EncodedFeature } from '../../../shared/tasks/store-manifest.js';
import { benchHeader, grouped } from '../bench-header.js';
import { benchOptions } from '../options/bench-options.js';

benchOptions(import.meta.url, {});

const ROW_COUNT = 50_000;
const ROUND_COUNT = 5;
const PASSES_PER_ROUND = 4;
const DICTIONARY_SIZE = 20_000;
const BUCKETS = 100_003;

const features = [
  { name: 'site', kind: 'category' },
  { name: 'slot', kind: 'category' },
  { name: 'user', kind: 'category', hashBuckets: BUCKETS },
  { name: 'hour', kind: 'category', expression: '(time // 3600) % 24' },
  { name: 'grown', kind: 'category', expression: 'age >= 18 AND age < 65' },
  { name: 'tags', kind: 'bag', lengthMax: 4 },
  { name: 'words', kind: 'bag', lengthMax: 4, hashBuckets: BUCKETS },
  { name: 'price', kind: 'number', scale: 'log-standard' },
  { name: 'age', kind: 'number' },
  { name: 'views', kind: 'number', scale: 'log-bucket' },
].map((feature) => FeatureSchema.parse(feature));

const byDictionary = { rowCount: DICTIONARY_SIZE, encoding: { by: 'dictionary' } } as const;
const byHash = { rowCount: BUCKETS, encoding: { by: 'hash', buckets: BUCKETS } } as const;
const encodedFeatures: readonly EncodedFeature[] = [
  { name: 'site', kind: 'category', ...byDictionary },
  { name: 'slot', kind: 'category', ...byDictionary },
  { name: 'user', kind: 'category', ...byHash },
  { name: 'hour', kind: 'category', ...byDictionary },
  { name: 'grown', kind: 'category', ...byDictionary },
  { name: 'tags', kind: 'bag', lengthMax: 4, ...byDictionary },
  { name: 'words', kind: 'bag', lengthMax: 4, ...byHash },
  { name: 'price', kind: 'number', scale: 'log-standard', mean: 1.5, deviation: 0.7 },
  { name: 'age', kind: 'number', scale: 'standard', mean: 40, deviation: 12 },
  { name: 'views', kind: 'category', rowCount: 129, encoding: { by: 'log-bucket' } },
];

const values = (prefix: string): PackedDictionary =>
  packedDictionaryOf([
    null,
    ...Array.from({ length: DICTIONARY_SIZE - 1 }, (_, index) => `${prefix}${index}`),
  ]);
const columns: ColumnTypes = {
  time: { log: 'text', inferred: 'BIGINT' },
  age: { log: 'text', inferred: 'BIGINT' },
};
const encoder = rowEncoderOf({
  features,
  encodedFeatures,
  dictionaries: new Map([
    ['site', values('site-')],
    ['slot', values('')],
    ['hour', values('')],
    ['grown', packedDictionaryOf([null, 'true', 'false'])],
    ['tags', values('tag')],
  ]),
  columns,
});

const stream = randomStream(1, 'rows to encode');
const rows: RawRow[] = Array.from({ length: ROW_COUNT }, () => ({
  site: `site-${stream.below(DICTIONARY_SIZE)}`,
  slot: stream.below(30),
  user: `user-${stream.below(1_000_000)}`,
  time: 1_600_000_000 + stream.below(10_000_000),
  age: 10 + stream.below(80),
  tags: `tag${stream.below(50)}|tag${stream.below(50)}|tag${stream.below(50)}`,
  words: `word${stream.below(500)}|word${stream.below(500)}`,
  price: stream.below(100_000) / 100,
  views: stream.below(1_000_000),
}));

const encoded = encoder.allocate(ROW_COUNT);

function rowsPerSecond(): number {
  const before = process.cpuUsage();
  for (let pass = 0; pass < PASSES_PER_ROUND; pass += 1)
    for (const [at, row] of rows.entries()) encoder.encodeInto(encoded, at, row);
  const seconds = process.cpuUsage(before).user / 1e6;
  return (PASSES_PER_ROUND * ROW_COUNT) / seconds;
}

rowsPerSecond();
const rounds = Array.from({ length: ROUND_COUNT }, rowsPerSecond).sort((a, b) => a - b);
const { commit, machine, loadBefore } = benchHeader();
process.stdout.write(
  `${grouped(Math.round(rounds[Math.floor(ROUND_COUNT / 2)] ?? 0))} rows per second with ` +
    `${features.length} features (${grouped(Math.round(rounds[0] ?? 0))} to ` +
    `${grouped(Math.round(rounds.at(-1) ?? 0))}); ${machine}, load ${loadBefore}, commit ${commit}\n`,
);
