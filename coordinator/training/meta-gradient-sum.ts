/**
 * Adds the gradients of an outer step's jobs up to the meta-gradient while they arrive. It knows no
 * queue and no clock.
 *
 * Float addition is not associative, so a sum in order of arrival would make two runs of the same
 * seed drift apart. Gradients are therefore added in job order, in float64, and rounded to float32
 * once. A gradient that arrives early waits for its turn, so that the last one to arrive finds the
 * others added.
 */

import { at, demandSameLength } from '../../shared/base/arrays.js';
import {
  learnedRowsOf,
  learnedVariables,
  type LearnedRows,
} from '../../shared/models/learned-parameters.js';
import type { ModelSpec } from '../../shared/models/model-spec.js';
import { uniqueIdsOf, type RowPackLayout } from '../../shared/tasks/row-pack.js';
import type { DenseTensor } from '../../shared/tensors/named-tensors.js';
import { nativeRows } from '../../shared/tensors/native-rows.js';
import type { GradientAggregate } from './gradient-aggregate.js';
import type { JobGradient } from './gradients/job-gradient.js';
import {
  lossesWithoutMissing,
  NO_LOSSES,
  withJobLosses,
  type StepLosses,
} from './losses/loss-sums.js';
import type { MetaGradient, RowGradient } from './meta-optimizer/meta-gradient.js';

/**
 * One sum serves all outer steps of a run, so that its buffers are allocated once. `begin` starts the
 * next step and overwrites the meta-gradient of the previous one.
 */
export class MetaGradientSum implements GradientAggregate {
  readonly #spec: ModelSpec;
  readonly #dense: readonly DenseSum[];
  readonly #tables: readonly TableSum[];
  readonly #waiting = new Map<number, JobGradient>();
  #layouts: readonly RowPackLayout[] = [];
  /** By job index; null until the first gradient arrives, while other jobs are still computed. */
  #learnedRows: readonly LearnedRows[] | null = null;
  #addedCount = 0;
  #losses: StepLosses = NO_LOSSES;

  constructor(spec: ModelSpec) {
    this.#spec = spec;
    this.#dense = learnedVariables(spec).map(({ name, shape }) => new DenseSum(name, shape));
    this.#tables = spec.learned.tables.map((name) => new TableSum(name, spec.tableRowWidth));
  }

  /** @param layouts by job index, what each job's row pack holds. */
  begin(layouts: readonly RowPackLayout[]): void {
    this.#layouts = layouts;
    this.#learnedRows = null;
    this.#addedCount = 0;
    this.#losses = NO_LOSSES;
    this.#waiting.clear();
  }

  /** Takes one admitted gradient of each job of the step, in any order. */
  add(gradient: JobGradient): void {
    this.#waiting.set(gradient.jobIndex, gradient);
    for (;;) {
      const next = this.#waiting.get(this.#addedCount);
      if (next === undefined) return;
      this.#waiting.delete(this.#addedCount);
      this.#addInOrder(next);
      this.#addedCount += 1;
    }
  }

  /** The jobs whose gradient has not arrived, ascending. */
  missingJobs(): number[] {
    const missing: number[] = [];
    for (let jobIndex = this.#addedCount; jobIndex < this.#layouts.length; jobIndex += 1)
      if (!this.#waiting.has(jobIndex)) missing.push(jobIndex);
    return missing;
  }

  /**
   * Ends the outer step without the missing jobs. The sum is that of the others in job order, divided by their
   * share of all task weights. Rows that only missing jobs touch have no gradient.
   *
   * @param share above 0, at most 1
   */
  closeWithoutMissing(share: number): void {
    const learnedRows = (this.#learnedRows ??= this.#begun());
    const isMissing = new Set(this.missingJobs());
    for (const [, gradient] of [...this.#waiting].sort(([a], [b]) => a - b))
      this.#addInOrder(gradient);
    this.#waiting.clear();
    this.#addedCount = this.#layouts.length;
    const left = this.#layouts.map((_, jobIndex) => jobIndex).filter((job) => !isMissing.has(job));
    for (const sum of this.#dense) sum.divideBy(share);
    for (const [place, sum] of this.#tables.entries()) {
      const ids = left.map((jobIndex) =>
        at(
          at(this.#layouts, jobIndex).idsByTable,
          at(at(learnedRows, jobIndex).spans, place).tableIndex,
        ),
      );
      sum.keepOnly(ids);
      sum.divideBy(share);
    }
    this.#losses = lossesWithoutMissing(this.#losses, share);
  }

  /**
   * The sum over all jobs, whose task weights sum to 1. Its arrays are valid until `begin`, and the
   * caller may write to them.
   */
  metaGradient(): MetaGradient {
    if (this.#layouts.length === 0 || this.#addedCount !== this.#layouts.length)
      throw new Error(`expected one gradient of each of ${this.#layouts.length} jobs`);
    return {
      dense: new Map(this.#dense.map((sum) => [sum.name, sum.rounded()])),
      rows: new Map(this.#tables.map((sum) => [sum.name, sum.rounded()])),
    };
  }

  /** The losses of the gradients that were added. */
  get losses(): StepLosses {
    return this.#losses;
  }

  #addInOrder({ jobIndex, dense, rows, release, ...loss }: JobGradient): void {
    const learnedRows = (this.#learnedRows ??= this.#begun());
    this.#losses = withJobLosses(this.#losses, loss);
    for (const sum of this.#dense) sum.add(dense.get(sum.name)?.values ?? missing(sum.name));
    const { spans } = at(learnedRows, jobIndex);
    const { idsByTable } = at(this.#layouts, jobIndex);
    for (const [place, sum] of this.#tables.entries()) {
      const { tableIndex, start } = at(spans, place);
      sum.add(at(idsByTable, tableIndex), rows, start);
    }
    release?.();
  }

  #begun(): LearnedRows[] {
    const learnedRows = this.#layouts.map((layout) => learnedRowsOf(this.#spec, layout));
    for (const sum of this.#dense) sum.begin();
    for (const [place, sum] of this.#tables.entries()) {
      const ids = this.#layouts.map(({ idsByTable }, jobIndex) =>
        at(idsByTable, at(at(learnedRows, jobIndex).spans, place).tableIndex),
      );
      sum.begin(ids);
    }
    return learnedRows;
  }
}

/** The sum over jobs of one dense variable's gradient. */
class DenseSum {
  readonly name: string;
  readonly #shape: readonly number[];
  readonly #sums: Float64Array;
  readonly #rounded: Float32Array;

  constructor(name: string, shape: readonly number[]) {
    this.name = name;
    this.#shape = shape;
    const elementCount = shape.reduce((product, extent) => product * extent, 1);
    this.#sums = new Float64Array(elementCount);
    this.#rounded = new Float32Array(elementCount);
  }

  begin(): void {
    this.#sums.fill(0);
  }

  add(values: Float32Array): void {
    const sums = this.#sums;
    demandSameLength(sums, values);
    const native = nativeRows();
    if (native !== null) {
      native.sumAll(sums, values);
      return;
    }
    for (let index = 0; index < sums.length; index += 1)
      sums[index] = (sums[index] ?? NaN) + (values[index] ?? NaN);
  }

  divideBy(share: number): void {
    divide(this.#sums, this.#sums.length, share);
  }

  rounded(): DenseTensor {
    this.#rounded.set(this.#sums);
    return { shape: this.#shape, values: this.#rounded };
  }
}

/** The sum over jobs of the row gradients of one table. */
class TableSum {
  readonly name: string;
  readonly #width: number;
  /** The ids that any job of the step touches, ascending and unique. */
  #ids: Int32Array = new Int32Array(0);
  /** `[ids.length, width]`; longer where an earlier step touched more rows. */
  #sums = new Float64Array(0);
  #rounded = new Float32Array(0);

  constructor(name: string, width: number) {
    this.name = name;
    this.#width = width;
  }

  /** @param idsByJob ascending and unique within each job. */
  begin(idsByJob: readonly Int32Array[]): void {
    this.#ids = uniqueIdsOf(idsByJob);
    const elementCount = this.#ids.length * this.#width;
    if (this.#sums.length < elementCount) {
      this.#sums = new Float64Array(elementCount);
      this.#rounded = new Float32Array(elementCount);
      return;
    }
    this.#sums.fill(0, 0, elementCount);
  }

  /** Adds the rows of `rows` from row `start` on, one for each id. */
  add(ids: Int32Array, rows: Float32Array, start: number): void {
    const width = this.#width;
    const sums = this.#sums;
    let from = start * width;
    if (from + ids.length * width > rows.length)
      throw new RangeError(`${this.name} has more ids than its gradient has rows`);
    const native = nativeRows();
    if (native !== null && width > 0) {
      native.sum(sums, width, this.#ids, ids, rows, from);
      return;
    }
    let place = 0;
    for (const id of ids) {
      place = placeOf(id, this.#ids, place);
      let to = place * width;
      for (const end = to + width; to < end; to += 1, from += 1)
        sums[to] = (sums[to] ?? NaN) + (rows[from] ?? NaN);
    }
  }

  /** @param idsByJob a part of those of `begin`. The rows of all other ids go. */
  keepOnly(idsByJob: readonly Int32Array[]): void {
    const ids = uniqueIdsOf(idsByJob);
    const width = this.#width;
    let from = 0;
    for (const [place, id] of ids.entries()) {
      from = placeOf(id, this.#ids, from);
      // Rows move towards the front, so none is overwritten before it has moved.
      this.#sums.copyWithin(place * width, from * width, (from + 1) * width);
    }
    this.#ids = ids;
  }

  divideBy(share: number): void {
    divide(this.#sums, this.#ids.length * this.#width, share);
  }

  rounded(): RowGradient {
    const elementCount = this.#ids.length * this.#width;
    const values = this.#rounded.subarray(0, elementCount);
    values.set(this.#sums.subarray(0, elementCount));
    return { ids: this.#ids, values };
  }
}

/**
 * Finds `id` among ascending `ids` at `from` or later. The search doubles its stride, so that its cost
 * follows the distance and not the number of ids.
 */
function placeOf(id: number, ids: Int32Array, from: number): number {
  let low = from;
  let stride = 1;
  // Beyond the end there is no element, and the comparison is false.
  while ((ids[low + stride] ?? Infinity) <= id) {
    low += stride;
    stride *= 2;
  }
  let high = Math.min(low + stride, ids.length);
  while (low + 1 < high) {
    const middle = (low + high) >>> 1;
    if ((ids[middle] ?? Infinity) <= id) low = middle;
    else high = middle;
  }
  if (ids[low] !== id) throw new Error(`the outer step does not touch row ${id}`);
  return low;
}

function divide(sums: Float64Array, elementCount: number, share: number): void {
  for (let index = 0; index < elementCount; index += 1) sums[index] = (sums[index] ?? NaN) / share;
}

function missing(name: string): never {
  throw new Error(`a gradient without ${name} was admitted`);
}
