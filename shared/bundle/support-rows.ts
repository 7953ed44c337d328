/**
 * Appends the inputs that are derived from a task's support rows (`shared/models/kinds/support-inputs.ts`)
 * to its numbers. This happens after any division of the rows, so that no input knows a row that the
 * prediction may not know: a query row's input is made of all support rows, a support row's of the
 * others or of those before it (`SupportReads`), and no query row's label enters any. No tensors here.
 */

import { at } from '../base/arrays.js';
import { randomStream } from '../base/random.js';
import {
  NO_LABELS,
  sumsByGroup,
  sumsReadBy,
  supportInputColumns,
  type SupportInputs,
} from '../models/kinds/support-inputs.js';
import type { ModelSpec } from '../models/model-spec.js';
import type { SupportSums } from './adapted-tasks.js';
import type { EncodedFeature } from '../tasks/store-manifest.js';
import type { LossKind } from '../tasks/task-label.js';
import { drawnPart, withDrawnRows, type DrawnRows } from '../tasks/task-copies.js';
import type { TaskRows } from '../tasks/task-store.js';

/**
 * Which support rows of its task a support row reads. Where tasks adapt, the others, so that its inputs are like those of
 * a query row. Where its loss trains a model that all tasks share, those before it in a random order: a model that
 * recognizes the task could learn the total, and would find the row's label by subtracting the others. The order of the
 * logs may be that of the labels.
 */
export type SupportReads = 'others' | 'earlier';

/** The same order in every job, on every worker. */
function randomOrder({ taskIndex, supportRowCount }: TaskRows): Int32Array {
  const rows = Int32Array.from({ length: supportRowCount }, (_, row) => row);
  return randomStream(0, 'order of support rows', taskIndex).shuffle(rows);
}

/**
 * The tasks, or their drawn rows, with their inputs, which are made of all support rows, drawn or not, or of those of the
 * episode.
 *
 * @param unadaptedReads for the rows that are judged before adaptation.
 * @throws as `withDrawnRows` does.
 */
export function withSupportInputs(
  inputs: SupportInputs | undefined,
  features: readonly EncodedFeature[],
  tasks: readonly TaskRows[],
  {
    drawn = null,
    reads = 'others',
    unadaptedReads = reads,
  }: {
    readonly drawn?: DrawnRows | null;
    readonly reads?: SupportReads;
    readonly unadaptedReads?: SupportReads;
  } = {},
): readonly TaskRows[] {
  const read = withDrawnRows(tasks, drawn);
  if (inputs === undefined) return read;
  const categories = features.filter(({ kind }) => kind === 'category').map(({ name }) => name);
  const columns = encodedColumnsOf(inputs, categories);
  const columnsOf = (
    [task, rowCount, by]: [TaskRows, number, SupportReads],
    idsOf: (column: number) => Int32Array,
  ): Float32Array[] => {
    const order = by === 'others' ? null : randomOrder(task);
    const { supportRowCount, clicks, impressions } = task;
    const labels = { rowCount, supportRowCount, clicks, impressions };
    return supportInputColumns(inputs, task.loss, {
      rowCount,
      all: sumsReadBy(labels, null, order),
      byValue: columns.map((column) => sumsReadBy(labels, idsOf(column), order)),
    });
  };
  const inputsOf = (task: TaskRows, index: number, by: SupportReads): Float32Array[] => {
    if (drawn === null || drawn.supportCounts !== null)
      return columnsOf([task, task.rowCount, by], (column) => at(task.categoryIds, column));
    const whole = at(tasks, index);
    const places = at(drawn.byTask, index);
    const { supportRowCount } = whole;
    const query = places.filter((place) => place >= supportRowCount);
    const made = columnsOf([whole, supportRowCount + query.length, by], (column) => {
      const ids = at(whole.categoryIds, column);
      const ofQuery = query.map((place) => at(ids, place));
      return Int32Array.from([...ids.subarray(0, supportRowCount), ...ofQuery]);
    });
    return made.map((column) => drawnPart(column, whole, places));
  };
  return read.map((task, index) => {
    const numbersBy = (by: SupportReads) => [...task.numbers, ...inputsOf(task, index, by)];
    const numbers = numbersBy(reads);
    if (unadaptedReads === reads) return { ...task, numbers };
    return { ...task, numbers, unadaptedNumbers: numbersBy(unadaptedReads) };
  });
}

/** Places of the features with target encodings among the category features. */
export function encodedColumnsOf(
  inputs: SupportInputs | undefined,
  categoryFeatures: readonly string[],
): number[] {
  return (inputs?.targetEncodings ?? []).map((name) => {
    const column = categoryFeatures.indexOf(name);
    if (column < 0) throw new Error(`the task store has no category ${name}`);
    return column;
  });
}

/** The sums over a task's support rows that the inputs of its other rows are made of. */
export function supportSumsOf(
  { options, categoryFeatures }: Pick<ModelSpec, 'options' | 'categoryFeatures'>,
  { clicks, impressions, categoryIds, supportRowCount }: TaskRows,
): SupportSums {
  const labels = { rowCount: supportRowCount, supportRowCount, clicks, impressions };
  return {
    ...(sumsByGroup(labels, null).get(0) ?? NO_LABELS),
    byValue: encodedColumnsOf(options.supportInputs, categoryFeatures).map((column) =>
      sumsByGroup(labels, at(categoryIds, column)),
    ),
  };
}

/**
 * The inputs of rows that are none of the task's support rows, as those of its query rows.
 *
 * @param idColumns ids of the rows by feature with a target encoding.
 */
export function inputsOfOtherRows(
  inputs: SupportInputs,
  { loss, support }: { readonly loss: LossKind; readonly support: SupportSums },
  rowCount: number,
  idColumns: readonly Int32Array[],
): Float32Array[] {
  return supportInputColumns(inputs, loss, {
    rowCount,
    all: {
      clicks: new Float64Array(rowCount).fill(support.clicks),
      impressions: new Float64Array(rowCount).fill(support.impressions),
    },
    byValue: idColumns.map((ids, feature) => {
      const sums = Array.from(ids, (id) => at(support.byValue, feature).get(id) ?? NO_LABELS);
      return {
        clicks: Float64Array.from(sums, ({ clicks }) => clicks),
        impressions: Float64Array.from(sums, ({ impressions }) => impressions),
      };
    }),
  });
}
