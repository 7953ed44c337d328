/** Logged choices from a table with named columns: CSV, TSV or Parquet, plain or compressed. */

import { type QianmoError, errorOf } from '../../shared/base/errors.js';
import type { RunEventSink } from '../../shared/events/run-events.js';
import type { ObjectStore } from '../../shared/storage/object-store.js';
import { findLogFiles } from './log-files.js';
import { readRawLogs } from './log-reading.js';
import { withDuckSession } from './work-folder.js';
import type { LoggedRows } from '../scoring/off-policy.js';

const MEMORY_MIB_MAX = 1024;
const ROWS_MAX = 10_000_000;

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
  const { sink, objectStoreOf } = surroundings;
  const bounds = { ...surroundings, memoryMiBMax: MEMORY_MIB_MAX };
  return withDuckSession('ope', bounds, async (session, folder) => {
    const source = { session, objectStoreOf, temporaryFolder: folder };
    const files = await findLogFiles({ logs: [...paths], format: 'auto' }, source);
    const { decision, estimate, targetEstimate } = columns;
    const named = [
      [columns.reward, '--reward'],
      [columns.propensity, '--propensity'],
      [columns.target, '--target'],
      [estimate, '--estimate'],
      [targetEstimate, '--target-estimate'],
      [decision, '--decision'],
    ] as const;
    const uses = named.flatMap(([name, configPath]) =>
      name === undefined ? [] : [{ name, configPath }],
    );
    const { rowCount } = await readRawLogs(files, uses, session, sink);
    const [malformed] = await session.row('SELECT CAST(count(*) AS DOUBLE) FROM malformed');
    if (Number(malformed) > 0) throw badRow(`${Number(malformed)} lines that are not rows`, paths);
    if (rowCount > ROWS_MAX) throw badRow(`${rowCount} rows, more than ${ROWS_MAX}`, paths);
    const numberCount = uses.length - (decision === undefined ? 0 : 1);
    const selected = uses.map((_, index) =>
      index < numberCount ? `TRY_CAST(c${index} AS DOUBLE)` : `CAST(c${index} AS VARCHAR)`,
    );
    const ofRows = (): Float64Array => new Float64Array(rowCount);
    const rows: LoggedRows = {
      ...{ decisions: new Int32Array(rowCount), rewards: ofRows(), weights: ofRows() },
      model: numberCount < 5 ? null : { ofChoices: ofRows(), ofTarget: ofRows() },
    };
    const decisions = new Map<unknown, number>();
    let row = 0;
    const inOrder = `SELECT ${selected.join(', ')} FROM raw ORDER BY rowid`;
    for await (const chunk of session.chunks(inOrder, rowCount))
      for (const cells of chunk.getRows()) addChoice(rows, row++, cells, { decisions, paths });
    return rows;
  });
}

const NAMES = ['reward', 'propensity', 'target propensity', 'estimate', 'target estimate'];

/** A row, whose numbers are reward, propensity, target propensity and two estimates. */
function addChoice(
  rows: LoggedRows,
  row: number,
  cells: readonly unknown[],
  { decisions, paths }: { decisions: Map<unknown, number>; paths: readonly string[] },
): void {
  const numberOf = (column: number): number => {
    const value = cells[column];
    if (typeof value === 'number' && Number.isFinite(value)) return value;
    throw badRow(`a ${NAMES[column] ?? 'value'} that is not a number in row ${row + 1}`, paths);
  };
  const chanceOf = (column: number, least: number): number => {
    const value = numberOf(column);
    if (value >= least && value <= 1) return value;
    throw badRow(`the ${NAMES[column] ?? 'value'} ${value} in row ${row + 1}`, paths);
  };
  rows.rewards[row] = numberOf(0);
  rows.weights[row] = chanceOf(2, 0) / chanceOf(1, Number.MIN_VALUE);
  if (rows.model !== null) {
    rows.model.ofChoices[row] = numberOf(3);
    rows.model.ofTarget[row] = numberOf(4);
  }
  // By order of appearance. A row without a name is a decision of its own.
  const cell = cells[rows.model === null ? 3 : 5];
  const name = typeof cell === 'string' ? cell : row;
  const decision = decisions.get(name) ?? decisions.size;
  decisions.set(name, decision);
  rows.decisions[row] = decision;
}

function badRow(found: string, paths: readonly string[]): QianmoError {
  return errorOf('data', 'the table of choices cannot be used', {
    where: paths.join(', '),
    expected:
      'numbers; propensities above 0 and at most 1, target propensities from 0 to 1, at most 10,000,000 rows',
    found,
    cure: 'correct the table, or name other columns',
  });
}
