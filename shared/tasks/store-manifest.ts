/**
 * The schema of a task store on disk: one `manifest.json` beside Arrow IPC files.
 *
 *   manifest.json          this schema
 *   tasks.arrow            the catalog, one row per task (see `task-catalog.ts`)
 *   rows-00000.arrow ...   the rows; a record batch holds whole tasks, in catalog order,
 *                          a task's support rows before its query rows, each in order of time
 *   dictionaries/NAME.arrow  value of each id of a dictionary-encoded feature (column `value`)
 *   encodings/NAME.arrow   what values had for click rates in other tasks (see `target-encoding.ts`)
 *   rejects.jsonl          rows left out: file, line, reason
 *   columns.json           types of the logs' columns
 *
 * Logs that are appended later add files and change none: `tasks-NNNN.arrow` is then the catalog,
 * `dictionaries/NNNN/NAME.arrow` has the values of the next ids, `rejects-NNNN.jsonl` the rows left out,
 * `waiting-NNNN.parquet` the judged rows of new adgroups that are too small so far, and the rows of changed
 * tasks lie in new row files.
 *
 * Columns of `rows-*.arrow`, by name:
 *   row          int64    number of the row in the logs, from 0 in order of reading
 *   role         uint8    0 support, 1 query
 *   time         float64  seconds since the epoch or the number found; 0 without a time column
 *   clicks       float32  clicks times weight; with a 0/1 label, label times weight; with a value
 *                         as label, the standardised value times weight (see `task-label.ts`)
 *   impressions  float32  impressions times weight; with a 0/1 label or a value, the weight
 *   NAME         int32                     a category feature: its id
 *   NAME         fixedSizeList<int32>[lengthMax]  a bag: its ids, -1 in empty places
 *   NAME         float32                   a number feature, scaled
 *   oracle       float32  known true click probability, when the config names its column; with a
 *                         value as label, its known true mean, standardised
 */

import { z } from 'zod';
import { TaskLabelSchema } from './task-label.js';

export const STORE_FORMAT_VERSION = 1;

export const RESTORE_CURE =
  'restore the store from a copy, or write it again with `qianmo prepare --force`';

const count = z.int().nonnegative();

/** The two inputs of a target encoding: how the rate of a value differs from the overall one, and on how many impressions it rests. */
export const TARGET_ENCODING_INPUTS = ['rate', 'count'] as const;

export const EncodedFeatureSchema = z.discriminatedUnion('kind', [
  z.strictObject({
    name: z.string(),
    kind: z.literal('category'),
    /** Rows of its table: ids are below this; id 0 is "unknown". */
    rowCount: z.int().positive(),
    encoding: z.discriminatedUnion('by', [
      z.strictObject({
        by: z.literal('dictionary'),
        /** Ids from 1 on that values outside of the dictionary get by hash. Those of its values follow. */
        unseenBuckets: z.int().positive().optional(),
      }),
      z.strictObject({ by: z.literal('hash'), buckets: z.int().positive() }),
      /** Id = 1 + sign-aware floor(log2(1 + |x|)); see the encoder. */
      z.strictObject({ by: z.literal('log-bucket') }),
    ]),
  }),
  z.strictObject({
    name: z.string(),
    kind: z.literal('bag'),
    rowCount: z.int().positive(),
    lengthMax: z.int().positive(),
    encoding: z.discriminatedUnion('by', [
      z.strictObject({ by: z.literal('dictionary') }),
      z.strictObject({ by: z.literal('hash'), buckets: z.int().positive() }),
    ]),
  }),
  z.strictObject({
    name: z.string(),
    kind: z.literal('number'),
    /** Stored value = (f(x) - mean) / deviation, f the identity or sign(x) log(1 + |x|). */
    scale: z.enum(['standard', 'log-standard', 'none']),
    mean: z.number(),
    deviation: z.number().positive(),
    /** Present in numbers of target encodings, which follow the features of the config. */
    encodes: z
      .strictObject({
        of: z.array(z.string()).min(1).max(2),
        input: z.enum(TARGET_ENCODING_INPUTS),
      })
      .optional(),
  }),
]);

const sha256 = z.string().regex(/^[0-9a-f]{64}$/);

const AppendSchema = z.strictObject({
  /** The digest of the store before, and the rows of its tables by feature with a dictionary. */
  earlierDigest: sha256,
  earlierRowCounts: z.record(z.string(), z.int().positive()),
  /** SHA-256 of the content of every log file. */
  logDigests: z.array(sha256).min(1),
  /** The number of the first row of these logs, and how many rows they have. */
  firstRow: count,
  logRowCount: count,
  changedTaskCount: count,
  newTaskCount: count,
});

export const StoreManifestSchema = z.strictObject({
  formatVersion: z.literal(STORE_FORMAT_VERSION),
  /**
   * SHA-256 of the parts of the config that decide the store and of the fingerprints of all inputs. Paths
   * have no influence on it.
   */
  sourceDigest: z.string(),
  features: z.array(EncodedFeatureSchema),
  taskColumns: z.array(z.string()).min(1),
  /** By label index; absent if every task has clicks as its label and there are no segments. */
  labels: z.array(TaskLabelSchema).min(1).optional(),
  hasOracle: z.boolean(),
  /** Adgroups. The catalog has the batches of trunk rows as well. */
  taskCount: count,
  taskCountBySplit: z.strictObject({
    train: count,
    validation: count,
    test: count,
  }),
  /** The rows of adgroups and of the batches of trunk rows. */
  rowCount: count,
  /** Rows that belong to no task and train the trunk (`data.trunkRows`); absent if there are none. */
  trunk: z
    .strictObject({
      batchCount: count,
      rowCount: count,
      /** Tasks of the training split that are too small, and their rows among those above. */
      smallTaskCount: count,
      smallTaskRowCount: count,
    })
    .optional(),
  rejectedRowCount: count,
  /** Good rows and tasks of the logs that are not in the store. With the rest they add up. */
  leftOut: z
    .strictObject({
      /** Rows for which `where` is not true. */
      filteredRowCount: count,
      /** Tasks below supportRowsMin or queryRowsMin whose rows train nothing, and these rows, also while they wait. */
      tooSmallTaskCount: count,
      tooSmallRowCount: count,
      /** Rows beyond supportRowsMax or queryRowsMax. */
      cappedRowCount: count,
      /** Rows that the split file does not name, or after `trainUntil`. */
      unplacedRowCount: count,
    })
    .optional(),
  /** Files of row logs that the store was prepared from, by digests of their names: appends leave them out. */
  rowFiles: z.array(sha256).optional(),
  /** Logs that were appended, in order. */
  appends: z.array(AppendSchema).optional(),
  /** Every other file of the store; the digest of the manifest therefore covers all of it. */
  files: z.array(
    z.strictObject({
      name: z.string().refine(isInFolder, 'expected a file in the folder of the store'),
      byteCount: count,
      sha256: z.string().regex(/^[0-9a-f]{64}$/),
    }),
  ),
});

/** A manifest may come from elsewhere, so its names must not lead out of the folder of the store. */
function isInFolder(name: string): boolean {
  const parts = name.split('/');
  return !/[\\\0]/.test(name) && parts.every((part) => part !== '' && !/^\.{1,2}$/.test(part));
}

export type EncodedFeature = z.infer<typeof EncodedFeatureSchema>;

/** The ids 1 to this one are those of values outside of the dictionary; 0 if only id 0 is. */
export function unseenBucketsOf(feature: EncodedFeature): number {
  if (feature.kind !== 'category' || feature.encoding.by !== 'dictionary') return 0;
  return feature.encoding.unseenBuckets ?? 0;
}
export type StoreManifest = z.infer<typeof StoreManifestSchema>;

export const MANIFEST_FILE = 'manifest.json';

/** The catalog of a store to which logs were appended so many times. */
export function catalogFileOf(appendCount = 0): string {
  return appendCount === 0 ? 'tasks.arrow' : `tasks-${appendNumber(appendCount)}.arrow`;
}

/** @param append from 1. */
export function appendNumber(append: number): string {
  return String(append).padStart(4, '0');
}

/** The rows of new adgroups that were too small at this append and those before. */
export function waitingFileOf(appendCount = 0): string {
  return `waiting-${appendNumber(appendCount)}.parquet`;
}

export const COLUMNS_FILE = 'columns.json';

const ColumnTypeSchema = z.discriminatedUnion('log', [
  z.strictObject({
    log: z.literal('text'),
    inferred: z.enum(['BIGINT', 'DOUBLE', 'BOOLEAN', 'TIMESTAMP', 'VARCHAR']).optional(),
  }),
  z.strictObject({ log: z.literal('typed'), type: z.string() }),
]);

export const ColumnTypesSchema = z.record(z.string(), ColumnTypeSchema);
export type StoredColumnTypes = z.infer<typeof ColumnTypesSchema>;

/** Rows of the tables of features with a dictionary. */
export function dictionaryRowCounts({
  features,
}: Pick<StoreManifest, 'features'>): Record<string, number> {
  return Object.fromEntries(
    features.flatMap((feature) =>
      feature.kind !== 'number' && feature.encoding.by === 'dictionary'
        ? [[feature.name, feature.rowCount]]
        : [],
    ),
  );
}
