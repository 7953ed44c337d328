/** The events from logs to a task store. */

import { z } from 'zod';

const count = z.int().nonnegative();
const durationMs = z.number().nonnegative();

export const PREPARATION_SHAPES = {
  'store-kept': { address: z.string() },
  'logs-known': { address: z.string(), fileCount: count },
  'logs-appended': {
    changedTaskCount: count,
    newTaskCount: count,
    logRowCount: count,
    durationMs,
  },
  'store-prepared': {
    taskCount: count,
    taskCountBySplit: z.strictObject({ train: count, validation: count, test: count }),
    rowCount: count,
    logRowCount: count,
    durationMs,
  },
  'trunk-rows': {
    batchCount: count,
    rowCount: count,
    smallTaskCount: count,
    smallTaskRowCount: count,
  },
  'trunk-rows-unread': { rowCount: count, methodKind: z.string() },
  'small-tasks-left-out': {
    taskCount: count,
    rowCount: count,
    supportRowsMin: count,
    queryRowsMin: count,
    /** The tasks with too few support rows, where a split file names the rows. The others have too few query rows. */
    fewSupportTaskCount: count.optional(),
    /** True if small tasks of the training split are not among them. */
    areHeldOut: z.boolean(),
  },
  /** Names of tasks that differ only in case or in spaces, with two of them. */
  'tasks-alike': { taskCount: count, names: z.tuple([z.string(), z.string()]) },
  /** Values of a feature, or members of a bag, that differ only in case or in spaces, with two of them. */
  'values-alike': {
    feature: z.string(),
    valueCount: count,
    values: z.tuple([z.string(), z.string()]),
  },
  /** The logs have a time, and support rows are not the earlier ones. */
  'rows-divided-at-random': {},
  'rows-rejected': {
    rowCount: count,
    file: z.string(),
    /** The first of the rows that are rejected for the commonest reason, and their number; absent in events of earlier versions. */
    commonest: z.strictObject({ reason: z.string(), rowCount: count }).optional(),
  },
  'split-empty': { split: z.enum(['validation', 'test']) },
  'label-never-differs': {
    segment: z.string().nullable(),
    labelKind: z.enum(['label', 'value']),
    value: z.number(),
  },
};
