/**
 * The task stores of the reproduction. All have the same features and codes, so that one model runs
 * on each of them:
 *
 *   base       a task is a batch of training rows, in training order
 *   generator  a task is an old film with two of its blocks: support and query
 *   warm-up    a task is a batch of one block of some new films
 *   new films  support rows are the three blocks of a new film, query rows its held-out rows
 */

import { createHash } from 'node:crypto';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import {
  RowColumns,
  widthOf,
  type ColumnKind,
  type SourceColumns,
} from '../../../coordinator/prepare/row-columns.js';
import { at } from '../../../shared/base/arrays.js';
import { rowFileWriter } from '../../../coordinator/prepare/row-file-writer.js';
import {
  MANIFEST_FILE,
  CATALOG_FILE,
  STORE_FORMAT_VERSION,
  StoreManifestSchema,
  type EncodedFeature,
} from '../../../shared/tasks/store-manifest.js';
import { encodeTaskCatalog, type CatalogTask } from '../../../shared/tasks/task-catalog.js';
import { computedRows, type ValueOf } from '../../fixtures/stores/computed-rows.js';
import {
  GENRES_LENGTH_MAX,
  TABLE_ROW_COUNTS,
  TITLE_LENGTH_MAX,
  type FilmAttributes,
  type Movielens,
  type RatingRows,
  type UserAttributes,
} from './movielens-files.js';

/** Row indices of a task; support rows first. */
export interface StoredTask {
  readonly key: string;
  readonly split: CatalogTask['split'];
  readonly support: readonly number[];
  readonly query: readonly number[];
}

const CATEGORIES = ['film', 'year', 'age', 'gender', 'occupation', 'user'] as const;
type CategoryName = (typeof CATEGORIES)[number];

export const FEATURES: readonly EncodedFeature[] = [
  ...CATEGORIES.map((name): EncodedFeature => ({
    name,
    kind: 'category',
    rowCount: TABLE_ROW_COUNTS[name],
    encoding: { by: 'dictionary' },
  })),
  bag('title', TITLE_LENGTH_MAX),
  bag('genres', GENRES_LENGTH_MAX),
];

/** Approximate number of rows in a record batch. */
const BATCH_ROW_COUNT = 8192;

function bag(name: 'title' | 'genres', lengthMax: number): EncodedFeature {
  const rowCount = TABLE_ROW_COUNTS[name];
  return { name, kind: 'bag', rowCount, lengthMax, encoding: { by: 'dictionary' } };
}

/** Returns the folder of the store, and writes the store unless it exists. */
export async function keptTaskStore(
  folder: string,
  rows: RatingRows,
  attributes: Pick<Movielens, 'films' | 'users'>,
  tasks: readonly StoredTask[],
): Promise<string> {
  const sourceDigest = sourceDigestOf(tasks);
  if (sourceDigestIn(folder) === sourceDigest) return folder;
  mkdirSync(dirname(folder), { recursive: true });
  // Concurrent runs may need the same store: the one written first is kept.
  const unfinished = mkdtempSync(`${folder}-`);
  await writeTaskStore(unfinished, rows, attributes, tasks, sourceDigest);
  if (sourceDigestIn(folder) === sourceDigest) {
    rmSync(unfinished, { recursive: true });
    return folder;
  }
  rmSync(folder, { recursive: true, force: true });
  renameSync(unfinished, folder);
  return folder;
}

/** Distinguishes stores of other rows; the data itself never changes. */
function sourceDigestOf(tasks: readonly StoredTask[]): string {
  const hash = createHash('sha256');
  for (const { key, split, support, query } of tasks) {
    hash.update(`${key}, ${split}, ${support.length} of ${support.length + query.length}\n`);
    hash.update(Int32Array.from([...support, ...query]));
  }
  return `MovieLens 1M, split of Pan et al. (SIGIR 2019), tasks ${hash.digest('hex')}`;
}

/** Null if there is no complete store of this version. */
function sourceDigestIn(folder: string): string | null {
  const path = join(folder, MANIFEST_FILE);
  if (!existsSync(path)) return null;
  const parsed = StoreManifestSchema.safeParse(JSON.parse(readFileSync(path, 'utf8')));
  return parsed.success ? parsed.data.sourceDigest : null;
}

/** The manifest is written last: without it there is no store. */
async function writeTaskStore(
  folder: string,
  rows: RatingRows,
  { films, users }: Pick<Movielens, 'films' | 'users'>,
  tasks: readonly StoredTask[],
  sourceDigest: string,
): Promise<void> {
  const writer = rowFileWriter(folder, FEATURES, false);
  const kinds: readonly ColumnKind[] = [
    'float',
    'float',
    ...CATEGORIES.map(() => 'int' as const),
    { bag: TITLE_LENGTH_MAX },
    { bag: GENRES_LENGTH_MAX },
  ];
  const columns = new RowColumns(kinds);
  const source: SourceColumns = {
    row: computedRows((row) => row),
    time: computedRows(() => 0),
    values: columnValues(rows, films, users).map((valueOf, index) =>
      computedRows(valueOf, widthOf(at(kinds, index))),
    ),
  };
  const catalog: CatalogTask[] = [];
  for (const { key, split, support, query } of tasks) {
    catalog.push({
      key,
      split,
      supportRowCount: support.length,
      queryRowCount: query.length,
      firstSeenTime: null,
      ...writer.nextPlace(),
      rowOffset: columns.rowCount,
    });
    const taskStart = columns.rowCount;
    for (const row of [...support, ...query]) columns.append(source, row, 1);
    columns.setRolesFrom(taskStart, support.length);
    if (columns.rowCount < BATCH_ROW_COUNT) continue;
    await writer.write(columns);
    columns.clear();
  }
  if (columns.rowCount > 0) await writer.write(columns);
  const rowFiles = await writer.finish();
  const manifest = manifestText(folder, catalog, rowFiles, sourceDigest);
  writeFileSync(join(folder, MANIFEST_FILE), manifest);
}

function manifestText(
  folder: string,
  catalog: readonly CatalogTask[],
  rowFiles: readonly { name: string; byteCount: number; sha256: string }[],
  sourceDigest: string,
): string {
  const bytes = encodeTaskCatalog(catalog, catalog);
  writeFileSync(join(folder, CATALOG_FILE), bytes);
  const sha256 = createHash('sha256').update(bytes).digest('hex');
  const countOf = (split: CatalogTask['split']): number =>
    catalog.filter((task) => task.split === split).length;
  const manifest = StoreManifestSchema.parse({
    formatVersion: STORE_FORMAT_VERSION,
    sourceDigest,
    features: FEATURES,
    taskColumns: ['task'],
    hasOracle: false,
    taskCount: catalog.length,
    taskCountBySplit: {
      train: countOf('train'),
      validation: countOf('validation'),
      test: countOf('test'),
    },
    rowCount: catalog.reduce((sum, task) => sum + task.supportRowCount + task.queryRowCount, 0),
    rejectedRowCount: 0,
    files: [{ name: CATALOG_FILE, byteCount: bytes.byteLength, sha256 }, ...rowFiles],
  });
  return `${JSON.stringify(manifest, null, 2)}\n`;
}

/**
 * Clicks, impressions, then the features. Empty positions of titles and genres hold id 0, which has
 * a trained row and is part of the mean, as in the authors' code.
 */
function columnValues(
  { filmIds, userIds, clicks }: RatingRows,
  films: ReadonlyMap<number, FilmAttributes>,
  users: ReadonlyMap<number, UserAttributes>,
): ValueOf[] {
  const film = (row: number): FilmAttributes => found(films, filmIds[row], 'film');
  const user = (row: number): UserAttributes => found(users, userIds[row], 'user');
  const category: Record<CategoryName, (row: number) => number> = {
    film: (row) => filmIds[row] ?? 0,
    year: (row) => film(row).year,
    age: (row) => user(row).age,
    gender: (row) => user(row).gender,
    occupation: (row) => user(row).occupation,
    user: (row) => userIds[row] ?? 0,
  };
  return [
    (row) => clicks[row] ?? 0,
    () => 1,
    ...CATEGORIES.map((name) => category[name]),
    (row, place) => film(row).title[place] ?? 0,
    (row, place) => film(row).genres[place] ?? 0,
  ];
}

function found<Value>(
  values: ReadonlyMap<number, Value>,
  id: number | undefined,
  what: string,
): Value {
  const value = values.get(id ?? -1);
  if (value === undefined) throw new Error(`${what} ${String(id)} is unknown`);
  return value;
}
