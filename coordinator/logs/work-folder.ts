/**
 * Temporary folders of a process, for what is too large for its memory. A process that is killed leaves its folder, which may have
 * the size of the logs; the next one that opens a folder in the same place removes it.
 */

import { mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { uptime } from 'node:os';
import { join } from 'node:path';
import { openDuckSession, type DuckSession } from './duckdb-session.js';
import { literal } from './sql.js';
import { systemClock } from '../../shared/base/clock.js';
import { systemFailure } from '../../shared/base/system-errors.js';
import {
  livenessOf,
  ProcessIdentitySchema,
  thisProcess,
  type ProcessIdentity,
} from '../../shared/storage/process-identity.js';

const NAME_START = 'qianmo-';
const OWNER_FILE = 'owner.json';
const DAY_SECONDS = 24 * 60 * 60;

/** The work that a folder is for, which is part of its name. */
type WorkKind = 'prepare' | 'append' | 'ope' | 'experiment' | 'forget';

const WORK_NAME = /^qianmo-(prepare|append|ope|experiment|forget)-/;

/**
 * Does the work with an empty folder, which is removed when it has ended.
 *
 * @throws QianmoError `environment` if there can be no folder in `parent`.
 */
export async function withWorkFolder<Result>(
  kind: WorkKind,
  parent: string,
  work: (folder: string) => Promise<Result>,
): Promise<Result> {
  const folder = await open(kind, parent).catch((cause: unknown) => {
    throw systemFailure(cause, 'making a temporary folder', parent);
  });
  try {
    return await work(folder);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

interface DuckPlace {
  readonly temporaryFolder: string;
  readonly memoryMiBMax: number;
  readonly signal: AbortSignal;
}

/** Does the work with a DuckDB of its own, whose folder holds what exceeds its memory. */
export function withDuckSession<Result>(
  kind: WorkKind,
  { temporaryFolder, memoryMiBMax, signal }: DuckPlace,
  work: (session: DuckSession, folder: string) => Promise<Result>,
): Promise<Result> {
  return withWorkFolder(kind, temporaryFolder, async (folder) => {
    const session = await openDuckSession(folder, memoryMiBMax, signal);
    try {
      return await work(session, folder);
    } finally {
      session.close();
    }
  });
}

async function open(kind: WorkKind, parent: string): Promise<string> {
  await removeOrphans(parent);
  const folder = await mkdtemp(join(parent, `${NAME_START}${kind}-`));
  try {
    await writeFile(join(folder, OWNER_FILE), JSON.stringify(thisProcess()), { mode: 0o600 });
    return folder;
  } catch (cause) {
    // A folder without an owner would stay for ever.
    await rm(folder, { recursive: true, force: true });
    throw cause;
  }
}

async function removeOrphans(parent: string): Promise<void> {
  // Where names cannot be read, there may be room for a folder all the same.
  for (const name of await readdir(parent).catch((): string[] => [])) {
    if (!WORK_NAME.test(name)) continue;
    const folder = join(parent, name);
    try {
      if (await isOrphan(folder)) await rm(folder, { recursive: true, force: true });
    } catch {
      // The folder of another user, one that is being made, or one that somebody else removes.
    }
  }
}

/** A process of another machine or of another container cannot be seen from here, so it counts as alive. */
async function isOrphan(folder: string): Promise<boolean> {
  const owner = ProcessIdentitySchema.parse(
    JSON.parse(await readFile(join(folder, OWNER_FILE), 'utf8')),
  );
  return livenessOf(owner) === 'ended' || (isOfEarlierStart(owner) && (await isQuiet(folder)));
}

function isOfEarlierStart({ host, boot, pidNamespace }: ProcessIdentity): boolean {
  const self = thisProcess();
  const isOfThisMachine = host === self.host && pidNamespace === self.pidNamespace;
  return isOfThisMachine && boot !== null && self.boot !== null && boot !== self.boot;
}

/** Two machines may have one host name, and their first PID namespaces are always alike: on the other one, the work may go on. */
async function isQuiet(folder: string): Promise<boolean> {
  const quietSeconds = (systemClock.epochMs() - (await stat(folder)).mtimeMs) / 1_000;
  return quietSeconds > Math.max(DAY_SECONDS, uptime());
}

/** SQL of a table with these lines of CSV, which are written to a file for it. */
export async function csvSource(
  path: string,
  lines: readonly string[],
  types: Readonly<Record<string, string>>,
): Promise<string> {
  const columns = Object.entries(types);
  if (lines.length === 0)
    return `(SELECT ${columns.map(([name, type]) => `NULL::${type} AS ${name}`).join(', ')} WHERE false)`;
  await writeFile(path, lines.join('')).catch((cause: unknown) => {
    throw systemFailure(cause, 'writing a temporary file', path);
  });
  const named = columns.map(([name, type]) => `'${name}': '${type}'`).join(', ');
  return `read_csv(${literal(path)}, header = false, columns = {${named}})`;
}
