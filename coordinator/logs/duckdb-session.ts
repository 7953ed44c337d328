/**
 * The DuckDB instance of a prepare: bounded in memory and threads, and stopped by the signal. Tables that
 * exceed the bound spill to the temporary folder. Translates failures of DuckDB.
 */

import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { type DuckDBConnection, type DuckDBDataChunk, DuckDBInstance } from '@duckdb/node-api';
import { type QianmoError, errorOf } from '../../shared/base/errors.js';
import { counted } from '../../shared/names/counted.js';

/** A part of a stream of results. */
export {
  DuckDBBlobValue,
  DuckDBDoubleVector,
  DuckDBFloatVector,
  DuckDBIntegerVector,
  DuckDBListVector,
  type DuckDBDataChunk,
  type DuckDBVector,
} from '@duckdb/node-api';

/** A value of a result whose columns are cast as `DuckSession.rows` asks. */
type Cell = string | number | boolean | null;

export interface DuckSession {
  /** Stops its queries. */
  readonly signal: AbortSignal;
  readonly memoryMiBPerThread: number;
  run(sql: string): Promise<void>;
  /** Returns all rows. Numbers must be cast to DOUBLE, everything else to VARCHAR or BOOLEAN. */
  rows(sql: string): Promise<Cell[][]>;
  row(sql: string): Promise<Cell[]>;
  /**
   * The rows in parts, of which the next one is made while one is used.
   *
   * @param rowCount how many there must be: DuckDB's client does not tell a failure between two parts from the end
   */
  chunks(sql: string, rowCount: number): AsyncGenerator<DuckDBDataChunk>;
  count(relation: string): Promise<number>;
  /** Runs with one thread, so that floating-point sums have one order. */
  inOrder<Value>(work: () => Promise<Value>): Promise<Value>;
  close(): void;
}

/** DuckDB's share of the bound. The rest is for Node, Arrow and memory that DuckDB does not count. */
const DUCKDB_MEMORY_SHARE = 0.5;
/** The least rest, as measured on ten million rows of a hundred thousand tasks. */
const MEMORY_MIB_BESIDE_DUCKDB = 320;
const DUCKDB_MEMORY_MIB_MIN = 96;
const MEMORY_MIB_PER_THREAD = 128;

function openInstance(
  folder: string,
  memoryMiB: number,
  threadCount: number,
): Promise<DuckDBInstance> {
  // Tables of a database file are compressed as they are written, which takes longer than reading the logs.
  // Tables in memory are written as they are, and what exceeds the bound goes to the temporary folder.
  return DuckDBInstance.create(':memory:', {
    memory_limit: `${memoryMiB}MiB`,
    threads: String(threadCount),
    temp_directory: join(folder, 'spill'),
    preserve_insertion_order: 'true',
    autoinstall_known_extensions: 'false',
    autoload_known_extensions: 'false',
  });
}

function duckDbMemoryMiB(memoryMiBMax: number): number {
  const share = Math.floor(memoryMiBMax * DUCKDB_MEMORY_SHARE);
  return Math.max(DUCKDB_MEMORY_MIB_MIN, Math.min(share, memoryMiBMax - MEMORY_MIB_BESIDE_DUCKDB));
}

export async function openDuckSession(
  folder: string,
  memoryMiBMax: number,
  signal: AbortSignal,
): Promise<DuckSession> {
  const memoryMiB = duckDbMemoryMiB(memoryMiBMax);
  const threadCount = Math.max(
    1,
    Math.min(availableParallelism(), 8, Math.floor(memoryMiB / MEMORY_MIB_PER_THREAD)),
  );
  const instance = await openInstance(folder, memoryMiB, threadCount).catch((cause: unknown) => {
    throw duckFailure(cause, folder, memoryMiBMax);
  });
  const connection = await instance.connect();
  const interrupt = (): void => connection.interrupt();
  signal.addEventListener('abort', interrupt);
  // The large side of a join is never built into a hash table. A join does not keep the order of its rows.
  // A part that two expressions have in common would be computed before either, outside of the TRY that makes its failures NULL.
  await connection.run(
    "SET disabled_optimizers = 'join_order,build_side_probe_side,common_subexpressions'",
  );
  await connection.run("SET TimeZone = 'UTC'").catch(() => undefined);
  const isAborted = (): boolean => signal.aborted;
  const guarded = async <Value>(work: () => Promise<Value>): Promise<Value> => {
    if (isAborted()) throw interruption();
    try {
      return await work();
    } catch (cause) {
      throw isAborted() && isInterrupt(cause)
        ? interruption()
        : duckFailure(cause, folder, memoryMiBMax);
    }
  };
  return {
    signal,
    memoryMiBPerThread: memoryMiB / threadCount,
    run: async (sql) => {
      await guarded(() => connection.run(sql));
    },
    rows: (sql) => guarded(() => rowsOf(connection, sql)),
    row: (sql) => guarded(async () => (await rowsOf(connection, sql))[0] ?? []),
    async *chunks(sql, rowCount) {
      const result = await guarded(() => connection.stream(sql));
      const fetchNext = (): ReturnType<typeof result.fetchChunk> =>
        guarded(() => result.fetchChunk());
      const found = yield* chunksAhead(fetchNext);
      if (isAborted()) throw interruption();
      if (found !== rowCount) throw rowsLost(folder, rowCount, found);
    },
    count: (relation) =>
      guarded(async () => {
        const sql = `SELECT CAST(count(*) AS DOUBLE) FROM ${relation}`;
        return Number((await rowsOf(connection, sql))[0]?.[0]);
      }),
    async inOrder(work) {
      await guarded(() => connection.run('SET threads = 1'));
      try {
        return await work();
      } finally {
        await connection.run(`SET threads = ${threadCount}`).catch(() => undefined);
      }
    },
    close() {
      signal.removeEventListener('abort', interrupt);
      connection.closeSync();
      instance.closeSync();
    },
  };
}

async function rowsOf(connection: DuckDBConnection, sql: string): Promise<Cell[][]> {
  const reader = await connection.runAndReadAll(sql);
  // The queries cast their columns to DOUBLE, VARCHAR or BOOLEAN.
  return reader.getRowsJS() as Cell[][];
}

/** True if DuckDB stopped a query because it was told to. */
function isInterrupt(cause: unknown): boolean {
  return cause instanceof Error && /^INTERRUPT/i.test(cause.message);
}

export function interruption(): QianmoError {
  return errorOf('interrupted', 'prepare was stopped on request and wrote nothing', {
    cure: 'run the command again',
  });
}

/** DuckDB's message without its excerpt of the SQL, which is ours and means nothing to a user. */
export function shortDuckMessage(error: unknown): string {
  const message = error instanceof Error ? error.message : String(error);
  return (message.split(/\n\s*(?:\n|LINE \d|Candidate functions:)/)[0] ?? message).trim();
}

/** A refusal of DuckDB as a report, if the machine or a bound is the cause; otherwise the error itself. */
function duckFailure(cause: unknown, folder: string, memoryMiBMax: number): unknown {
  const message = cause instanceof Error ? cause.message : String(cause);
  if (/no space left|disk quota|max_temp_directory_size|could not write all bytes/i.test(message))
    return errorOf('environment', 'the disk is full', {
      where: folder,
      found: shortDuckMessage(cause),
      cure: 'free up space there, or set TMPDIR to a folder on another disk; no partial file was kept',
    });
  if (/out of memory/i.test(message))
    return errorOf('environment', 'prepare needs more memory than it may use', {
      where: 'data.memoryMiBMax',
      expected: `at most ${memoryMiBMax} MiB`,
      found: shortDuckMessage(cause),
      cure: 'raise data.memoryMiBMax',
    });
  return cause;
}

/**
 * The chunks in their order, of which the next one is fetched while one is used.
 *
 * @param fetchNext returns null or an empty chunk after the last
 * @returns the number of rows
 */
async function* chunksAhead<Chunk extends { readonly rowCount: number }>(
  fetchNext: () => Promise<Chunk | null>,
): AsyncGenerator<Chunk, number> {
  let rowCount = 0;
  let next = fetchNext();
  try {
    for (;;) {
      const chunk = await next;
      if (chunk === null || chunk.rowCount === 0) return rowCount;
      rowCount += chunk.rowCount;
      next = fetchNext();
      // It is awaited after the chunk has been used, and fails there.
      next.catch(() => undefined);
      yield chunk;
    }
  } finally {
    // The session may be closed after this, and must not be in use.
    await next.catch(() => undefined);
  }
}

/** The error of rows that end early. DuckDB's client returns an empty chunk at the end and after a failure alike. */
function rowsLost(folder: string, expected: number, found: number): QianmoError {
  return errorOf('environment', 'DuckDB stopped in the middle of its rows', {
    where: folder,
    expected: counted(expected, 'row'),
    found: counted(found, 'row'),
    cure: 'look whether the disk of that folder is full or broken (TMPDIR names another one), and run the command again',
  });
}
