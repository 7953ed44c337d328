/**
 * The inputs of `kinds/support-inputs.ts` for many rows, as columns, and the sums over support rows that they are made of.
 * A support row's input is made of the other support rows, any other row's of all of them. Workers and servers compute
 * them here, so that both have the same bits.
 */

import { at } from '../base/arrays.js';
import type { LossKind } from '../tasks/task-label.js';
import { supportFormulasOf, type SupportInputs } from './kinds/support-inputs.js';

/** Sums over labels. For values, clicks are the weighted standardised values. */
interface LabelSums {
  readonly clicks: number;
  readonly impressions: number;
}

export const NO_LABELS: LabelSums = { clicks: 0, impressions: 0 };

/** Labels of rows, of which the first are support rows. */
interface RowLabels {
  readonly rowCount: number;
  readonly supportRowCount: number;
  readonly clicks: NumberArray;
  readonly impressions: NumberArray;
}

type NumberArray = Float32Array | Float64Array;

/** Sums over the support rows of each group; all rows are group 0 where `groups` is null. */
export function sumsByGroup(
  { supportRowCount, clicks, impressions }: RowLabels,
  groups: Int32Array | null,
): Map<number, LabelSums> {
  const sums = new Map<number, LabelSums>();
  for (let row = 0; row < supportRowCount; row += 1) {
    const group = groups === null ? 0 : at(groups, row);
    const before = sums.get(group) ?? NO_LABELS;
    sums.set(group, {
      clicks: before.clicks + at(clicks, row),
      impressions: before.impressions + at(impressions, row),
    });
  }
  return sums;
}

/** Sums over support rows as each of some rows reads them. */
interface Evidence {
  readonly rowCount: number;
  readonly all: Sums;
  /** By feature with a target encoding, over the support rows of the row's value. */
  readonly byValue: readonly Sums[];
}

/** One column for each of `supportInputNames`. */
export function supportInputColumns(
  inputs: SupportInputs,
  loss: LossKind | undefined,
  { rowCount, all, byValue }: Evidence,
): Float32Array[] {
  const formulas = supportFormulasOf(inputs, loss === 'squared');
  const sumsAt = ({ clicks, impressions }: Sums, row: number): LabelSums => ({
    clicks: at(clicks, row),
    impressions: at(impressions, row),
  });
  const means = new Float64Array(rowCount);
  for (let row = 0; row < rowCount; row += 1) means[row] = formulas.meanOf(sumsAt(all, row));
  const columns: Float32Array[] = [];
  const add = (ofRow: (row: number) => number): void => {
    const column = new Float32Array(rowCount);
    for (let row = 0; row < rowCount; row += 1) column[row] = ofRow(row);
    columns.push(column);
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
export function sumsOfOtherRows(task: RowLabels, groups: Int32Array | null): Sums {
  return {
    clicks: sumsOfOthers(task, task.clicks, groups),
    impressions: sumsOfOthers(task, task.impressions, groups),
  };
}

/** Adds the rows before to the rows after: total minus own would keep a rounding error of the own. */
function sumsOfOthers(
  { rowCount, supportRowCount }: RowLabels,
  values: NumberArray,
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
  const support = Array.from({ length: supportRowCount }, (_, row) => row);
  const totals = walk(support);
  walk(support.reverse());
  for (let row = supportRowCount; row < rowCount; row += 1)
    sums[row] = totals.get(groups === null ? 0 : at(groups, row)) ?? 0;
  return sums;
}
