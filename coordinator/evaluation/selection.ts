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
import { isOfValues, lossSum, sumOf } from '../scoring/metrics.js';
import { predictLogits } from './predict-logits.js';
import type { AdaptableModel, TaskJobContext } from './task-jobs.js';
import type { Cell, Selection } from '../scoring/evaluation-report.js';
import type { ArmName } from '../../shared/config/arms.js';

export function selectionCriterionOf(rows: Pick<TaskCounts, 'label'>): string {
  const loss = isOfValues(rows) ? 'squared error per row' : 'logloss per impression';
  return `lowest mean ${loss} on the query rows of the validation adgroups`;
}

/** Without adaptation the rate has no meaning, but the protocol requires a positive one. */
export const UNADAPTED: Adaptation = { innerRate: 1, innerSteps: 0 };

/**
 * @param meanLosses the mean logloss per impression of each cell of the grid; infinite if the cell
 *   diverged.
 * @throws QianmoError of kind `failed` if every cell diverged.
 */
function selectCell(arm: ArmName, grid: Grid, meanLosses: readonly number[]): Selection {
  let best = 0;
  for (const [index, loss] of meanLosses.entries()) if (loss < at(meanLosses, best)) best = index;
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

/** An arm to choose a cell for, and the model that it adapts. */
interface TunedArm {
  readonly arm: ArmName;
  readonly model: AdaptableModel;
  readonly grid: Grid;
}

/** Chooses the inner steps of an arm, with one pass over the validation tasks for the whole grid. */
export async function selectInnerSteps(
  context: TaskJobContext,
  { arm, model, grid }: TunedArm,
  validation: SplitRows,
): Promise<Selection> {
  const { lossSums } = await predictLogits(context, {
    ...model,
    taskIndices: validation.query.taskIndices,
    adaptations: grid.cells.map(adaptationOf),
    role: 'query',
    keep: [],
  });
  const impressions = sumOf(validation.query.impressions);
  return selectCell(
    arm,
    grid,
    lossSums.map((losses) => sumOf(losses) / impressions),
  );
}

interface UnadaptedLogits {
  readonly query: Float32Array;
  readonly support: Float32Array;
}

/** The logits of the model without adaptation, for query rows and for support rows. */
export async function unadaptedLogits(
  context: TaskJobContext,
  model: AdaptableModel,
  taskIndices: readonly number[],
): Promise<UnadaptedLogits> {
  const ofRole = async (role: 'query' | 'support'): Promise<Float32Array> => {
    const request = { ...model, taskIndices, adaptations: [UNADAPTED], role, keep: [0] };
    const { logits } = await predictLogits(context, request);
    return at(logits, 0);
  };
  return { query: await ofRole('query'), support: await ofRole('support') };
}

/**
 * Chooses the prior of the shift. Every cell is judged as it would be used, on rows that it was not
 * fitted to.
 */
export function selectShiftPrior(
  arm: ArmName,
  grid: Grid,
  logits: UnadaptedLogits,
  validation: SplitRows,
): Selection {
  const impressions = sumOf(validation.query.impressions);
  const meanLosses = grid.cells.map((cell) => {
    const shifted = shiftedLogits(shiftPriorOf(cell), logits, validation);
    return lossSum(shifted, validation.query) / impressions;
  });
  return selectCell(arm, grid, meanLosses);
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
