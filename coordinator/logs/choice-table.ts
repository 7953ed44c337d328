/** Logged choices from a table with named columns: CSV, TSV or Parquet, plain or compressed. */

import { QianmoError } from '../../shared/base/errors.js';
import type { RunEventSink } from '../../shared/events/run-events.js';
import type { ObjectStore } from '../../shared/storage/object-store.js';
import { openDuckSession } from './duckdb-session.js';
import { findLogFiles } from './log-files.js';
import { readRawLogs } from './log-reading.js';
import { withWorkFolder } from './work-folder.js';
import type { LoggedRows } from '../scoring/off-policy.js';

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
  surroundings: TableSurroundings,
): Promise<LoggedRows> {
  return withWorkFolder('ope', surroundings.temporaryFolder, (folder) =>
    readInto(folder, paths, columns, surroundings),
  );
}

async function readInto(
  folder: string,
  paths: readonly string[],
  columns: ChoiceColumns,
  { sink, signal, objectStoreOf }: TableSurroundings,
): Promise<LoggedRows> {
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
    const table = new ReadChoices(rowCount, numberCount, paths);
    const inOrder = `SELECT ${selected.join(', ')} FROM raw ORDER BY rowid`;
    for await (const chunk of session.chunks(inOrder, rowCount))
      for (const cells of chunk.getRows()) table.add(cells);
    return table.rows();
  } finally {
    session.close();
  }
}

/** Rows that have been read, in columns: a chunk at a time is held as values of the reader. */
class ReadChoices {
  readonly #numberCount: number;
  readonly #paths: readonly string[];
  readonly #numbers = new Map<string, number>();
  readonly #decisions: Int32Array;
  readonly #rewards: Float64Array;
  readonly #weights: Float64Array;
  readonly #model: LoggedRows['model'];
  #rowCount = 0;
  #decisionCount = 0;

  constructor(rowCount: number, numberCount: number, paths: readonly string[]) {
    const ofRows = (): Float64Array => new Float64Array(rowCount);
    this.#numberCount = numberCount;
    this.#paths = paths;
    this.#decisions = new Int32Array(rowCount);
    this.#rewards = ofRows();
    this.#weights = ofRows();
    this.#model = numberCount < 5 ? null : { ofChoices: ofRows(), ofTarget: ofRows() };
  }

  add(cells: readonly unknown[]): void {
    const row = this.#rowCount;
    this.#rewards[row] = this.#number(cells, 0);
    this.#weights[row] = this.#chance(cells, 2, 0) / this.#chance(cells, 1, Number.MIN_VALUE);
    if (this.#model !== null) {
      this.#model.ofChoices[row] = this.#number(cells, 3);
      this.#model.ofTarget[row] = this.#number(cells, 4);
    }
    this.#decisions[row] = this.#decisionOf(cells[this.#numberCount]);
    this.#rowCount += 1;
  }

  rows(): LoggedRows {
    if (this.#rowCount !== this.#rewards.length) throw new Error('the table has lost rows');
    return {
      decisions: this.#decisions,
      rewards: this.#rewards,
      weights: this.#weights,
      model: this.#model,
    };
  }

  /** By order of appearance. A row without a name is a decision of its own. */
  #decisionOf(name: unknown): number {
    const known = typeof name === 'string' ? this.#numbers.get(name) : undefined;
    if (known !== undefined) return known;
    const fresh = this.#decisionCount;
    this.#decisionCount += 1;
    if (typeof name === 'string') this.#numbers.set(name, fresh);
    return fresh;
  }

  #number(cells: readonly unknown[], column: number): number {
    const value = cells[column];
    if (typeof value === 'number' && Number.isFinite(value)) return value;
    const what = `a ${NAMES[column] ?? 'value'} that is not a number`;
    throw badRow(`${what} in row ${this.#rowCount + 1}`, this.#paths);
  }

  #chance(cells: readonly unknown[], column: number, least: number): number {
    const value = this.#number(cells, column);
    if (value >= least && value <= 1) return value;
    const what = `the ${NAMES[column] ?? 'value'} ${value}`;
    throw badRow(`${what} in row ${this.#rowCount + 1}`, this.#paths);
  }
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
