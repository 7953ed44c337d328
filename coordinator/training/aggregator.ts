/**
 * Adds the gradients of an outer step's jobs up to the meta-gradient. Pure; it knows no queue and no
 * clock.
 */

import {
  learnedRowsOf,
  learnedVariables,
  type LearnedSpan,
} from '../../shared/models/learned-parameters.js';
import type { RowPackLayout } from '../../shared/tasks/row-pack.js';
import type { DenseTensor } from '../../shared/tensors/named-tensors.js';
import { inJobOrder, type GradientShapes, type JobGradient } from './job-gradient.js';
import type { MetaGradient, RowGradient } from './meta-optimizer/meta-gradient.js';

/**
 * The meta-gradient: the sum of the jobs' gradients, whose task weights sum to 1.
 *
 * It is summed in job order and in float64, then rounded to float32. Float addition is not
 * associative, so a sum in arrival order would make two runs of the same seed drift apart.
 */
export function aggregate(
  gradients: readonly JobGradient[],
  { spec, layouts }: GradientShapes,
): MetaGradient {
  const ordered = inJobOrder(gradients);
  if (ordered.length !== layouts.length || ordered.some((g, index) => g.jobIndex !== index))
    throw new Error(`expected one gradient of each of ${layouts.length} jobs`);

  const dense = new Map<string, DenseTensor>();
  for (const { name, shape } of learnedVariables(spec)) {
    const addends = ordered.map((gradient) => gradient.dense.get(name)?.values ?? missing(name));
    dense.set(name, { shape, values: sumInOrder(addends) });
  }
  const rows = new Map<string, RowGradient>();
  const spansByJob = layouts.map((layout) => learnedRowsOf(spec, layout).spans);
  for (const [place, name] of spec.learned.tables.entries()) {
    const addends = ordered.map((gradient, index) => {
      const layout = layouts[index] ?? missing(name);
      const span = spansByJob[index]?.[place] ?? missing(name);
      return tableAddendOf(gradient, layout, span, spec.tableRowWidth);
    });
    rows.set(name, sumRowsInOrder(addends, spec.tableRowWidth));
  }
  return { dense, rows };
}

function sumInOrder(addends: readonly Float32Array[]): Float32Array {
  const [only] = addends;
  if (only !== undefined && addends.length === 1) return sumOfOne(only);
  const sums = new Float64Array(addends[0]?.length ?? 0);
  for (const values of addends)
    for (let index = 0; index < sums.length; index += 1)
      sums[index] = (sums[index] ?? 0) + (values[index] ?? 0);
  return new Float32Array(sums);
}

/** The sum over a single job is 0 + x, which differs from x for -0. */
function sumOfOne(addend: Float32Array): Float32Array {
  const sum = new Float32Array(addend.length);
  for (let index = 0; index < sum.length; index += 1) sum[index] = 0 + (addend[index] ?? 0);
  return sum;
}

/** The contribution of one job to a table. */
interface TableAddend {
  /** Ascending and unique. */
  readonly ids: Int32Array;
  /** `[ids.length, width]` */
  readonly values: Float32Array;
}

function tableAddendOf(
  { rows }: JobGradient,
  { idsByTable }: RowPackLayout,
  { tableIndex, start, rowCount }: LearnedSpan,
  width: number,
): TableAddend {
  return {
    ids: idsByTable[tableIndex] ?? new Int32Array(0),
    values: rows.subarray(start * width, (start + rowCount) * width),
  };
}

function sumRowsInOrder(addends: readonly TableAddend[], width: number): RowGradient {
  const [only] = addends;
  if (only !== undefined && addends.length === 1)
    return { ids: only.ids, values: sumOfOne(only.values) };
  const ids = unionAscending(addends.map((addend) => addend.ids));
  const sums = new Float64Array(ids.length * width);
  for (const { ids: ofJob, values } of addends) {
    let place = 0;
    let from = 0;
    // Both lists of ids ascend, and the union holds every id of the job.
    for (const id of ofJob) {
      while (ids[place] !== id) place += 1;
      for (let to = place * width; to < (place + 1) * width; to += 1, from += 1)
        sums[to] = (sums[to] ?? 0) + (values[from] ?? 0);
    }
  }
  return { ids, values: new Float32Array(sums) };
}

function unionAscending(lists: readonly Int32Array[]): Int32Array {
  const all = new Int32Array(lists.reduce((count, ids) => count + ids.length, 0));
  let end = 0;
  for (const ids of lists) {
    all.set(ids, end);
    end += ids.length;
  }
  all.sort();
  let uniqueCount = 0;
  for (const id of all) {
    if (uniqueCount > 0 && all[uniqueCount - 1] === id) continue;
    all[uniqueCount] = id;
    uniqueCount += 1;
  }
  return all.slice(0, uniqueCount);
}

function missing(name: string): never {
  throw new Error(`a gradient without ${name} was admitted`);
}
