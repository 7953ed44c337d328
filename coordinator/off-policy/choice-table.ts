/** Logged choices from a table with named columns: CSV, TSV or Parquet, plain or compressed. */

import { mkdtemp, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { QianmoError } from '../../shared/base/errors.js';
import type { RunEventSink } from '../../shared/events/run-events.js';
import type { ObjectStore } from '../../shared/storage/object-store.js';
import { openDuckSession } from '../logs/duckdb-session.js';
import { findLogFiles } from '../logs/log-files.js';
import { readRawLogs } from '../logs/log-reading.js';
import { numbersOf, type LoggedRows } from './estimates.js';

const MEMORY_MIB_MAX = 1024;
const ROWS_MAX = 10_000_000;

/** The names of the columns. */
interface ChoiceColumns {
  readonly reward: string;
  /** Probability of the logged choice under the policy that logged, and under the target policy. */
  readonly propensity: string;
  readonly target: string;
  /** Expected reward of the logged choice and of the target policy's choice, if there is a model. */
  readonly estimate?: string | undefined;
  readonly targetEstimate?: string | undefined;
  /** Rows of one decision are drawn together by the bootstrap. */
  readonly decision?: string | undefined;
}

interface TableSurroundings {
  readonly sink: RunEventSink;
  readonly signal: AbortSignal;
  readonly objectStoreOf: (address: string) => ObjectStore;
  readonly temporaryFolder: string;
}

/** @throws QianmoError `usage` for a missing column, `data` for a value that is not one of its kind. */
export async function readChoiceTable(
  paths: readonly string[],
  columns: ChoiceColumns,
  { sink, signal, objectStoreOf, temporaryFolder }: TableSurroundings,
): Promise<LoggedRows> {
  const folder = await mkdtemp(join(temporaryFolder, 'qianmo-ope-'));
  const session = await openDuckSession(folder, MEMORY_MIB_MAX, signal);
  try {
    const source = { session, objectStoreOf, temporaryFolder: folder };
    const files = await findLogFiles({ logs: [...paths], format: 'auto' }, source);
    const { decision, estimate, targetEstimate } = columns;
    const uses = [
      { name: columns.reward, configPath: '--reward' },
      { name: columns.propensity, configPath: '--propensity' },
      { name: columns.target, configPath: '--target' },
      ...(estimate === undefined ? [] : [{ name: estimate, configPath: '--estimate' }]),
      ...(targetEstimate === undefined
        ? []
        : [{ name: targetEstimate, configPath: '--target-estimate' }]),
      ...(decision === undefined ? [] : [{ name: decision, configPath: '--decision' }]),
    ];
    const { rowCount } = await readRawLogs(files, uses, session, sink);
    const [malformed] = await session.row('SELECT CAST(count(*) AS DOUBLE) FROM malformed');
    if (Number(malformed) > 0) throw badRow(`${Number(malformed)} lines that are not rows`, paths);
    if (rowCount > ROWS_MAX) throw badRow(`${rowCount} rows, more than ${ROWS_MAX}`, paths);
    const numberCount = uses.length - (decision === undefined ? 0 : 1);
    const selected = uses.map((_, index) =>
      index < numberCount ? `TRY_CAST(c${index} AS DOUBLE)` : `CAST(c${index} AS VARCHAR)`,
    );
    const rows = await session.rows(`SELECT ${selected.join(', ')} FROM raw ORDER BY rowid`);
    return loggedRowsOf(rows, numberCount, paths);
  } finally {
    session.close();
    await rm(folder, { recursive: true, force: true });
  }
}

type Cells = readonly (string | number | boolean | null)[];

function loggedRowsOf(
  rows: readonly Cells[],
  numberCount: number,
  paths: readonly string[],
): LoggedRows {
  const number = (row: number, column: number): number => {
    const value = rows[row]?.[column];
    if (typeof value === 'number' && Number.isFinite(value)) return value;
    throw badRow(`a ${NAMES[column] ?? 'value'} that is not a number in row ${row + 1}`, paths);
  };
  const chance = (row: number, column: number, least: number): number => {
    const value = number(row, column);
    if (value >= least && value <= 1) return value;
    throw badRow(`the ${NAMES[column] ?? 'value'} ${value} in row ${row + 1}`, paths);
  };
  const fill = (of: (row: number) => number): Float64Array =>
    Float64Array.from({ length: rows.length }, (_, row) => of(row));
  return {
    decisions: numbersOf(
      rows.map((cells, row) => {
        const name = cells[numberCount] ?? null;
        // No row's number is taken for a name.
        return name === null ? `row ${row}` : `decision ${name}`;
      }),
    ),
    rewards: fill((row) => number(row, 0)),
    weights: fill((row) => chance(row, 2, 0) / chance(row, 1, Number.MIN_VALUE)),
    model:
      numberCount < 5
        ? null
        : { ofChoices: fill((row) => number(row, 3)), ofTarget: fill((row) => number(row, 4)) },
  };
}

const NAMES = ['reward', 'propensity', 'target propensity', 'estimate', 'target estimate'];

function badRow(found: string, paths: readonly string[]): QianmoError {
  return new QianmoError({
    kind: 'data',
    what: 'the table of choices cannot be used',
    where: paths.join(', '),
    expected:
      'numbers; propensities above 0 and at most 1, target propensities from 0 to 1, at most 10,000,000 rows',
    found,
    cure: 'correct the table, or name other columns',
  });
}
