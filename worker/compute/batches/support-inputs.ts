/**
 * Tasks with the inputs that are derived from their support rows (`shared/models/kinds/support-inputs.ts`)
 * behind their numbers. After any division, so that the rows a prediction may not know are none of
 * them: a query row's input is made of all support rows, a support row's of the others, and no query
 * row's label enters any. A row's input is the same in every role it is computed in. No tensors here.
 */

import type { SupportInputs } from '../../../shared/models/kinds/support-inputs.js';
import type { EncodedFeature } from '../../../shared/tasks/store-manifest.js';
import type { TaskRows } from '../../../shared/tasks/task-store.js';

export function withSupportInputs(
  inputs: SupportInputs | undefined,
  features: readonly EncodedFeature[],
  tasks: readonly TaskRows[],
): readonly TaskRows[] {
  if (inputs === undefined) return tasks;
  const categories = features.filter(({ kind }) => kind === 'category').map(({ name }) => name);
  const places = inputs.targetEncodings.map((name) => {
    const place = categories.indexOf(name);
    if (place < 0) throw new Error(`the task store has no category ${name}`);
    return place;
  });
  return tasks.map((task) => ({
    ...task,
    numbers: [...task.numbers, ...supportInputsOf(inputs, places, task)],
  }));
}

/** Of every row, in the order of `supportInputNames`. */
function supportInputsOf(
  inputs: SupportInputs,
  categoryPlaces: readonly number[],
  task: TaskRows,
): Float32Array[] {
  const { smoothing } = inputs;
  const isOfValues = task.loss === 'squared';
  const levelOf = (mean: number): number => (isOfValues ? mean : Math.log(mean / (1 - mean)));
  const prior = isOfValues ? 0 : inputs.priorRate;
  const others = otherSums(task, null);
  const means = smoothedMeans(others, smoothing, () => prior);
  const columns: Float32Array[] = [];
  const add = (ofRow: (row: number) => number): void => {
    columns.push(Float32Array.from({ length: task.rowCount }, (_, row) => ofRow(row)));
  };
  if (inputs.clickRate) add((row) => levelOf(means[row] ?? prior) - levelOf(prior));
  if (inputs.count) add((row) => Math.log1p(others.impressions[row] ?? 0) / 4);
  for (const place of categoryPlaces) {
    const ofValue = otherSums(task, task.categoryIds[place] ?? null);
    const meanOf = (row: number): number => means[row] ?? prior;
    const encoded = smoothedMeans(ofValue, smoothing, meanOf);
    add((row) => levelOf(encoded[row] ?? prior) - levelOf(meanOf(row)));
  }
  return columns;
}

function smoothedMeans(
  { clicks, impressions }: Sums,
  smoothing: number,
  prior: (row: number) => number,
): Float64Array {
  return clicks.map(
    (sum, row) => (sum + smoothing * prior(row)) / ((impressions[row] ?? 0) + smoothing),
  );
}

interface Sums {
  readonly clicks: Float64Array;
  readonly impressions: Float64Array;
}

/** Of every row: sums over the support rows of its group but itself; null: one group of all rows. */
function otherSums(task: TaskRows, groups: Int32Array | null): Sums {
  return {
    clicks: sumsOfOthers(task, task.clicks, groups),
    impressions: sumsOfOthers(task, task.impressions, groups),
  };
}

/** Sums of those before and those after: total less own would keep a rounding error of the own. */
function sumsOfOthers(
  { rowCount, supportRowCount }: TaskRows,
  values: Float32Array,
  groups: Int32Array | null,
): Float64Array {
  const sums = new Float64Array(rowCount);
  const walk = (rows: Iterable<number>): Map<number, number> => {
    const totals = new Map<number, number>();
    for (const row of rows) {
      const group = groups?.[row] ?? 0;
      const total = totals.get(group) ?? 0;
      sums[row] = (sums[row] ?? 0) + total;
      totals.set(group, total + (values[row] ?? 0));
    }
    return totals;
  };
  const support = [...values.keys()].slice(0, supportRowCount);
  const totals = walk(support);
  walk(support.reverse());
  for (let row = supportRowCount; row < rowCount; row += 1)
    sums[row] = totals.get(groups?.[row] ?? 0) ?? 0;
  return sums;
}
