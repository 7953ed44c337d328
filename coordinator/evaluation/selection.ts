/**
 * Chooses the cell of each adapted arm on the validation adgroups. Nothing here sees a test row, since
 * only validation tasks are passed in.
 */

import { at, spanAt } from '../../shared/base/arrays.js';
import { DivergenceError } from '../../shared/base/errors.js';
import type { Adaptation } from '../../shared/queue/protocol.js';
import type { Grid } from './grid.js';
import {
  selectRows,
  selectTasks,
  type SplitRows,
  type TaskCounts,
} from '../scoring/held-out-rows.js';
import { mapShift, type ShiftPrior } from './fitted-shift.js';
import { isOfValues } from '../scoring/metrics.js';
import {
  bestCell,
  meanLoss,
  type EntryLosses,
  type ValidatedEntries,
} from '../scoring/validated-losses.js';
import type { Cell, Selection } from '../scoring/evaluation-report.js';
import type { ArmName } from '../../shared/config/arms.js';

export function selectionCriterionOf(rows: Pick<TaskCounts, 'label'>): string {
  const loss = isOfValues(rows) ? 'squared error per row' : 'logloss per impression';
  return `lowest mean ${loss} on the query rows of the validation adgroups`;
}

/** Without adaptation the rate has no meaning, but the protocol requires a positive one. */
export const UNADAPTED: Adaptation = { innerRate: 1, innerSteps: 0 };

/**
 * Every cell is judged as it would be used, on rows that it was not fitted to.
 *
 * @param byCell the losses of each cell of the grid.
 * @throws QianmoError of kind `failed` if every cell diverged.
 */
export function selectCell(
  arm: ArmName,
  grid: Grid,
  byCell: readonly EntryLosses[],
  entries: ValidatedEntries,
): Selection {
  const best = bestCell(byCell);
  const meanLosses = byCell.map((losses) => meanLoss(losses, entries));
  const cell = at(grid.cells, best);
  const validationLogloss = at(meanLosses, best);
  if (!Number.isFinite(validationLogloss)) throw everyCellDiverges(arm, grid);
  return {
    arm,
    cell,
    validationLogloss,
    atGridEdge: grid.isAtEdge(best),
    grid: grid.cells.map((each, index) => ({
      cell: each,
      validationLogloss: finiteOrNull(at(meanLosses, index)),
    })),
  };
}

function finiteOrNull(value: number): number | null {
  return Number.isFinite(value) ? value : null;
}

function everyCellDiverges(arm: ArmName, grid: Grid): DivergenceError {
  return new DivergenceError({
    kind: 'failed',
    what: `the arm ${arm} diverges with every setting of its grid`,
    where: 'evaluation.innerRates, evaluation.innerSteps',
    expected: 'finite logits on the validation adgroups with at least one setting',
    found: `${grid.cells.length} settings tried, none of them finite`,
    cure: 'give smaller inner rates or fewer inner steps',
  });
}

interface UnadaptedLogits {
  readonly query: Float32Array;
  readonly support: Float32Array;
}

/** The query logits plus the shift of each task, which is fitted on its support rows. */
export function shiftedLogits(
  prior: ShiftPrior,
  logits: UnadaptedLogits,
  rows: SplitRows,
): Float32Array {
  const shifted = Float32Array.from(logits.query);
  for (const position of rows.query.taskIndices.keys()) {
    const support = selectTasks(rows.support, [position]);
    const shift = mapShift(selectRows(rows.support, [position], logits.support), support, prior);
    const [start, end] = spanAt(rows.query.starts, position);
    for (let row = start; row < end; row += 1) shifted[row] = at(logits.query, row) + shift;
  }
  return shifted;
}

export function adaptationOf(cell: Cell): Adaptation {
  if (cell.kind !== 'inner-steps') throw new Error('a shift prior is not a number of inner steps');
  return { innerRate: cell.innerRate, innerSteps: cell.innerSteps };
}

export function shiftPriorOf(cell: Cell): ShiftPrior {
  if (cell.kind !== 'shift-prior') throw new Error('inner steps are not a shift prior');
  return { mean: cell.mean, deviation: cell.deviation };
}
