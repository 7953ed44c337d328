/**
 * Several divisions of the validation tasks into support and query rows. Which rows a task happens to adapt
 * on is chance, and a choice over several draws depends less on it.
 */

import type { RunConfig } from '../../shared/config/run-config.js';
import type { CountedDivision } from '../../shared/tasks/rows/row-division.js';
import { readSplitRows } from '../scoring/held-out-rows.js';
import { dividedStore } from './divided-store.js';
import type { TaskJobContext } from './task-jobs.js';
import type { ValidationDraw } from './validate-arms.js';

export function validationDrawCount({ evaluation }: Pick<RunConfig, 'evaluation'>): number {
  return evaluation.validationDraws ?? 1;
}

/** The division of the store first, then the drawn ones. */
export async function validationDraws(
  context: TaskJobContext,
  taskIndices: readonly number[],
): Promise<ValidationDraw[]> {
  const { config, store } = context;
  const draws: ValidationDraw[] = [{ context, rows: await readSplitRows(store, taskIndices) }];
  for (let draw = 1; draw < validationDrawCount(config); draw += 1) {
    const division: CountedDivision = {
      by: 'draw',
      draw,
      seed: config.seed,
      order: orderOf(config),
    };
    const divided = dividedStore(store, taskIndices, division);
    draws.push({
      context: { ...context, store: divided, division },
      rows: await readSplitRows(divided, taskIndices),
    });
  }
  return draws;
}

/** A split file with times may follow them, so rows keep their order there too. */
function orderOf({ data }: RunConfig): 'hash' | 'time' {
  const byFile = data.splitFile !== undefined && data.time !== undefined;
  return data.rowSplit.by === 'time' || byFile ? 'time' : 'hash';
}
