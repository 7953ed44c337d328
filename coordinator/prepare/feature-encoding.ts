/**
 * Encodes values as ids. Builds dictionaries and statistics from the rows of training tasks, and the SQL
 * that encodes every row by them. All accepted rows of training tasks count, even those beyond the caps.
 * The rules of the ids are in `shared/features/encoding-rules.ts`; the row encoder of that folder
 * computes the same ids and numbers without SQL.
 */

import type { DataConfig, FeatureConfig } from '../../shared/config/data-config.js';
import {
  EMPTY_PLACE_ID,
  FIRST_ID,
  LOG_BUCKET_ROW_COUNT,
  LOG_BUCKETS_PER_SIGN,
  STORED_SIZE_MAX,
  UNKNOWN_ID,
} from '../../shared/features/encoding-rules.js';
import { type EncodedFeature, unseenBucketsOf } from '../../shared/tasks/store-manifest.js';
import { type DuckSession, DuckDBBlobValue } from '../logs/duckdb-session.js';
import type { RunEventSink } from '../../shared/events/run-events.js';
import {
  Field,
  makeData,
  RecordBatch,
  Schema,
  Struct,
  Utf8,
  vectorFromArray,
} from '../../shared/tasks/arrow-files.js';
import { dictionaryFileOf } from '../../shared/tasks/task-catalog.js';
import { writeArrowFile, type StoreFile } from './row-file-writer.js';

/** Distinct bags encoded at a time, so that their lists fit in memory. */
const BAGS_PER_PASS = 500_000;
/** Categories counted in one pass over the rows, so that their hash tables fit in memory. */
const CATEGORIES_PER_PASS = 64;

/** The encoding of one feature: SQL over `encodable e` and the joins that it needs. */
export interface FeatureEncoding {
  readonly feature: EncodedFeature;
  readonly sql: string;
  readonly join: string | null;
  /** The table of `value`, a text or a whole number that stands for it, and `id`, if there is a dictionary. */
  readonly dictionaryTable: string | null;
}

export async function learnEncodings(
  data: DataConfig,
  session: DuckSession,
  sink: RunEventSink,
): Promise<FeatureEncoding[]> {
  const total = data.features.length;
  const encodings: FeatureEncoding[] = [];
  const statistics = await numberStatistics(data.features, session);
  await countCategoryValues(data.features, session);
  for (const [index, feature] of data.features.entries()) {
    sink({ kind: 'progress', stage: 'dictionaries', done: index, total });
    switch (feature.kind) {
      case 'category':
        encodings.push(await categoryEncoding(feature, index, session));
        break;
      case 'bag':
        encodings.push(await bagEncoding(feature, index, session));
        break;
      case 'number':
        encodings.push(numberEncoding(feature, index, statistics.get(index)));
        break;
    }
  }
  await session.run('DROP TABLE IF EXISTS value_counts');
  sink({ kind: 'progress', stage: 'dictionaries', done: total, total });
  return withFewJoins(encodings, data, session);
}

type Feature<Kind extends FeatureConfig['kind']> = Extract<FeatureConfig, { kind: Kind }>;

/** The table `value_counts` (feature, value, occurrences) of all categories with a dictionary, from the rows of training tasks. */
async function countCategoryValues(
  features: readonly FeatureConfig[],
  session: DuckSession,
): Promise<void> {
  const counted = [...features.entries()].flatMap(([index, feature]) =>
    feature.kind === 'category' && feature.hashBuckets === undefined
      ? [{ index, countMin: feature.countMin }]
      : [],
  );
  for (let start = 0; start < counted.length; start += CATEGORIES_PER_PASS)
    await session.run(
      `${start === 0 ? 'CREATE TABLE value_counts AS' : 'INSERT INTO value_counts'}
        ${valueCountsSql(counted.slice(start, start + CATEGORIES_PER_PASS))}`,
    );
}

interface CountedCategory {
  readonly index: number;
  readonly countMin: number;
}

/** SQL of the values of these categories and their occurrences, in one pass over the rows. */
function valueCountsSql(counted: readonly CountedCategory[]): string {
  const ofFeature = (valueOf: (counted: CountedCategory) => string): string =>
    `CASE ${counted.map((of) => `WHEN grouping(f${of.index}) = 0 THEN ${valueOf(of)}`).join(' ')} END`;
  return `SELECT feature, value, occurrences FROM
      (SELECT ${ofFeature(({ index }) => String(index))} AS feature, ${ofFeature(({ index }) => `CAST(f${index} AS VARCHAR)`)} AS value,
        ${ofFeature(({ countMin }) => String(countMin))} AS count_min, count(*) AS occurrences
        FROM encodable WHERE split = 0
        GROUP BY GROUPING SETS (${counted.map(({ index }) => `(f${index})`).join(', ')}))
      WHERE value IS NOT NULL AND occurrences >= count_min`;
}

interface DictionaryTable {
  readonly name: string;
  /** The id before the first value. */
  readonly idBefore: number;
  /** Whole numbers may stand for texts. */
  readonly valueType: string;
}

/** @param countsSql SQL of distinct values, as texts, and their occurrences. */
async function buildDictionary(
  { name: table, idBefore, valueType }: DictionaryTable,
  countsSql: string,
  session: DuckSession,
): Promise<number> {
  await session.run(
    `CREATE TABLE ${table} AS
      SELECT CAST(value AS ${valueType}) AS value,
        CAST(${idBefore} + row_number() OVER (ORDER BY occurrences DESC, texts.value) AS INTEGER) AS id
      FROM (${countsSql}) texts ORDER BY id`,
  );
  return session.count(table);
}

function hashBucket(valueSql: string, buckets: number): string {
  return `CAST(${FIRST_ID} + md5_number_lower(CAST(${valueSql} AS VARCHAR)) % ${buckets - 1} AS INTEGER)`;
}

async function categoryEncoding(
  feature: Feature<'category'>,
  index: number,
  session: DuckSession,
): Promise<FeatureEncoding> {
  const { name, hashBuckets, unseenBuckets } = feature;
  if (hashBuckets !== undefined)
    return encodedAs(index, {
      ...{ name, kind: 'category', rowCount: hashBuckets },
      encoding: { by: 'hash', buckets: hashBuckets },
    });
  const idBefore = unseenBuckets ?? 0;
  const [valueType] = await session.row(
    `SELECT column_type FROM (DESCRIBE SELECT f${index} FROM encodable)`,
  );
  const count = await buildDictionary(
    { name: dictionaryTableOf(index), idBefore, valueType: String(valueType) },
    `SELECT value, occurrences FROM value_counts WHERE feature = ${index}`,
    session,
  );
  return encodedAs(index, {
    ...{ name, kind: 'category', rowCount: idBefore + count + 1 },
    encoding: { by: 'dictionary', ...(unseenBuckets === undefined ? {} : { unseenBuckets }) },
  });
}

export function dictionaryTableOf(index: number): string {
  return `dictionary_${index}`;
}

/** The SQL of a feature whose dictionary, if it has one, is in its table. */
export function encodedAs(index: number, feature: EncodedFeature): FeatureEncoding {
  switch (feature.kind) {
    case 'category':
      return encodedCategory(index, feature);
    case 'bag':
      return encodedBag(index, feature);
    case 'number':
      return encodedNumber(index, feature);
  }
}

type Encoded<Kind extends EncodedFeature['kind']> = Extract<EncodedFeature, { kind: Kind }>;

function encodedCategory(index: number, feature: Encoded<'category'>): FeatureEncoding {
  const value = `e.f${index}`;
  const table = dictionaryTableOf(index);
  switch (feature.encoding.by) {
    case 'hash':
      return {
        ...{ feature, join: null, dictionaryTable: null },
        sql: `coalesce(${hashBucket(value, feature.encoding.buckets)}, ${UNKNOWN_ID})`,
      };
    case 'dictionary':
      return {
        ...{ feature, dictionaryTable: table },
        sql: knownOrUnseen(`d${index}.id`, index, feature),
        join: `LEFT JOIN ${table} d${index} ON ${value} = d${index}.value`,
      };
    case 'log-bucket':
      return {
        ...{ feature, join: null, dictionaryTable: null },
        sql: `CAST(${FIRST_ID} + least(floor(log2(1 + abs(${value}))), ${LOG_BUCKETS_PER_SIGN - 1})
        + CASE WHEN ${value} < 0 THEN ${LOG_BUCKETS_PER_SIGN} ELSE 0 END AS INTEGER)`,
      };
  }
}

/** SQL of the id that the dictionary has for a value, or else of its id as an unseen one. */
function knownOrUnseen(known: string, index: number, feature: Encoded<'category'>): string {
  const unseenBuckets = unseenBucketsOf(feature);
  const unseen = unseenBuckets === 0 ? '' : `${hashBucket(`e.f${index}`, unseenBuckets + 1)}, `;
  return `coalesce(${known}, ${unseen}${UNKNOWN_ID})`;
}

/** Rows that a join holds of every column of its query, on each thread, and the bytes of a value, at most. */
const ROWS_PER_CHUNK = 2048;
const BYTES_PER_VALUE = 16;
/** The part of the memory that the joins of one query may take. */
const JOINS_MEMORY_SHARE = 0.25;
/** Enumerations lie in memory that DuckDB does not count. */
const ENUMERATED_VALUES_MAX = 500_000;
/** Columns of encoded rows beside their features. */
const OTHER_COLUMN_COUNT = 6;

/**
 * Every join of a query holds a chunk of all of its columns, so that memory grows with the square of the number of
 * dictionaries. Where that is too much, values of the smallest ones are found by enumerations instead, which takes longer.
 */
export async function withFewJoins(
  encodings: readonly FeatureEncoding[],
  { targetEncodings }: Pick<DataConfig, 'targetEncodings'>,
  session: Pick<DuckSession, 'memoryMiBPerThread' | 'run'>,
): Promise<FeatureEncoding[]> {
  const joinsOfTargets = 2 * (targetEncodings?.of.length ?? 0);
  const columnCount = encodings.length + joinsOfTargets + OTHER_COLUMN_COUNT;
  const bytesPerJoin = columnCount * ROWS_PER_CHUNK * BYTES_PER_VALUE;
  const bytes = session.memoryMiBPerThread * 2 ** 20 * JOINS_MEMORY_SHARE;
  let joinCount = encodings.filter(({ join }) => join !== null).length + joinsOfTargets;
  let valueCount = 0;
  const found = [...encodings];
  const bySize = [...encodings.entries()]
    .flatMap(([index, { feature, join }]) =>
      feature.kind === 'category' && join !== null
        ? [{ index, feature, size: feature.rowCount - firstIdOf(feature) }]
        : [],
    )
    .sort((a, b) => a.size - b.size);
  for (const { index, feature, size } of bySize) {
    valueCount += size;
    if (joinCount * bytesPerJoin <= bytes || valueCount > ENUMERATED_VALUES_MAX) break;
    found[index] = await enumeratedCategory(index, feature, session);
    joinCount -= 1;
  }
  return found;
}

/** The id of the first value of the dictionary. */
function firstIdOf(feature: Encoded<'category'>): number {
  return FIRST_ID + unseenBucketsOf(feature);
}

async function enumeratedCategory(
  index: number,
  feature: Encoded<'category'>,
  session: Pick<DuckSession, 'run'>,
): Promise<FeatureEncoding> {
  const [table, firstId] = [dictionaryTableOf(index), firstIdOf(feature)];
  const isEmpty = feature.rowCount === firstId;
  if (!isEmpty)
    await session.run(
      `CREATE TYPE values_${index} AS ENUM (SELECT CAST(value AS VARCHAR) FROM ${table} ORDER BY id)`,
    );
  const place = `CAST(enum_code(TRY_CAST(CAST(e.f${index} AS VARCHAR) AS values_${index})) AS INTEGER)`;
  return {
    ...{ feature, join: null, dictionaryTable: table },
    sql: knownOrUnseen(isEmpty ? 'NULL::INTEGER' : `${place} + ${firstId}`, index, feature),
  };
}

/** Bags with a dictionary are encoded before, in the table `bags_N`. */
function encodedBag(index: number, feature: Encoded<'bag'>): FeatureEncoding {
  const value = `e.f${index}`;
  const padded = (ids: string): string =>
    `list_resize(coalesce(${ids}, []::INTEGER[]), ${feature.lengthMax}, ${EMPTY_PLACE_ID})`;
  if (feature.encoding.by === 'hash') {
    const bucket = hashBucket('m', feature.encoding.buckets);
    return {
      ...{ feature, join: null, dictionaryTable: null },
      sql: padded(`list_transform(${value}, lambda m: ${bucket})`),
    };
  }
  return {
    ...{ feature, dictionaryTable: dictionaryTableOf(index) },
    sql: padded(`b${index}.ids`),
    join: `LEFT JOIN bags_${index} b${index} ON ${value} = b${index}.bag`,
  };
}

function encodedNumber(index: number, feature: Encoded<'number'>): FeatureEncoding {
  const { mean, deviation } = feature;
  return {
    ...{ feature, join: null, dictionaryTable: null },
    // Bounded, since a held-out value may be any number of deviations away from the training values.
    sql: `CAST(least(greatest((${scaleSql(feature, `e.f${index}`)} - (${mean}::DOUBLE)) / ${deviation}::DOUBLE,
      -${STORED_SIZE_MAX}::DOUBLE), ${STORED_SIZE_MAX}::DOUBLE) AS FLOAT)`,
  };
}

async function bagEncoding(
  feature: Feature<'bag'>,
  index: number,
  session: DuckSession,
): Promise<FeatureEncoding> {
  const value = `f${index}`;
  const { name, hashBuckets, lengthMax } = feature;
  if (hashBuckets !== undefined)
    return encodedAs(index, {
      ...{ name, kind: 'bag', lengthMax, rowCount: hashBuckets },
      encoding: { by: 'hash', buckets: hashBuckets },
    });
  const table = dictionaryTableOf(index);
  const count = await buildDictionary(
    { name: table, idBefore: 0, valueType: 'VARCHAR' },
    `SELECT value, count(*) AS occurrences FROM
      (SELECT unnest(${value}) AS value FROM encodable WHERE split = 0) WHERE value IS NOT NULL
      GROUP BY value HAVING count(*) >= ${feature.countMin}`,
    session,
  );
  await encodeDistinctBags(index, table, session);
  return encodedAs(index, {
    ...{ name, kind: 'bag', lengthMax, rowCount: count + 1, encoding: { by: 'dictionary' } },
  });
}

/** The table `bags_N` of each distinct bag and its ids, built in passes of bounded size. */
export async function encodeDistinctBags(
  index: number,
  dictionary: string,
  session: DuckSession,
): Promise<void> {
  await session.run(
    `CREATE TABLE distinct_bags AS SELECT DISTINCT f${index} AS bag FROM encodable WHERE f${index} IS NOT NULL`,
  );
  const bagCount = await session.count('distinct_bags');
  await session.run(`CREATE TABLE bags_${index} (bag VARCHAR[], ids INTEGER[])`);
  for (let start = 0; start < bagCount; start += BAGS_PER_PASS)
    await session.run(
      `INSERT INTO bags_${index}
        SELECT any_value(bag), list(coalesce(id, ${UNKNOWN_ID}) ORDER BY place) FROM
          (SELECT number, bag, unnest(bag) AS member, generate_subscripts(bag, 1) AS place FROM
            (SELECT rowid AS number, bag FROM distinct_bags
              WHERE rowid >= ${start} AND rowid < ${start + BAGS_PER_PASS}))
          LEFT JOIN ${dictionary} ON member = value GROUP BY number`,
    );
  await session.run('DROP TABLE distinct_bags');
}

interface Moments {
  readonly mean: number;
  readonly deviation: number;
}

function scaleSql(feature: { readonly scale: Feature<'number'>['scale'] }, value: string): string {
  return feature.scale === 'log-standard' ? `sign(${value}) * ln(1 + abs(${value}))` : value;
}

/**
 * Mean and deviation over the training tasks' rows, summed in order of the rows by one thread. The order is
 * made by a sort, since a join passes rows on in any order.
 */
async function numberStatistics(
  features: readonly FeatureConfig[],
  session: DuckSession,
): Promise<Map<number, Moments>> {
  const wanted = [...features.entries()].flatMap(([index, feature]) =>
    feature.kind === 'number' && (feature.scale === 'standard' || feature.scale === 'log-standard')
      ? [{ index, value: scaleSql(feature, `f${index}`) }]
      : [],
  );
  if (wanted.length === 0) return new Map();
  await session.run(
    `CREATE TABLE numbers AS SELECT ${wanted.map(({ value }, place) => `${value} AS n${place}`).join(', ')}
      FROM encodable WHERE split = 0 ORDER BY row`,
  );
  const found = await session.inOrder(() =>
    session.row(
      `SELECT ${wanted.map((_, place) => `avg(n${place}), stddev_pop(n${place})`).join(', ')} FROM numbers`,
    ),
  );
  await session.run('DROP TABLE numbers');
  return new Map(
    wanted.map(({ index }, place) => {
      const mean = Number(found[2 * place]);
      const deviation = Number(found[2 * place + 1]);
      // A constant column has deviation 0 (or a rounding error). Its scaled values are then 0.
      return [index, { mean, deviation: deviation > 1e-12 * Math.abs(mean) ? deviation : 1 }];
    }),
  );
}

function numberEncoding(
  feature: Feature<'number'>,
  index: number,
  moments: Moments = { mean: 0, deviation: 1 },
): FeatureEncoding {
  const { name, scale } = feature;
  if (scale === 'log-bucket')
    return encodedAs(index, {
      ...{ name, kind: 'category', rowCount: LOG_BUCKET_ROW_COUNT },
      encoding: { by: 'log-bucket' },
    });
  return encodedAs(index, { name, kind: 'number', scale, ...moments });
}

const VALUES_PER_BATCH = 65_536;

export async function writeDictionaries(
  folder: string,
  encodings: readonly FeatureEncoding[],
  session: DuckSession,
): Promise<StoreFile[]> {
  const files: StoreFile[] = [];
  for (const { feature, dictionaryTable } of encodings)
    if (dictionaryTable !== null)
      files.push(
        await writeDictionary(
          folder,
          {
            ...{ name: dictionaryFileOf(feature.name), table: dictionaryTable },
            withoutValue: 1 + unseenBucketsOf(feature),
          },
          session,
        ),
      );
  return files;
}

interface DictionaryFile {
  readonly name: string;
  readonly table: string;
  /** Values of earlier ids are in other files. */
  readonly firstId?: number;
  /** The number of ids that the file begins with and that have no value. */
  readonly withoutValue?: number;
}

export async function writeDictionary(
  folder: string,
  { name, table, firstId = 0, withoutValue = 0 }: DictionaryFile,
  session: DuckSession,
): Promise<StoreFile> {
  const schema = new Schema([new Field('value', new Utf8(), true)]);
  return writeArrowFile(folder, name, schema, async (file) => {
    let values = Array.from({ length: withoutValue }, (): string | null => null);
    const flush = async (): Promise<void> => {
      await file.write(batchOf(values, schema));
      values = [];
    };
    // Read as bytes, since texts of the client lose a byte order mark at their start.
    const newValues = `${table} WHERE id >= ${firstId}`;
    const inOrder = `SELECT encode(CAST(value AS VARCHAR)) FROM ${newValues} ORDER BY id`;
    for await (const chunk of session.chunks(inOrder, await session.count(newValues))) {
      for (const value of chunk.getColumnValues(0)) values.push(textOf(value));
      if (values.length >= VALUES_PER_BATCH) await flush();
    }
    if (values.length > 0) await flush();
  });
}

const decoder = new TextDecoder('utf-8', { ignoreBOM: true });

function textOf(value: unknown): string {
  if (!(value instanceof DuckDBBlobValue)) throw new Error('a value of a dictionary has no bytes');
  return decoder.decode(value.bytes);
}

function batchOf(values: readonly (string | null)[], schema: Schema): RecordBatch {
  const [child] = vectorFromArray(values, new Utf8()).data;
  if (child === undefined) throw new Error('Arrow made no data of a dictionary');
  return new RecordBatch(
    schema,
    makeData({
      type: new Struct(schema.fields),
      length: values.length,
      nullCount: 0,
      children: [child],
    }),
  );
}
