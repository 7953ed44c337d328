/**
 * Appends the inputs that are derived from a task's support rows (`shared/models/kinds/support-inputs.ts`)
 * to its numbers. This happens after any division of the rows, so that no input knows a row that the
 * prediction may not know: a query row's input is made of all support rows, a support row's of the
 * others, and no query row's label enters any. A row's input is the same in every role it is computed
 * in. No tensors here.
 */

import { at } from '../../../shared/base/arrays.js';
import {
  supportFormulasOf,
  type SupportInputs,
} from '../../../shared/models/kinds/support-inputs.js';
import type { ModelSpec } from '../../../shared/models/model-spec.js';
import type { LabelSums, SupportSums } from '../../../shared/queue/blobs/adapted-tasks.js';
import type { EncodedFeature } from '../../../shared/tasks/store-manifest.js';
import type { LossKind } from '../../../shared/tasks/task-label.js';
import type { TaskRows } from '../../../shared/tasks/task-store.js';

export function withSupportInputs(
  inputs: SupportInputs | undefined,
  features: readonly EncodedFeature[],
  tasks: readonly TaskRows[],
): readonly TaskRows[] {
  if (inputs === undefined) return tasks;
  const categories = features.filter(({ kind }) => kind === 'category').map(({ name }) => name);
  const columns = encodedColumnsOf(inputs, categories);
  return tasks.map((task) => ({
    ...task,
    numbers: [
      ...task.numbers,
      ...inputsFrom(inputs, task.loss, {
        rowCount: task.rowCount,
        all: otherSums(task, null),
        byValue: columns.map((column) => otherSums(task, at(task.categoryIds, column))),
      }),
    ],
  }));
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
  const sumsBy = (ids: Int32Array | null): Map<number, LabelSums> => {
    const sums = new Map<number, LabelSums>();
    for (let row = 0; row < supportRowCount; row += 1) {
      const group = ids === null ? 0 : at(ids, row);
      const before = sums.get(group) ?? NO_LABELS;
      sums.set(group, {
        clicks: before.clicks + at(clicks, row),
        impressions: before.impressions + at(impressions, row),
      });
    }
    return sums;
  };
  return {
    ...(sumsBy(null).get(0) ?? NO_LABELS),
    byValue: encodedColumnsOf(options.supportInputs, categoryFeatures).map((column) =>
      sumsBy(at(categoryIds, column)),
    ),
  };
}

const NO_LABELS: LabelSums = { clicks: 0, impressions: 0 };

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
  return inputsFrom(inputs, loss, {
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

/** Sums over support rows as each of some rows reads them. */
interface Evidence {
  readonly rowCount: number;
  readonly all: Sums;
  /** By feature with a target encoding, over the support rows of the row's value. */
  readonly byValue: readonly Sums[];
}

/** One column for each of `supportInputNames`. */
function inputsFrom(
  inputs: SupportInputs,
  loss: LossKind | undefined,
  { rowCount, all, byValue }: Evidence,
): Float32Array[] {
  const formulas = supportFormulasOf(inputs, loss === 'squared');
  const sumsAt = ({ clicks, impressions }: Sums, row: number): LabelSums => ({
    clicks: at(clicks, row),
    impressions: at(impressions, row),
  });
  const means = Float64Array.from({ length: rowCount }, (_, row) =>
    formulas.meanOf(sumsAt(all, row)),
  );
  const columns: Float32Array[] = [];
  const add = (ofRow: (row: number) => number): void => {
    columns.push(Float32Array.from({ length: rowCount }, (_, row) => ofRow(row)));
  };
  if (inputs.clickRate) add((row) => formulas.clickRate(at(means, row)));
  if (inputs.count) add((row) => formulas.count(at(all.impressions, row)));
  for (const ofValue of byValue)
    add((row) => formulas.targetEncoding(sumsAt(ofValue, row), at(means, row)));
  return columns;
}

interface Sums {
  readonly clicks: Float64Array;
  readonly impressions: Float64Array;
}

/** For every row, sums over the other support rows of its group; null: all rows are one group. */
function otherSums(task: TaskRows, groups: Int32Array | null): Sums {
  return {
    clicks: sumsOfOthers(task, task.clicks, groups),
    impressions: sumsOfOthers(task, task.impressions, groups),
  };
}

/** Adds the rows before to the rows after: total minus own would keep a rounding error of the own. */
function sumsOfOthers(
  { rowCount, supportRowCount }: TaskRows,
  values: Float32Array,
  groups: Int32Array | null,
): Float64Array {
  const sums = new Float64Array(rowCount);
  const walk = (rows: Iterable<number>): Map<number, number> => {
    const totals = new Map<number, number>();
    for (const row of rows) {
      const group = groups === null ? 0 : at(groups, row);
      const total = totals.get(group) ?? 0;
      sums[row] = at(sums, row) + total;
      totals.set(group, total + at(values, row));
    }
    return totals;
  };
  const support = [...values.keys()].slice(0, supportRowCount);
  const totals = walk(support);
  walk(support.reverse());
  for (let row = supportRowCount; row < rowCount; row += 1)
    sums[row] = totals.get(groups === null ? 0 : at(groups, row)) ?? 0;
  return sums;
}
