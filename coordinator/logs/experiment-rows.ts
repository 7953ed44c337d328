/** Sums of an A/B test by unit, arm and segment, from logs of any format or from the row log of a ranking server. */

import { tmpdir } from 'node:os';
import { type QianmoError, errorOf } from '../../shared/base/errors.js';
import type { RunEventSink } from '../../shared/events/run-events.js';
import { counted } from '../../shared/names/counted.js';
import type { ObjectStore } from '../../shared/storage/object-store.js';
import { ArmSums, type UnitSums } from '../scoring/experiment.js';
import type { DuckSession } from './duckdb-session.js';
import { findLogFiles } from './log-files.js';
import { readRawLogs } from './log-reading.js';
import { SERVED } from './row-log.js';
import { literal } from './sql.js';
import { withDuckSession } from './work-folder.js';

const MEMORY_MIB_MAX = 2_048;
const ARMS_MAX = 8;
const SEGMENTS_MAX = 50;

interface ExperimentColumns {
  readonly unit: string;
  readonly arm?: string | undefined;
  readonly outcome?: string | undefined;
  readonly impressions?: string | undefined;
  readonly segment?: string | undefined;
  readonly time?: string | undefined;
}

export interface ExperimentRows {
  /** By name, the control first. */
  readonly arms: ReadonlyMap<string, ArmSums>;
  /** By segment and arm; empty without a column of segments. */
  readonly segments: ReadonlyMap<string, ReadonlyMap<string, ArmSums>>;
  /** Units with rows of several arms, which are left out. */
  readonly crossedCount: number;
  /** Rows without a unit or an arm, and rows of other arms. */
  readonly otherRowCount: number;
}

interface Request {
  readonly logs: readonly string[];
  readonly columns: ExperimentColumns;
  /** The arms that are compared, the control first; by default all of them. Each may be the start of a name. */
  readonly arms?: readonly string[] | undefined;
  /** When the test began; rows from before say what units did without it. */
  readonly fromSeconds?: number | undefined;
}

interface Surroundings {
  readonly sink: RunEventSink;
  readonly signal: AbortSignal;
  readonly objectStoreOf: (address: string) => ObjectStore;
}

/** @throws QianmoError `usage` for a column or an arm that is not there, `data` for values that are no numbers. */
export async function readExperimentRows(
  request: Request,
  { sink, signal, objectStoreOf }: Surroundings,
): Promise<ExperimentRows> {
  const place = { temporaryFolder: tmpdir(), memoryMiBMax: MEMORY_MIB_MAX, signal };
  return withDuckSession('experiment', place, async (session, folder) => {
    const source = { session, objectStoreOf, temporaryFolder: folder };
    const logs = [...request.logs];
    const files = await findLogFiles({ logs, format: 'auto' }, source);
    const isServed = files.every(({ served }) => served !== undefined);
    const columns = { ...(isServed ? SERVED_COLUMNS : {}), ...given(request.columns) };
    const uses = COLUMN_NAMES.flatMap((part) => {
      const name = columns[part];
      return name === undefined ? [] : [{ part, name, configPath: `--${part}` }];
    });
    for (const part of REQUIRED)
      if (columns[part] === undefined) throw missingColumn(part, request.logs);
    if (request.fromSeconds !== undefined && columns.time === undefined)
      throw missingColumn('time', request.logs);
    await readRawLogs(files, uses, session, sink);
    const sqlOf = (part: Part): string | null => {
      const index = uses.findIndex((use) => use.part === part);
      return index < 0 ? null : `CAST(c${index} AS VARCHAR)`;
    };
    await makeRows(session, sqlOf, request);
    return sumsOf(session, request);
  });
}

const COLUMN_NAMES = ['unit', 'arm', 'outcome', 'impressions', 'segment', 'time'] as const;
type Part = (typeof COLUMN_NAMES)[number];
const REQUIRED = ['unit', 'arm', 'outcome'] as const;
const SERVED_COLUMNS = { arm: SERVED.bundle, outcome: SERVED.click, time: SERVED.time };

function given(columns: ExperimentColumns): Partial<ExperimentColumns> {
  return Object.fromEntries(Object.entries(columns).filter(([, name]) => name !== undefined));
}

/** Numbers of this size are seconds since 1970 until the year 5138, and milliseconds after 1973. */
const SECONDS_MAX = 1e11;
/** Sums of decimals are exact, so they do not depend on the order in which DuckDB adds. */
const EXACT = 'DECIMAL(24, 6)';

/** Makes the table `rows`: unit, arm, segment, outcome `y`, impressions `x`, and whether it is from before the test. */
async function makeRows(
  session: DuckSession,
  sqlOf: (part: Part) => string | null,
  { logs, fromSeconds }: Request,
): Promise<void> {
  const time = sqlOf('time');
  const seconds = `coalesce(TRY_CAST(${time ?? 'NULL'} AS DOUBLE), epoch(TRY_CAST(${time ?? 'NULL'} AS TIMESTAMP)))`;
  const isBefore =
    fromSeconds === undefined
      ? 'false'
      : `CASE WHEN ${seconds} > ${SECONDS_MAX} THEN ${seconds} / 1000 ELSE ${seconds} END < ${fromSeconds}`;
  const exact = (part: Part, absent: string): string => {
    const sql = sqlOf(part);
    return sql === null ? absent : `TRY_CAST(${sql} AS ${EXACT})`;
  };
  await session.run(
    `CREATE TABLE rows AS SELECT rowid AS number, ${sqlOf('unit') ?? ''} AS unit, ${sqlOf('arm') ?? ''} AS arm,
        ${sqlOf('segment') ?? "''"} AS segment, ${exact('outcome', 'NULL')} AS y,
        ${exact('impressions', `CAST(1 AS ${EXACT})`)} AS x, ${isBefore} AS before FROM raw`,
  );
  const bad = await session.rows(
    `SELECT CAST(number AS DOUBLE) FROM rows WHERE y IS NULL OR x IS NULL OR x < 0 OR before IS NULL ORDER BY number LIMIT 1`,
  );
  if (bad[0] === undefined) return;
  throw errorOf('data', 'a row of the test cannot be counted', {
    where: `${logs.join(', ')}, row ${Number(bad[0][0]) + 1}`,
    expected:
      'an outcome that is a number, impressions from 0 on, and with --from a time: seconds or milliseconds since 1970, or a date',
    cure: 'correct the row, or name other columns with --outcome, --impressions and --time',
  });
}

async function sumsOf(session: DuckSession, request: Request): Promise<ExperimentRows> {
  const found = await session.rows(
    `SELECT arm, count(DISTINCT unit) AS units FROM rows WHERE NOT before AND arm IS NOT NULL AND unit IS NOT NULL
      GROUP BY arm ORDER BY units DESC, arm LIMIT ${request.arms === undefined ? ARMS_MAX + 1 : 10_000}`,
  );
  const names = chosenArms(
    found.map(([arm]) => String(arm)),
    request,
  );
  const isCounted = `unit IS NOT NULL AND (before OR coalesce(arm IN (${names.map(literal).join(', ')}), false))`;
  const exact = (column: string, when: string): string =>
    `CAST(coalesce(sum(${column}) FILTER (${when}), 0) AS DOUBLE)`;
  const units = `SELECT min(arm) FILTER (NOT before) AS arm,
      min(arm) FILTER (NOT before) <> max(arm) FILTER (NOT before) AS crossed,
      coalesce(arg_min(segment, number) FILTER (NOT before), '') AS segment, ${exact('y', 'NOT before')} AS y, ${exact('x', 'NOT before')} AS x,
      ${exact('y', 'before')} AS y_before, ${exact('x', 'before')} AS x_before, unit
    FROM rows WHERE ${isCounted} GROUP BY unit HAVING count(*) FILTER (NOT before) > 0`;
  const [unitCount = 0, crossedCount = 0] = (
    await session.row(
      `SELECT CAST(count(*) AS DOUBLE), CAST(count(*) FILTER (crossed) AS DOUBLE) FROM (${units})`,
    )
  ).map(Number);
  const [otherRowCount] = await session.row(
    `SELECT CAST(count(*) AS DOUBLE) FROM rows WHERE NOT (${isCounted})`,
  );
  const arms = new Map(names.map((name) => [name, new ArmSums()]));
  const segments = new Map<string, Map<string, ArmSums>>();
  const inOrder = `SELECT arm, segment, y, x, y_before, x_before FROM (${units}) WHERE NOT crossed ORDER BY unit`;
  for await (const chunk of session.chunks(inOrder, unitCount - crossedCount))
    for (const [arm, segment, ...sums] of chunk.getRows()) {
      const [outcomes = 0, impressions = 0, outcomesBefore = 0, impressionsBefore = 0] =
        sums.map(Number);
      const unit: UnitSums = [outcomes, impressions, outcomesBefore, impressionsBefore];
      arms.get(String(arm))?.add(unit);
      if (request.columns.segment === undefined) continue;
      const ofSegment = segments.get(String(segment)) ?? new Map<string, ArmSums>();
      segments.set(String(segment), ofSegment);
      const ofArm = ofSegment.get(String(arm)) ?? new ArmSums();
      ofSegment.set(String(arm), ofArm);
      ofArm.add(unit);
      if (segments.size > SEGMENTS_MAX) throw tooMany('segments', SEGMENTS_MAX, '--segment');
    }
  return { arms, segments, crossedCount, otherRowCount: Number(otherRowCount) };
}

function chosenArms(
  found: readonly string[],
  { arms, logs, columns: { arm = SERVED.bundle } }: Request,
): readonly string[] {
  const chosen = arms?.map((name) => {
    const starting = found.filter((each) => each.startsWith(name));
    const match = found.includes(name) ? name : starting.length === 1 ? starting[0] : undefined;
    if (match !== undefined) return match;
    throw errorOf('usage', 'no arm of the test has this name', {
      where: `--arms: ${name}`,
      expected: `a value of the column ${arm}, or the start of one: ${found.slice(0, ARMS_MAX).join(', ')}`,
    });
  });
  const names = [...new Set(chosen ?? found)];
  if (names.length > ARMS_MAX) throw tooMany('arms', ARMS_MAX, '--arms');
  if (names.length > 1) return names;
  throw errorOf('data', 'there is nothing to compare', {
    where: logs.join(', '),
    expected: `rows of at least two arms (column ${arm})`,
    found: counted(names.length, 'arm'),
    cure: 'name the column that tells the arms apart with --arm, or give the log of the time in which there were two',
  });
}

function tooMany(what: string, most: number, option: string): QianmoError {
  return errorOf('usage', `the test has too many ${what}`, {
    where: option,
    expected: `at most ${most}`,
    cure:
      option === '--arms'
        ? 'name those that are compared, the control first: --arms a,b'
        : 'name a column with fewer values',
  });
}

function missingColumn(part: Part, logs: readonly string[]): QianmoError {
  return errorOf('usage', `the column of ${NAMES[part]} is not named`, {
    where: logs.join(', '),
    expected: `--${part} COLUMN; only row logs of a server have columns of their own for arm, outcome and time`,
  });
}

const NAMES: Readonly<Record<Part, string>> = {
  unit: 'what was drawn, such as the user',
  arm: 'the arm',
  outcome: 'the outcome',
  impressions: 'impressions',
  segment: 'segments',
  time: 'the time',
};
