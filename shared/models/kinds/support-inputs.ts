/**
 * Support-derived inputs: number features that say what a task's support rows have shown, so that
 * every model and method may use them. Workers and servers compute them here, so that both have the same bits.
 *
 * For a row, n and c are impressions and clicks of the support rows that it reads, n_v and c_v those of
 * the rows among them that share its value of a category. With p the prior rate, s the smoothing
 * and o(q) = ln(q / (1 - q)):
 *
 *   clickRate       o(q) - o(p)        q = (c + s p) / (n + s)
 *   count           ln(1 + n) / 4
 *   target of v     o(q_v) - o(q)      q_v = (c_v + s q) / (n_v + s)
 *
 * all 0 without evidence. For labels that are values, whose means are standardised, o(q) is q and p is 0.
 * Target encodings: Micci-Barreca (SIGKDD Explorations 3(1), 2001), equation 3.
 */

import { z } from 'zod';
import { at } from '../../base/arrays.js';
import type { LossKind } from '../../tasks/task-label.js';

interface NamedInputs {
  readonly clickRate: boolean;
  readonly count: boolean;
  readonly targetEncodings: readonly string[];
}

export const SupportInputsSchema = z
  .strictObject({
    clickRate: z
      .boolean()
      .default(false)
      .describe("How the task's smoothed click rate differs from the prior rate."),
    count: z.boolean().default(false).describe('How many impressions that rate rests on.'),
    targetEncodings: z
      .array(z.string().min(1))
      .default([])
      .describe("Categories: how the click rate at the row's value differs from the task's."),
    smoothing: z
      .number()
      .positive()
      .max(1e6)
      .default(10)
      .describe('Impressions at the prior rate that the evidence is added to.'),
    priorRate: z.number().gt(0).lt(1).default(0.1).describe('The prior click rate.'),
  })
  .refine((inputs) => supportInputNames(inputs).length > 0, {
    message: 'names no input: expected clickRate, count or targetEncodings, or nothing at all',
  });

export type SupportInputs = z.infer<typeof SupportInputsSchema>;

/** The names of the number features, in order, that follow those of the data. */
export function supportInputNames(inputs: NamedInputs | undefined): string[] {
  if (inputs === undefined) return [];
  return [
    ...(inputs.clickRate ? ['support.clickRate'] : []),
    ...(inputs.count ? ['support.count'] : []),
    ...inputs.targetEncodings.map((feature) => `support.target.${feature}`),
  ];
}

/** Sums over support rows. For values, clicks are the weighted standardised values. */
interface LabelSums {
  readonly clicks: number;
  readonly impressions: number;
}

/** The inputs' formulas for labels of one kind, for a single row. */
export interface SupportFormulas {
  /** q, which target encodings shrink to. */
  readonly meanOf: (all: LabelSums) => number;
  /** @param mean q */
  readonly clickRate: (mean: number) => number;
  readonly count: (impressions: number) => number;
  /** @param mean q */
  readonly targetEncoding: (ofValue: LabelSums, mean: number) => number;
}

/** @param isOfValues whether labels are values, whose means are standardised. */
export function supportFormulasOf(
  { smoothing, priorRate }: Pick<SupportInputs, 'smoothing' | 'priorRate'>,
  isOfValues: boolean,
): SupportFormulas {
  const levelOf = (mean: number): number => (isOfValues ? mean : Math.log(mean / (1 - mean)));
  const prior = isOfValues ? 0 : priorRate;
  const priorLevel = levelOf(prior);
  const smoothed = ({ clicks, impressions }: LabelSums, mean: number): number =>
    (clicks + smoothing * mean) / (impressions + smoothing);
  return {
    meanOf: (all) => smoothed(all, prior),
    clickRate: (mean) => levelOf(mean) - priorLevel,
    count: (impressions) => Math.log1p(impressions) / 4,
    targetEncoding: (ofValue, mean) => levelOf(smoothed(ofValue, mean)) - levelOf(mean),
  };
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

/** One column for each of `supportInputNames`, for many rows. */
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

/**
 * For every row, sums over the support rows that it reads in its group; null: all rows are one group.
 *
 * @param order the support rows, of which each reads those before it; null: each reads all others. Other rows read all.
 */
export function sumsReadBy(
  task: RowLabels,
  groups: Int32Array | null,
  order: Int32Array | null,
): Sums {
  return {
    clicks: readSums(task, task.clicks, groups, order),
    impressions: readSums(task, task.impressions, groups, order),
  };
}

/** Adds the rows before to the rows after: total minus own would keep a rounding error of the own. */
function readSums(
  { rowCount, supportRowCount }: RowLabels,
  values: NumberArray,
  groups: Int32Array | null,
  order: Int32Array | null,
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
  const support = order ?? Int32Array.from({ length: supportRowCount }, (_, row) => row);
  const totals = walk(support);
  if (order === null) walk(support.reverse());
  for (let row = supportRowCount; row < rowCount; row += 1)
    sums[row] = totals.get(groups === null ? 0 : at(groups, row)) ?? 0;
  return sums;
}
