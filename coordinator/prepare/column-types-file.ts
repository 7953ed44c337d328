/** Writes the types of the columns that the config names, as the logs gave or prepare inferred them. */

import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { systemFailure } from '../../shared/base/system-errors.js';
import { COLUMNS_FILE, ColumnTypesSchema } from '../../shared/tasks/column-types.js';
import type { DuckSession } from '../logs/duckdb-session.js';
import type { LogColumn } from '../logs/log-columns.js';

/** @param session in which the view `typed_logs` is. It holds the columns that expressions name. */
export async function writeColumnTypes(
  folder: string,
  columns: readonly LogColumn[],
  session: DuckSession,
): Promise<void> {
  const described = await session.rows(
    'SELECT column_name, column_type FROM (DESCRIBE SELECT * FROM typed_logs)',
  );
  const typeByName = new Map(described.map(([name, type]) => [String(name), String(type)]));
  const types = ColumnTypesSchema.parse(
    Object.fromEntries(
      columns.map(({ name, type }) => {
        if (type !== null) return [name, { log: 'typed', type }];
        const inferred = typeByName.get(name);
        return [name, { log: 'text', ...(inferred === undefined ? {} : { inferred }) }];
      }),
    ),
  );
  const path = join(folder, COLUMNS_FILE);
  await writeFile(path, `${JSON.stringify(types, null, 2)}\n`).catch((cause: unknown) => {
    throw systemFailure(cause, 'writing the task store', path);
  });
}
