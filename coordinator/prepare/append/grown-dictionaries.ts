/**
 * The encodings of a store to which logs are appended: ids, means, deviations and target encodings stay;
 * values that training tasks bring often enough get the next ids.
 */

import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { FeatureConfig } from '../../../shared/config/data-config.js';
import type { RunConfig } from '../../../shared/config/run-config.js';
import { systemFailure } from '../../../shared/base/system-errors.js';
import { unseenBucketsOf, type EncodedFeature } from '../../../shared/tasks/store-manifest.js';
import type { TaskStore } from '../../../shared/tasks/task-store.js';
import type { DuckSession } from '../../logs/duckdb-session.js';
import { literal } from '../../logs/sql.js';
import {
  dictionaryTableOf,
  encodeDistinctBags,
  encodedAs,
  withFewJoins,
  type FeatureEncoding,
} from '../feature-encoding.js';
import { loadTargetEncodings } from '../target-encodings.js';

/** @param folder takes the known values on their way into the tables. */
export async function grownEncodings(
  config: RunConfig,
  store: TaskStore,
  folder: string,
  session: DuckSession,
): Promise<FeatureEncoding[]> {
  const encodings: FeatureEncoding[] = [];
  const own = store.manifest.features.slice(0, config.data.features.length);
  for (const [index, feature] of own.entries()) {
    const configured = config.data.features[index];
    if (feature.kind === 'number' || feature.encoding.by !== 'dictionary' || !configured) {
      encodings.push(encodedAs(index, feature));
      continue;
    }
    await loadDictionary(index, feature, { store, folder }, session);
    const idBefore = unseenBucketsOf(feature);
    if (!hasFixedTable(config, feature))
      await addValues(index, { ...configured, idBefore }, session);
    if (feature.kind === 'bag') await encodeDistinctBags(index, dictionaryTableOf(index), session);
    const [last] = await session.row(
      `SELECT CAST(coalesce(max(id), ${idBefore}) AS DOUBLE) FROM ${dictionaryTableOf(index)}`,
    );
    encodings.push(encodedAs(index, { ...feature, rowCount: Number(last) + 1 }));
  }
  const joined = await withFewJoins(encodings, config.data, session);
  return [...joined, ...(await loadTargetEncodings(config, joined, { store, folder }, session))];
}

/** The row behind the values of a bag may be that of empty places (`padding: trained`): none can follow. */
function hasFixedTable({ model }: RunConfig, feature: EncodedFeature): boolean {
  return feature.kind === 'bag' && model.padding === 'trained';
}

/** As bytes in hexadecimal, since a value may hold any character. */
async function loadDictionary(
  index: number,
  { name }: EncodedFeature,
  { store, folder }: { readonly store: TaskStore; readonly folder: string },
  session: DuckSession,
): Promise<void> {
  const values = (await store.readDictionary?.(name)) ?? [];
  const lines = values.flatMap((value, id) =>
    value === null ? [] : [`${id},${Buffer.from(value).toString('hex')}\n`],
  );
  const path = join(folder, `known-${index}.csv`);
  await writeFile(path, lines.join('')).catch((cause: unknown) => {
    throw systemFailure(cause, 'writing a temporary file', path);
  });
  await session.run(
    `CREATE TABLE ${dictionaryTableOf(index)} AS
      SELECT decode(unhex(hex)) AS value, id FROM ${
        lines.length > 0
          ? `read_csv(${literal(path)}, header = false, columns = {'id': 'INTEGER', 'hex': 'VARCHAR'})`
          : `(SELECT 0::INTEGER AS id, '' AS hex WHERE false)`
      }`,
  );
}

async function addValues(
  index: number,
  feature: FeatureConfig & { readonly idBefore: number },
  session: DuckSession,
): Promise<void> {
  if (feature.kind === 'number') return;
  const table = dictionaryTableOf(index);
  const value = feature.kind === 'bag' ? `unnest(f${index})` : `f${index}`;
  await session.run(
    `INSERT INTO ${table} SELECT value, CAST((SELECT coalesce(max(id), ${feature.idBefore}) FROM ${table})
        + row_number() OVER (ORDER BY occurrences DESC, value) AS INTEGER)
      FROM (SELECT value, count(*) AS occurrences FROM
          (SELECT ${value} AS value FROM encodable WHERE split = 0) WHERE value IS NOT NULL
          GROUP BY value HAVING count(*) >= ${feature.countMin}) found
      ANTI JOIN ${table} USING (value)`,
  );
}
