/** Proposes a config from a log, and writes it. */

import { copyFile, mkdir, readFile, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, dirname, join, relative, resolve } from 'node:path';
import { QianmoError, errorOf } from '../../shared/base/errors.js';
import { systemCodeOf, systemFailure } from '../../shared/base/system-errors.js';
import { RUN_CONFIG } from '../../shared/config/load-run-config.js';
import { parseConfig } from '../../shared/config/yaml-file.js';
import { shortDuckMessage, type DuckSession } from '../logs/duckdb-session.js';
import { findLogFiles, withReadableFiles } from '../logs/log-files.js';
import { SERVED } from '../logs/row-log.js';
import { literal } from '../logs/sql.js';
import { withDuckSession } from '../logs/work-folder.js';
import { proposedConfigText } from '../propose/config-text.js';
import {
  proposeData,
  UndecidedColumn,
  type Ask,
  type ProposedData,
} from '../propose/propose-data.js';
import { sampleColumns, type SampledColumn } from '../propose/sampled-column.js';
import { objectStoreAt } from './places.js';
import type { RequestOf } from './requests.js';
import type { RunContext } from './run-context.js';

export interface ProposedConfig {
  /** The file that was written. */
  readonly path: string;
  readonly text: string;
  readonly proposed: ProposedData;
  /** Rows that were read. */
  readonly rowCount: number;
}

const MEMORY_MIB_MAX = 2_048;

interface Init extends RequestOf<'init'> {
  /** Accepts a config that is there already if it is what would be written. */
  readonly keepsSame?: boolean;
}

interface InitOptions {
  readonly schemaPath: string;
  /** Absent where nobody can be asked. */
  readonly ask?: Ask | undefined;
}

export async function initRun(
  { keepsSame = false, ...request }: Init,
  context: RunContext,
  { schemaPath, ask }: InitOptions,
): Promise<ProposedConfig> {
  const { logs = [], sql, out, force, name } = request;
  if ((logs.length === 0) === (sql === undefined))
    throw errorOf('usage', logs.length === 0 ? 'no log is given' : 'logs and --sql are given', {
      expected: 'log files, or a query with --sql',
      cure: 'name files, as clicks.csv, or give a query: --sql "select ..."',
    });
  const present = force ? null : await textAt(out);
  if (present !== null && !keepsSame) throw presentConfig(out);
  const run = name ?? runNameOf(sql === undefined ? logs : [basename(out)]);
  const kept = join('runs', run, 'query.parquet');
  const bounds = {
    temporaryFolder: tmpdir(),
    memoryMiBMax: MEMORY_MIB_MAX,
    signal: context.signal,
  };
  return withDuckSession('prepare', bounds, async (session, folder) => {
    const queried = join(folder, 'query.parquet');
    const temporaryFolder = context.logsFolder ?? folder;
    if (sql !== undefined)
      await writeQueryResult(
        await withReadableFiles(sql, { session, temporaryFolder }),
        queried,
        session,
      );
    const read = sql === undefined ? logs : [queried];
    const [file] = await findLogFiles(
      { logs: [...read], format: 'auto' },
      {
        session,
        objectStoreOf: (address) => objectStoreAt(address, context.environment),
        temporaryFolder,
        fileCountMax: 1,
      },
    );
    if (file === undefined) throw new Error('logs that match have a file');
    const sampled = await sampleColumns(file, session);
    const columns = file.served === undefined ? sampled : withoutServed(sampled);
    const decided = { session, ask, signal: context.signal };
    const { task, label, time } = file.served === undefined ? NO_ROLES : SERVED_ROLES;
    const roles = {
      task: request.task ?? task,
      label: request.label ?? label,
      time: request.time ?? time,
    };
    const proposed = await decidedData(columns, { ...request, ...roles }, decided);
    const schema = relative(dirname(resolve(out)), schemaPath);
    const named = sql === undefined ? logs : [kept];
    const text = proposedConfigText({ run, logs: named, schema, data: proposed });
    // A proposal that the schema refuses is a bug, and must not be left as a file.
    parseConfig(RUN_CONFIG, text, out);
    if (present !== null && present !== text) throw presentConfig(out);
    if (sql !== undefined) {
      await mkdir(dirname(kept), { recursive: true });
      await copyFile(queried, kept);
    }
    await writeFile(out, text).catch((cause: unknown) => {
      throw systemFailure(cause, 'writing the config', out);
    });
    return { path: out, text, proposed, rowCount: columns[0]?.values.length ?? 0 };
  });
}

const NO_ROLES = { task: undefined, label: undefined, time: undefined };
const SERVED_ROLES = { task: SERVED.adgroup, label: SERVED.click, time: SERVED.time };

/** Columns of a row log without those of the server that have no role, and without copies of the key of the adgroup. */
function withoutServed(columns: readonly SampledColumn[]): SampledColumn[] {
  const roles: readonly string[] = Object.values(SERVED_ROLES);
  const others: readonly string[] = Object.values(SERVED);
  const keys = columns.find(({ name }) => name === SERVED.adgroup)?.values ?? [];
  return columns.filter(({ name, values }) =>
    roles.includes(name)
      ? true
      : !others.includes(name) && values.some((value, row) => value !== keys[row]),
  );
}

interface Deciding {
  readonly session: DuckSession;
  readonly ask: Ask | undefined;
  readonly signal: AbortSignal;
}

/** Asks until nothing is left to decide. */
async function decidedData(
  columns: readonly SampledColumn[],
  request: RequestOf<'init'>,
  { session, ask, signal }: Deciding,
): Promise<ProposedData> {
  let asked = { ...request, mustBeCertain: ask !== undefined };
  for (;;)
    try {
      return await proposeData(columns, asked, session);
    } catch (error) {
      if (!(error instanceof UndecidedColumn) || ask === undefined) throw error;
      const answer = await ask(error.question, signal);
      if (answer === null) throw error;
      asked = { ...asked, [error.field]: answer };
    }
}

/** Null if there is no file. */
async function textAt(path: string): Promise<string | null> {
  try {
    return await readFile(path, 'utf8');
  } catch (cause) {
    return systemCodeOf(cause) === 'ENOENT' ? null : '';
  }
}

function presentConfig(path: string): QianmoError {
  return errorOf('usage', 'there is a config already', {
    where: path,
    cure: `use it with \`qianmo start ${path}\`, write another file with --out, or replace this one with --force`,
  });
}

/** The name of a run from that of its first log. */
function runNameOf(logs: readonly string[]): string {
  const [first = ''] = logs;
  const stem = basename(first)
    .toLowerCase()
    .replace(/\..*$/, '')
    .replace(/[^a-z0-9]+/g, '-')
    .replace(/^-+|-+$/g, '')
    .slice(0, 50);
  return stem === '' ? 'my-run' : stem;
}

/** Writes the rows of a query to a Parquet file, which `prepare` reads like any log. */
async function writeQueryResult(sql: string, path: string, session: DuckSession): Promise<void> {
  try {
    await session.run(`COPY (${sql.replace(/;\s*$/, '')}\n) TO ${literal(path)} (FORMAT parquet)`);
  } catch (cause) {
    if (cause instanceof QianmoError) throw cause;
    throw errorOf('usage', 'the query of --sql failed', {
      expected: 'one SELECT in the SQL of DuckDB',
      found: shortDuckMessage(cause),
      cure: 'correct the query',
    });
  }
}
