/**
 * Learns target encodings (`shared/tasks/target-encoding.ts`) from the rows of training tasks, and makes the SQL
 * by which rows read them. All accepted rows of training tasks count, even those beyond the caps.
 *
 * Training tasks, and the small ones whose rows train the trunk, are divided into K folds by a seeded hash of their key. A row of fold f reads sums over the tasks
 * of the other folds, so that it knows no label of its task, and hardly what is missing: with all tasks but its own
 * in the sums, a model that has learned a value's total could subtract (`infra/decisions/0005`). A value that a
 * single training task has says nothing to rows of that task. To others it says what it had there, if weights of the
 * encoding are trained on values that several tasks have: if these have at least half of the impressions.
 *
 * With c clicks and n impressions of a value in those tasks, both scaled to the impressions of all training tasks,
 * b the rate over all values in those tasks, s the smoothing and o(q) = ln(q / (1 - q)):
 *
 *   rate    o(q) - o(b)       q = (c + s b) / (n + s)
 *   count   ln(1 + n) / 4
 *
 * both 0 without evidence. For labels that are values, whose means are standardised, o(q) is q.
 * Target encodings: Micci-Barreca (SIGKDD Explorations 3(1), 2001), equation 3.
 */

import { mkdir } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import {
  Field,
  Float32,
  Int32,
  makeData,
  RecordBatch,
  Schema,
  Struct,
} from '../../shared/tasks/arrow-files.js';
import { errorOf } from '../../shared/base/errors.js';
import { at } from '../../shared/base/arrays.js';
import type { RunConfig } from '../../shared/config/run-config.js';
import { encodedCategories, targetEncodingInputs } from '../../shared/config/data-config.js';
import { UNKNOWN_ID } from '../../shared/features/encoding-rules.js';
import { unseenBucketsOf } from '../../shared/tasks/store-manifest.js';
import {
  ALL_PARTS,
  targetEncodingFileOf,
  targetEncodingsIn,
} from '../../shared/tasks/target-encoding.js';
import type { TaskLabel } from '../../shared/tasks/task-label.js';
import type { TaskStore } from '../../shared/tasks/task-store.js';
import type { DuckSession } from '../logs/duckdb-session.js';
import { csvSource } from '../logs/work-folder.js';
import { writeArrowFile, type StoreFile } from './row-file-writer.js';
import { rowsOf, storedClicksSql } from './row-assembly.js';
import { encodingFoldSql } from './task-division.js';
import type { FeatureEncoding } from './feature-encoding.js';

/** Labels are summed in units of 2^-24, as whole numbers, whose sums no order of the rows changes. */
const UNITS = 2 ** 24;
const SUMMED_SIZE_MAX = 2 ** 60;
/** An overall rate of 0 or 1 has no log odds. */
const BASE_RATE_MIN = 1e-6;
const VALUES_PER_BATCH = 65_536;

interface LearnedFrom {
  readonly config: RunConfig;
  readonly encodings: readonly FeatureEncoding[];
  readonly labels: readonly TaskLabel[] | null;
  /** True if there is the table `trunk_places`. */
  readonly hasTrunkRows: boolean;
}

/** The encodings of the numbers that target encodings add, none without the section of the config. */
export async function learnTargetEncodings(
  { config, encodings, labels, hasTrunkRows }: LearnedFrom,
  session: DuckSession,
): Promise<FeatureEncoding[]> {
  const settings = config.data.targetEncodings;
  if (settings === undefined) return [];
  await createFolds(config, hasTrunkRows, session);
  const summed = (sql: string): string =>
    `CAST(round(least(greatest(${sql}::DOUBLE, -${SUMMED_SIZE_MAX}::DOUBLE), ${SUMMED_SIZE_MAX}::DOUBLE) * ${UNITS}) AS HUGEINT)`;
  const sums = {
    clicks: summed(storedClicksSql(labels)),
    impressions: summed('e.impressions'),
    isOfValues: labels?.[0]?.loss === 'squared',
    smoothing: settings.smoothing,
  };
  await createBases(sums, session);
  for (const [index, categories] of encodedCategories(settings).entries())
    await createEncoding(index, { ...sums, ids: idsOf(categories, encodings) }, session);
  return encodingsOf(config, encodings);
}

/** The encodings of a store to which logs are appended: they stay as they were learned. */
export async function loadTargetEncodings(
  given: RunConfig,
  encodings: readonly FeatureEncoding[],
  { store, folder }: { readonly store: TaskStore; readonly folder: string },
  session: DuckSession,
): Promise<FeatureEncoding[]> {
  const config = withStoredPairs(given, store);
  const settings = config.data.targetEncodings;
  requireSameInputs(config, store);
  if (settings === undefined) return [];
  await createFolds(config, false, session);
  for (const [index, categories] of encodedCategories(settings).entries()) {
    const stored = await store.readTargetEncoding?.(categories);
    if (stored === undefined) throw new Error('the task store has no target encodings');
    const { parts, ids, rates, counts } = stored;
    const lines = Array.from(parts, (part, place) => {
      const numbers = [...ids, rates, counts].map((values) => at(values, place));
      return `${part},${numbers.join(',')}\n`;
    });
    const known = await csvSource(join(folder, `encoding-${index}.csv`), lines, {
      part: 'INTEGER',
      ...Object.fromEntries(ids.map((_, place) => [`id${place}`, 'INTEGER'])),
      ...{ rate: 'FLOAT', count: 'FLOAT' },
    });
    await session.run(`CREATE TABLE ${tableOf(index)} AS SELECT * FROM ${known}`);
  }
  return encodingsOf(config, encodings);
}

/** The config with the pairs that prepare chose. */
function withStoredPairs(config: RunConfig, { manifest }: TaskStore): RunConfig {
  const settings = config.data.targetEncodings;
  if (settings?.pairsMax === undefined) return config;
  const chosen = targetEncodingsIn(manifest.features).slice(settings.of.length);
  const of = [...settings.of, ...chosen.map((pair) => [...pair])];
  const targetEncodings = { ...settings, of, pairsMax: undefined };
  return { ...config, data: { ...config.data, targetEncodings } };
}

function requireSameInputs({ data }: RunConfig, { manifest }: TaskStore): void {
  const expected = targetEncodingInputs(data.targetEncodings).map(({ name }) => name);
  const found = manifest.features.slice(data.features.length).map(({ name }) => name);
  if (expected.join() === found.join()) return;
  throw errorOf('usage', 'the config has other target encodings than the task store', {
    where: 'data.targetEncodings',
    expected: found.join(', ') || 'none',
    found: expected.join(', ') || 'none',
    cure: 'give the config that the store was prepared with, or prepare all logs together',
  });
}

function tableOf(index: number): string {
  return `target_encoding_${index}`;
}

/**
 * The table `encoding_folds` (task, fold), of which tasks that are not for training have -1. A batch of trunk rows
 * has rows of one fold, by the keys of their adgroups.
 */
async function createFolds(
  config: RunConfig,
  hasTrunkRows: boolean,
  session: DuckSession,
): Promise<void> {
  const fold = encodingFoldSql(config, 'key');
  await session.run(
    `CREATE TABLE encoding_folds AS
      SELECT DISTINCT task, CASE WHEN split = 0 THEN ${fold} ELSE ${ALL_PARTS} END AS fold FROM tasks
      ${hasTrunkRows ? 'UNION ALL SELECT DISTINCT task, fold FROM trunk_places' : ''}`,
  );
}

interface Sums {
  /** SQL over `encodable e`. */
  readonly clicks: string;
  readonly impressions: string;
  readonly isOfValues: boolean;
  readonly smoothing: number;
}

/**
 * The table `encoding_bases` (part, base, scale): the rate over all values that rows of a part compare with, and
 * by which factor all training tasks have more impressions than what these rows read.
 */
async function createBases(
  { clicks, impressions, isOfValues }: Sums,
  session: DuckSession,
): Promise<void> {
  const mean = 'CAST(c AS DOUBLE) / CAST(n AS DOUBLE)';
  const base = isOfValues
    ? mean
    : `least(greatest(${mean}, ${BASE_RATE_MIN}::DOUBLE), ${1 - BASE_RATE_MIN}::DOUBLE)`;
  await session.run(
    `CREATE TABLE encoding_bases AS
      WITH sums AS (SELECT k.fold, sum(${clicks}) AS c, sum(${impressions}) AS n
          FROM encodable e JOIN encoding_folds k ON e.task = k.task WHERE k.fold <> ${ALL_PARTS} GROUP BY k.fold),
        total AS (SELECT sum(c) AS c, sum(n) AS n FROM sums),
        parts AS (SELECT ${ALL_PARTS} AS part, c, n FROM total UNION ALL
          SELECT s.fold, t.c - s.c, t.n - s.n FROM sums s CROSS JOIN total t)
      SELECT part, CASE WHEN n > 0 THEN ${base} END AS base,
        CASE WHEN n > 0 THEN (SELECT CAST(n AS DOUBLE) FROM total) / CAST(n AS DOUBLE) END AS scale FROM parts`,
  );
}

interface EncodedIds {
  /** SQL over rows `e` with the joins, one or two. */
  readonly sql: readonly string[];
  readonly joins: readonly string[];
}

/** The table `target_encoding_N` (part, id0, id1, rate, count). */
async function createEncoding(
  index: number,
  { clicks, impressions, isOfValues, smoothing, ids }: Sums & { readonly ids: EncodedIds },
  session: DuckSession,
): Promise<void> {
  const names = ids.sql.map((_, place) => `id${place}`);
  const list = names.join(', ');
  const level = (rate: string): string => (isOfValues ? rate : `ln(${rate} / (1 - ${rate}))`);
  const evidence = (sum: string): string => `(scale * CAST(${sum} AS DOUBLE) / ${UNITS})`;
  const smoothed = `((${evidence('c')} + ${smoothing}::DOUBLE * base) / (${evidence('n')} + ${smoothing}::DOUBLE))`;
  await session.run(
    `CREATE TABLE ${tableOf(index)} AS
      WITH sums AS (SELECT fold, ${list}, sum(c) AS c, sum(n) AS n, min(task) AS first_task, max(task) AS last_task
          FROM (SELECT k.fold, e.task, ${ids.sql.map((sql, place) => `${sql} AS id${place}`).join(', ')},
            ${clicks} AS c, ${impressions} AS n
            FROM encodable e JOIN encoding_folds k ON e.task = k.task ${ids.joins.join(' ')}
            WHERE k.fold <> ${ALL_PARTS})
          GROUP BY fold, ${list}),
        found AS (SELECT ${list}, sum(c) AS c, sum(n) AS n, min(first_task) <> max(last_task) AS is_shared
          FROM sums GROUP BY ${list}),
        totals AS (SELECT ${list}, c, n FROM found WHERE is_shared OR
          (SELECT 2 * coalesce(sum(n) FILTER (WHERE is_shared), 0) >= sum(n) FROM found)),
        evidence AS (SELECT ${ALL_PARTS} AS part, ${list}, c, n FROM totals UNION ALL
          SELECT s.fold, ${names.map((name) => `s.${name}`).join(', ')}, t.c - s.c, t.n - s.n
            FROM sums s JOIN totals t ON ${names.map((name) => `s.${name} = t.${name}`).join(' AND ')})
      SELECT part, ${list},
        CAST(CASE WHEN n > 0 THEN ${level(smoothed)} - ${level('base')} ELSE 0 END AS FLOAT) AS rate,
        CAST(CASE WHEN n > 0 THEN ln(1 + ${evidence('n')}) / 4 ELSE 0 END AS FLOAT) AS count
      FROM evidence JOIN encoding_bases USING (part) ORDER BY part, ${list}`,
  );
}

export function idsOf(
  categories: readonly string[],
  encodings: readonly FeatureEncoding[],
): EncodedIds {
  const found = categories.map((category) => {
    const encoding = encodings.find(({ feature }) => feature.name === category);
    if (encoding === undefined) throw new Error(`there is no category ${category}`);
    return encoding;
  });
  // Unseen values are told apart within an adgroup. Across adgroups they are unknown ones.
  const pooled = found.map(({ feature, sql }) => {
    const unseenBuckets = unseenBucketsOf(feature);
    return unseenBuckets === 0
      ? sql
      : `(CASE WHEN ${sql} <= ${unseenBuckets} THEN ${UNKNOWN_ID} ELSE ${sql} END)`;
  });
  return {
    sql: pooled,
    joins: found.flatMap(({ join }) => (join === null ? [] : [join])),
  };
}

/** The inputs that rows read: those of their part, or those of all parts for a value that their part does not have. */
function encodingsOf(config: RunConfig, encodings: readonly FeatureEncoding[]): FeatureEncoding[] {
  const folds = 'LEFT JOIN encoding_folds k ON e.task = k.task';
  return targetEncodingInputs(config.data.targetEncodings).map(({ name, encodes }, place) => {
    const index = Math.floor(place / 2);
    const { sql } = idsOf(encodes.of, encodings);
    const joined = (alias: string, part: string): string =>
      `LEFT JOIN ${tableOf(index)} ${alias} ON ${alias}.part = ${part} AND
        ${sql.map((id, category) => `${alias}.id${category} = ${id}`).join(' AND ')}`;
    const [own, all] = [`own_${index}`, `all_${index}`];
    return {
      feature: {
        name,
        kind: 'number',
        scale: 'none',
        mean: 0,
        deviation: 1,
        encodes: { ...encodes, of: [...encodes.of] },
      },
      sql: `coalesce(${own}.${encodes.input}, ${all}.${encodes.input}, 0::FLOAT)`,
      // Its two numbers come from one join.
      join:
        encodes.input === 'rate'
          ? `${place === 0 ? folds : ''} ${joined(own, 'k.fold')} ${joined(all, String(ALL_PARTS))}`
          : null,
      dictionaryTable: null,
    };
  });
}

export async function writeTargetEncodings(
  folder: string,
  config: RunConfig,
  session: DuckSession,
): Promise<StoreFile[]> {
  const settings = config.data.targetEncodings;
  if (settings === undefined) return [];
  const files: StoreFile[] = [];
  for (const [index, categories] of encodedCategories(settings).entries())
    files.push(await writeEncoding(folder, { index, categories }, session));
  return files;
}

async function writeEncoding(
  folder: string,
  { index, categories }: { readonly index: number; readonly categories: readonly string[] },
  session: DuckSession,
): Promise<StoreFile> {
  const name = targetEncodingFileOf(categories);
  await mkdir(dirname(join(folder, name)), { recursive: true });
  const ids = categories.map((_, place) => `id${place}`);
  const columns = ['part', ...ids, 'rate', 'count'];
  const isNumber = (column: string): boolean => column === 'rate' || column === 'count';
  const schema = new Schema(
    columns.map(
      (column) => new Field(column, isNumber(column) ? new Float32() : new Int32(), false),
    ),
  );
  const room = columns.map((column) =>
    isNumber(column) ? new Float32Array(VALUES_PER_BATCH) : new Int32Array(VALUES_PER_BATCH),
  );
  let length = 0;
  const batch = (): RecordBatch => {
    const children = room.map((values) => {
      const data = values.slice(0, length);
      return data instanceof Int32Array
        ? makeData({ type: new Int32(), length, nullCount: 0, data })
        : makeData({ type: new Float32(), length, nullCount: 0, data });
    });
    const struct = makeData({ type: new Struct(schema.fields), length, nullCount: 0, children });
    length = 0;
    return new RecordBatch(schema, struct);
  };
  return writeArrowFile(folder, name, schema, async (file) => {
    const inOrder = `SELECT ${columns.join(', ')} FROM ${tableOf(index)} ORDER BY part, ${ids.join(', ')}`;
    for await (const chunk of session.chunks(inOrder, await session.count(tableOf(index)))) {
      if (length + chunk.rowCount > VALUES_PER_BATCH) await file.write(batch());
      for (const [place, values] of room.entries())
        rowsOf(chunk.getColumnVector(place))(values, length, 0, chunk.rowCount);
      length += chunk.rowCount;
    }
    await file.write(batch());
  });
}
