/**
 * Row logs of ranking servers as logs to train on. Shown places are joined with their feedback into one file of JSON lines, which
 * everything behind reads like any log: the columns of requests under their names, and those of the server under names with `served_`.
 */

import { createReadStream } from 'node:fs';
import { readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { gunzipSync } from 'node:zlib';
import { z } from 'zod';
import { systemClock } from '../../shared/base/clock.js';
import { isInterruption, errorOf } from '../../shared/base/errors.js';
import { systemFailure } from '../../shared/base/system-errors.js';
import type { DataConfig, LabelConfig } from '../../shared/config/data-config.js';
import { ROW_FILE_KEY, ROW_FILE_PREFIX } from '../../shared/config/row-record.js';
import type { RunConfig } from '../../shared/config/run-config.js';
import { counted } from '../../shared/names/counted.js';
import { FileObjectStore } from '../../shared/storage/file-object-store.js';
import { objectFolderOf } from '../../shared/storage/open-object-store.js';
import type { ObjectStore } from '../../shared/storage/object-store.js';
import { sha256Of } from '../../shared/tensors/sha256.js';
import type { ServedRow } from '../scoring/served-losses.js';
import type { DuckSession } from './duckdb-session.js';
import { literal } from './sql.js';

/** The columns that a server adds, by what they hold. */
export const SERVED = {
  event: 'served_event',
  time: 'served_time',
  adgroup: 'served_adgroup',
  click: 'served_click',
  impression: 'served_impression',
  value: 'served_value',
  segment: 'served_segment',
  position: 'served_position',
  propensity: 'served_propensity',
  explored: 'served_explored',
  probability: 'served_probability',
  bid: 'served_bid',
  bundle: 'served_bundle',
} as const;

/** The files of a row log, the oldest first. */
interface RowLogFiles {
  readonly store: ObjectStore;
  readonly keys: readonly string[];
}

/** Null if the address is not of a row log. */
export async function rowLogAt(
  address: string,
  objectStoreOf: (address: string) => ObjectStore,
): Promise<RowLogFiles | null> {
  const isRemote = address.startsWith('s3://');
  const folder = objectFolderOf(address);
  if (isRemote ? /[*?[\]{}]/.test(address) : !(await isFolder(folder))) return null;
  const store = isRemote ? objectStoreOf(address) : new FileObjectStore({ folder });
  const keys = (await store.list(ROW_FILE_PREFIX)).filter((key) => ROW_FILE_KEY.test(key));
  return keys.length === 0 ? null : { store, keys };
}

async function isFolder(path: string): Promise<boolean> {
  return (await stat(path).catch(() => null))?.isDirectory() === true;
}

/** The text of a file of a row log: one of a store, or one at a path, compressed or not. */
export async function rowLogText(
  name: string,
  read: () => Promise<Uint8Array | undefined> = () => readFile(name),
): Promise<string> {
  try {
    const bytes = (await read()) ?? new Uint8Array();
    return Buffer.from(name.endsWith('.gz') ? gunzipSync(bytes) : bytes).toString('utf8');
  } catch (cause) {
    throw systemFailure(cause, 'reading a row log', name);
  }
}

/** How rows of a row log came to be a file. */
export interface ServedRows {
  /** For each file of the log that was read, a digest of its name: what it holds does not change. */
  readonly digests: readonly string[];
  /** Files that were known before, and are left out. */
  readonly knownCount: number;
  /** Files with rows whose feedback may still arrive. */
  readonly waitingCount: number;
  readonly rowCount: number;
  /** Columns of the rows. */
  readonly columns: ReadonlySet<string>;
}

interface JoinPlace {
  readonly session: DuckSession;
  /** The file that takes the rows. */
  readonly path: string;
  /** Fetches an object into a file, and returns its path. */
  readonly fetch: (key: string) => Promise<string>;
  /** Says which files are left out, by their digests. Without it there must be rows. */
  readonly isKnown: ((digest: string) => boolean) | undefined;
}

/** The longest that a file is written before it is delivered: `rowsSeconds` of a server. */
const FILE_AGE_MAX_MS = 86_400_000;
/** A file is delivered at this age; feedback may wait so long in another one, and is then compressed and put. */
const DELIVERIES_WAITED = 2;

/**
 * Writes the rows of the files that are not known and whose feedback is complete, in order of time.
 *
 * @throws QianmoError `data` if there must be rows and are none.
 */
export async function joinRows(
  { store, keys }: RowLogFiles,
  { session, path, fetch, isKnown }: JoinPlace,
): Promise<ServedRows> {
  const fresh = keys.filter((key) => isKnown?.(digestOf(key)) !== true);
  const firstMs = Math.min(...fresh.map(beganMsOf));
  // Feedback on a row is in files that ended after it.
  const read = keys.filter((key) => beganMsOf(key) >= firstMs - FILE_AGE_MAX_MS);
  const knownCount = keys.length - fresh.length;
  const none = {
    digests: [],
    knownCount,
    waitingCount: 0,
    rowCount: 0,
    columns: new Set<string>(),
  };
  if (fresh.length === 0) return none;
  await readLines(read, fresh, { store, session, fetch });
  const rows = await session.rows(
    `SELECT key, "lastMs" + "windowMs" + ${DELIVERIES_WAITED} * "deliveryMs" < ${systemClock.epochMs()} FROM row_files
      WHERE "isFresh" ORDER BY key`,
  );
  const complete = rows.flatMap(([key, isComplete]) => (isComplete === true ? [String(key)] : []));
  await session.run(
    `DELETE FROM row_lines WHERE kind = 'ranking' AND key NOT IN (${['', ...complete].map(literal).join(', ')})`,
  );
  const names = await session.rows(
    `SELECT DISTINCT unnest(json_keys(line, '/context') || json_keys(line, '/features')) AS name FROM row_lines
      WHERE kind = 'ranking' ORDER BY name`,
  );
  const own: readonly string[] = Object.values(SERVED);
  const requested = names.map(([name]) => String(name)).filter((name) => !own.includes(name));
  const [rowCount] = await session.row(
    `COPY (${rowsSql(requested)}) TO ${literal(path)}
      (FORMAT csv, HEADER false, QUOTE '', ESCAPE '', DELIMITER E'\\x1f')`,
  );
  await session.run('DROP TABLE row_lines; DROP TABLE row_files; DROP TABLE feedback');
  const served = {
    ...{ digests: complete.map(digestOf), knownCount },
    ...{ waitingCount: fresh.length - complete.length, rowCount: Number(rowCount) },
    columns: new Set([...own, ...requested]),
  };
  if (isKnown === undefined) assertRows(store.address, served);
  return served;
}

/** The name by which a task store knows a file. */
export function digestOf(key: string): string {
  return sha256Of(Buffer.from(key));
}

function beganMsOf(key: string): number {
  return Number(key.slice(ROW_FILE_PREFIX.length, key.indexOf('-', ROW_FILE_PREFIX.length)));
}

const RowSchema = z.looseObject({
  [SERVED.adgroup]: z.string(),
  [SERVED.click]: z.number(),
  [SERVED.value]: z.number(),
});
const ROWS_AT_ONCE = 512;

/** The last rows of a file that `joinRows` wrote, in its order. */
export async function* servedRowsIn(
  { path, served }: { readonly path: string; readonly served?: Pick<ServedRows, 'rowCount'> },
  rowCountMax: number,
): AsyncGenerator<ServedRow[]> {
  let skippedCount = Math.max(0, (served?.rowCount ?? 0) - rowCountMax);
  let rows: ServedRow[] = [];
  for await (const line of createInterface({
    input: createReadStream(path),
    crlfDelay: Infinity,
  })) {
    if (skippedCount-- > 0) continue;
    const row = RowSchema.parse(JSON.parse(line));
    const { [SERVED.adgroup]: adgroup, [SERVED.click]: click, [SERVED.value]: value } = row;
    const own: readonly string[] = Object.values(SERVED);
    const requested = Object.entries(row).filter(([name]) => !own.includes(name));
    rows.push({ adgroup, click, value, features: Object.fromEntries(requested) });
    if (rows.length < ROWS_AT_ONCE) continue;
    yield rows;
    rows = [];
  }
  if (rows.length > 0) yield rows;
}

/** Makes the tables `row_lines`, `row_files` and `feedback`. */
async function readLines(
  keys: readonly string[],
  fresh: readonly string[],
  { store, session, fetch }: Pick<JoinPlace, 'session' | 'fetch'> & Pick<RowLogFiles, 'store'>,
): Promise<void> {
  const paths = new Map<string, string>();
  for (const key of keys)
    paths.set(store instanceof FileObjectStore ? join(store.folder, key) : await fetch(key), key);
  const isFresh = new Set(fresh);
  const files = [...paths].map(
    ([path, key]) =>
      `(${literal(path)}, ${literal(key)}, ${beganMsOf(key)}::DOUBLE, ${isFresh.has(key)})`,
  );
  const read = [...paths.keys()].map(literal).join(', ');
  try {
    await session.run(
      `CREATE OR REPLACE TABLE row_lines AS SELECT key, json->>'kind' AS kind, json AS line
        FROM read_ndjson_objects([${read}], filename = true)
        JOIN (VALUES ${files.join(', ')}) AS files(path, key, "beganMs", "isFresh") ON filename = path`,
    );
  } catch (cause) {
    if (isInterruption(cause)) throw cause;
    throw errorOf('data', 'a row log cannot be read', {
      ...{ where: store.address, cause },
      expected: 'files as a ranking server writes them',
      cure: 'restore the files from a copy, or remove those that are broken',
    });
  }
  await session.run(
    `CREATE OR REPLACE TABLE row_files AS SELECT key, "beganMs", "isFresh",
        greatest("beganMs", max(CASE WHEN kind = 'ranking' THEN CAST(line->>'epochMs' AS DOUBLE) END)) AS "lastMs",
        max(CASE WHEN kind = 'settings'
          THEN 1000 * CAST(line->'settings'->'feedback'->>'windowSeconds' AS DOUBLE) END) AS "windowMs",
        max(CASE WHEN kind = 'settings' THEN 1000 * CAST(line->>'deliverySeconds' AS DOUBLE) END) AS "deliveryMs"
      FROM row_lines JOIN (VALUES ${files.join(', ')}) AS files(path, key, "beganMs", "isFresh") USING (key)
      GROUP BY key, "beganMs", "isFresh"`,
  );
  // An event that was sent again counts once, as it came first.
  await session.run(
    `CREATE OR REPLACE TABLE feedback AS SELECT decision, slot,
        min("epochMs") FILTER (reward IS NULL) AS "shownMs",
        min("epochMs") FILTER (reward IS NOT NULL) AS "rewardMs",
        arg_min(reward, ("epochMs", reward)) FILTER (reward IS NOT NULL) AS reward,
        arg_min(value, ("epochMs", reward)) FILTER (reward IS NOT NULL) AS value
      FROM (SELECT unnest(decision) AS decision, unnest(slot) AS slot, unnest(reward) AS reward,
          unnest(value) AS value, unnest("epochMs") AS "epochMs"
        FROM (SELECT unnest(from_json(line, '{"decision": ["VARCHAR"], "slot": ["INTEGER"], "reward": ["DOUBLE"],
            "value": ["DOUBLE"], "epochMs": ["DOUBLE"]}')) FROM row_lines WHERE kind = 'feedback'))
      GROUP BY decision, slot HAVING count(*) FILTER (reward IS NULL) > 0`,
  );
}

/** SQL of a list of a ranking's line, with an element for each shown place. */
function shownList(name: string, type: string): string {
  return `from_json(line->'shown'->'${name}', '["${type}"]')`;
}

/**
 * SQL of rows as JSON texts: numbers and texts of requests are written as they came.
 *
 * @param requested columns of requests, of the candidates if a ranking has them there and otherwise of the context
 */
function rowsSql(requested: readonly string[]): string {
  const paths = requested.flatMap((name) => {
    const pointer = name.replaceAll('~', '~0').replaceAll('/', '~1');
    return [literal(`/features/${pointer}`), literal(`/context/${pointer}`)];
  });
  const values = requested.map((name, index) => [
    name,
    `CASE WHEN found[${2 * index + 1}] IS NULL THEN found[${2 * index + 2}] ELSE v${index} END`,
  ]);
  const click = 'CASE WHEN "rewardMs" - "shownMs" <= "windowMs" THEN reward ELSE 0 END';
  const own: Readonly<Record<keyof typeof SERVED, string>> = {
    event: `to_json(decision || '.' || slot)`,
    time: 'to_json("epochMs" / 1000)',
    adgroup: 'to_json(adgroup)',
    click: `CASE WHEN ${click} IN (0, 1) THEN to_json(CAST(${click} AS INTEGER)) ELSE to_json(${click}) END`,
    impression: "'1'",
    value: `CASE WHEN "rewardMs" - "shownMs" <= "windowMs" THEN to_json(coalesce(value, reward)) ELSE '0' END`,
    segment: 'to_json(segment)',
    position: 'to_json(slot)',
    propensity: 'to_json(propensity)',
    explored: 'to_json(explored)',
    probability: 'to_json(probability)',
    bid: 'to_json(bid)',
    bundle: 'to_json(bundle)',
  };
  const named = Object.entries(SERVED).map(([part, name]) => [
    name,
    own[part as keyof typeof SERVED],
  ]);
  const members = [...named, ...values].map(
    ([name = '', sql = '']) =>
      `${literal(`${JSON.stringify(name)}:`)} || coalesce(CAST(${sql} AS VARCHAR), 'null')`,
  );
  const unnested = requested.map(
    (_, index) => `, unnest(from_json(found[${2 * index + 1}], '["JSON"]')) AS v${index}`,
  );
  return `SELECT '{' || ${members.join(` || ',' || `)} || '}' FROM
    (SELECT line->>'id' AS decision, CAST(line->>'epochMs' AS DOUBLE) AS "epochMs", line->>'bundle' AS bundle,
        "windowMs", found, generate_subscripts(${shownList('adgroup', 'VARCHAR')}, 1) AS slot,
        unnest(${shownList('adgroup', 'VARCHAR')}) AS adgroup, unnest(${shownList('segment', 'VARCHAR')}) AS segment,
        unnest(${shownList('propensity', 'DOUBLE')}) AS propensity, unnest(${shownList('isExploration', 'BOOLEAN')}) AS explored,
        unnest(${shownList('probability', 'DOUBLE')}) AS probability, unnest(${shownList('bid', 'DOUBLE')}) AS bid
        ${unnested.join('')}
      FROM (SELECT line, "windowMs", json_extract(line, [${paths.join(', ')}]::VARCHAR[]) AS found
        FROM row_lines JOIN row_files USING (key) WHERE kind = 'ranking'))
    JOIN feedback USING (decision, slot) ORDER BY "epochMs", length(decision), decision, slot`;
}

/**
 * The config with the roles that a row log gives its columns, whatever the logs of the config call them. A time that requests hold
 * stays, since its unit is that of the other logs.
 *
 * @throws QianmoError `usage` if other logs are read together with a row log.
 */
export function withServedRoles(
  config: RunConfig,
  files: readonly { readonly name: string; readonly served?: ServedRows }[],
): RunConfig {
  const served = files.flatMap((file) => file.served ?? []);
  if (served.length === 0) return config;
  const other = files.find((file) => file.served === undefined);
  if (other !== undefined)
    throw errorOf('usage', 'a row log is not read together with other logs', {
      where: `data.logs: ${other.name}`,
      expected: 'only row logs, whose columns have roles of their own',
      cure: 'prepare the other logs, and append the row log to them: qianmo refresh run.yaml --logs ADDRESS',
    });
  const isThere = (name: string): boolean => served.every(({ columns }) => columns.has(name));
  const { data } = config;
  const { label, segments, time, downsampling: _dropped, ...rest } = data;
  const roles: DataConfig = {
    ...rest,
    task: SERVED.adgroup,
    ...(label === undefined ? {} : { label: servedLabel(label) }),
    ...(segments === undefined
      ? {}
      : {
          segments: {
            column: isThere(segments.column) ? segments.column : SERVED.segment,
            labels: segments.labels.map((each) => ({ ...each, label: servedLabel(each.label) })),
          },
        }),
    ...(time === undefined
      ? {}
      : { time: typeof time === 'string' && !isThere(time) ? SERVED.time : time }),
  };
  return { ...config, data: roles };
}

function servedLabel(label: LabelConfig): LabelConfig {
  return 'loss' in label
    ? { value: SERVED.value, loss: label.loss }
    : { clicks: SERVED.click, impressions: SERVED.impression };
}

/** @throws QianmoError `data` if no row of a row log can be read yet. */
function assertRows(address: string, { rowCount, waitingCount }: ServedRows): void {
  if (rowCount > 0) return;
  throw errorOf('data', 'the row log has no rows to train on yet', {
    where: address,
    expected: 'shown candidates with a reported impression, after their feedback window',
    found:
      waitingCount > 0
        ? `${counted(waitingCount, 'file')} whose feedback may still arrive`
        : 'rankings without impressions',
    cure:
      waitingCount > 0
        ? 'try again after the window (exploration.feedback.windowSeconds) and two deliveries of files (serve --rows-seconds)'
        : 'report impressions and outcomes to /v1/feedback by their event ids',
  });
}
