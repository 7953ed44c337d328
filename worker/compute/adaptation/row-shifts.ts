/** The shifts of rows' logits: their task's level, then the effect of their value of each feature. */

import { at } from '../../../shared/base/arrays.js';
import type { LevelShift } from '../../../shared/methods/inner-loop/inner-loop.js';
import type { ModelSpec } from '../../../shared/models/model-spec.js';
import type { TaskShift } from '../../../shared/bundle/adapted-tasks.js';
import type { TaskRows } from '../../../shared/tasks/task-store.js';

/** The shifts of a micro-batch of tasks, with the effects where their support rows lie. */
export interface SupportShifts {
  /** `[taskCount]` */
  readonly levels: Float32Array;
  /** By feature: the effect of each support row's value, `[taskCount, supportExtent]`. */
  readonly effects: readonly Float32Array[];
}

/** Places of the shifted features among the category features. */
export function shiftColumnsOf(
  shift: LevelShift | null,
  { categoryFeatures }: Pick<ModelSpec, 'categoryFeatures'>,
): number[] {
  return (shift?.features ?? []).map((feature) => {
    const column = categoryFeatures.indexOf(feature);
    if (column < 0) throw new Error(`the model has no category ${feature}`);
    return column;
  });
}

/** Support rows by the values they have, of one task: by feature, the first row of each id. */
type SupportValues = readonly ReadonlyMap<number, number>[];

/** @param columns places of the shifted features among the category features. */
export function supportValuesOf(
  { categoryIds, supportRowCount }: TaskRows,
  columns: readonly number[],
): SupportValues {
  return columns.map((column) => {
    const ids = at(categoryIds, column);
    const rows = new Map<number, number>();
    for (let row = 0; row < supportRowCount; row += 1) {
      const id = at(ids, row);
      if (!rows.has(id)) rows.set(id, row);
    }
    return rows;
  });
}

/** The shift of one task. */
export function taskShiftOf(
  { levels, effects }: SupportShifts,
  task: { readonly index: number; readonly supportExtent: number },
  values: SupportValues,
): TaskShift {
  return {
    level: at(levels, task.index),
    effects: values.map((rows, feature) => {
      const ofFeature = at(effects, feature);
      const first = task.index * task.supportExtent;
      return new Map([...rows].map(([id, row]) => [id, at(ofFeature, first + row)]));
    }),
  };
}

/**
 * The shift of each row, added up in single precision: the level first, then the features in turn. A
 * value that the task's support rows do not have has no effect.
 *
 * @param columns ids of the rows by shifted feature.
 */
export function placeShifts(
  { level, effects }: TaskShift,
  columns: readonly ArrayLike<number>[],
  target: Float32Array,
): void {
  target.fill(level);
  for (const [feature, ofFeature] of effects.entries()) {
    const ids = at(columns, feature);
    for (let row = 0; row < target.length; row += 1) {
      const effect = ofFeature.get(at(ids, row));
      // A Float32Array rounds each sum to single precision.
      if (effect !== undefined) target[row] = at(target, row) + effect;
    }
  }
}

/** Rows `start` to before `end` of a task. */
interface RowSpan {
  readonly task: TaskRows;
  readonly start: number;
  readonly end: number;
}

/** The shifts of rows of a micro-batch, `[taskCount, rowExtent]`; 0 in padding. */
export function batchShifts(
  { shift, columns }: { readonly shift: SupportShifts; readonly columns: readonly number[] },
  rows: readonly RowSpan[],
  extents: {
    readonly taskCount: number;
    readonly rowExtent: number;
    readonly supportExtent: number;
  },
): Float32Array {
  const { taskCount, rowExtent, supportExtent } = extents;
  const shifts = new Float32Array(taskCount * rowExtent);
  for (const [index, { task, start, end }] of rows.entries()) {
    const values = supportValuesOf(task, columns);
    const first = index * rowExtent;
    placeShifts(
      taskShiftOf(shift, { index, supportExtent }, values),
      columns.map((column) => at(task.categoryIds, column).subarray(start, end)),
      shifts.subarray(first, first + end - start),
    );
  }
  return shifts;
}
