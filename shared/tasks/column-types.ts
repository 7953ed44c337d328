/**
 * The file `columns.json` of a task store: the types of the columns that the logs had and the config
 * names, by name. Whoever encodes single rows needs them: the number 1 is the category `1` in a text column and
 * `1.0` in a column of DOUBLEs. Stores of earlier versions have no such file.
 */

import { z } from 'zod';
import { QianmoError } from '../base/errors.js';

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

/** @throws QianmoError of kind `data` if the bytes are not types of columns. */
export function parseColumnTypes(bytes: Uint8Array, where: string): StoredColumnTypes {
  try {
    return ColumnTypesSchema.parse(JSON.parse(Buffer.from(bytes).toString('utf8')));
  } catch (cause) {
    throw new QianmoError({
      kind: 'data',
      what: "the types of the logs' columns cannot be read",
      where,
      cure: 'restore the store from a copy, or write it again with `qianmo prepare --force`',
      cause,
    });
  }
}
