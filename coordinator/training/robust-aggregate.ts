/**
 * Aggregates of job gradients that a minority of false ones cannot move far: the coordinate-wise median, and the
 * coordinate-wise trimmed mean, which leaves out the largest and smallest values of each coordinate
 * (Yin et al., "Byzantine-Robust Distributed Learning: Towards Optimal Statistical Rates", ICML 2018).
 *
 * A job gradient is a sum weighted by its tasks, g_j, with the sum w_j of their weights. The mean over all tasks is
 * the sum of w_j * (g_j / w_j), so what is aggregated are the means g_j / w_j, and the result is
 *
 *   W * A(g_j / w_j),   W the sum of w_j,   A the median or trimmed mean over the jobs j
 *
 * Over all jobs W is 1. A row of a table has a gradient from the jobs that touch it, and only these
 * count: with zeros from the others, most rows would never move.
 */

import { at, float32At, float64At } from '../../shared/base/arrays.js';
import { learnedRowsOf, learnedVariables } from '../../shared/models/learned-parameters.js';
import type { ModelSpec } from '../../shared/models/model-spec.js';
import { uniqueIdsOf, type RowPackLayout } from '../../shared/tasks/row-pack.js';
import type { DenseTensor } from '../../shared/tensors/named-tensors.js';
import type { RobustAggregation } from '../../shared/config/training-config.js';
import type { GradientAggregate } from './gradient-aggregate.js';
import type { JobGradient } from './gradients/job-gradient.js';
import {
  lossesWithoutMissing,
  NO_LOSSES,
  withJobLosses,
  type StepLosses,
} from './losses/loss-sums.js';
import type { MetaGradient, RowGradient } from './meta-optimizer/meta-gradient.js';

/** Keeps the gradients of a step until all are there. Its values do not depend on their order. */
export class RobustAggregate implements GradientAggregate {
  readonly #spec: ModelSpec;
  readonly #centre: Centre;
  #layouts: readonly RowPackLayout[] = [];
  #weights: readonly number[] = [];
  readonly #byJobIndex = new Map<number, JobGradient>();
  /** The share of the task weights of the jobs that are left; null as long as all count. */
  #left: { readonly share: number } | null = null;

  constructor(spec: ModelSpec, aggregation: RobustAggregation) {
    this.#spec = spec;
    this.#centre = centreOf(aggregation);
  }

  begin(layouts: readonly RowPackLayout[], weights: readonly number[]): void {
    this.#layouts = layouts;
    this.#weights = weights;
    this.#byJobIndex.clear();
    this.#left = null;
  }

  add(gradient: JobGradient): void {
    this.#byJobIndex.set(gradient.jobIndex, gradient);
  }

  missingJobs(): number[] {
    return [...this.#layouts.keys()].filter((jobIndex) => !this.#byJobIndex.has(jobIndex));
  }

  closeWithoutMissing(share: number): void {
    this.#left = { share };
  }

  metaGradient(): MetaGradient {
    const gradients = this.#gradients();
    const layouts = gradients.map(({ jobIndex }) => at(this.#layouts, jobIndex));
    const weights = gradients.map(({ jobIndex }) => at(this.#weights, jobIndex));
    const all = new Coordinate(weights, this.#scaledCentre());
    const dense = learnedVariables(this.#spec).map(({ name, shape }) => {
      const values = gradients.map((gradient) => gradient.dense.get(name)?.values ?? missing(name));
      return [name, aggregated(shape, values, all)] as const;
    });
    const learnedRows = layouts.map((layout) => learnedRowsOf(this.#spec, layout));
    const rows = this.#spec.learned.tables.map((name, place) => {
      const touched = gradients.map((gradient, index): TouchedRows => {
        const { tableIndex, start } = at(at(learnedRows, index).spans, place);
        const ids = at(at(layouts, index).idsByTable, tableIndex);
        return { ids, start, rows: gradient.rows, weight: at(weights, index) };
      });
      return [name, this.#aggregatedRows(touched)] as const;
    });
    return { dense: new Map(dense), rows: new Map(rows) };
  }

  get losses(): StepLosses {
    const sums = this.#gradients().reduce(withJobLosses, NO_LOSSES);
    return lossesWithoutMissing(sums, this.#left?.share ?? 1);
  }

  /** In job order. */
  #gradients(): readonly JobGradient[] {
    const { length } = this.#layouts;
    if (this.#left === null && this.#byJobIndex.size < length)
      throw new Error(`expected one gradient of each of ${length} jobs`);
    return [...this.#byJobIndex.values()].sort((a, b) => a.jobIndex - b.jobIndex);
  }

  /** As if the jobs that are left were all. */
  #scaledCentre(): Centre {
    const share = this.#left?.share ?? 1;
    return (ascending) => this.#centre(ascending) / share;
  }

  #aggregatedRows(jobs: readonly TouchedRows[]): RowGradient {
    const width = this.#spec.tableRowWidth;
    const ids = uniqueIdsOf(jobs.map((job) => job.ids));
    const values = new Float32Array(ids.length * width);
    /** By job, the number of its rows that are done. */
    const doneCounts = jobs.map(() => 0);
    const centre = this.#scaledCentre();
    for (const [place, id] of ids.entries()) {
      const touching: Row[] = [];
      for (const [jobIndex, { ids: ownIds, start, rows, weight }] of jobs.entries()) {
        const doneCount = at(doneCounts, jobIndex);
        if (ownIds[doneCount] !== id) continue;
        touching.push({ from: (start + doneCount) * width, rows, weight });
        doneCounts[jobIndex] = doneCount + 1;
      }
      const weights = touching.map(({ weight }) => weight);
      const coordinate = new Coordinate(weights, centre);
      for (let column = 0; column < width; column += 1)
        values[place * width + column] = coordinate.of((index) => {
          const { rows, from } = at(touching, index);
          return float32At(rows, from + column);
        });
    }
    return { ids, values };
  }
}

/** The rows of one table that one job touches. */
interface TouchedRows {
  /** Ascending and unique. */
  readonly ids: Int32Array;
  /** The place of the first among the rows of the gradient. */
  readonly start: number;
  readonly rows: Float32Array;
  readonly weight: number;
}

/** One row of the gradient of one job. */
interface Row {
  readonly rows: Float32Array;
  /** The place of its first column. */
  readonly from: number;
  readonly weight: number;
}

function aggregated(
  shape: readonly number[],
  valuesByJob: readonly Float32Array[],
  coordinate: Coordinate,
): DenseTensor {
  const values = new Float32Array(at(valuesByJob, 0).length);
  for (let index = 0; index < values.length; index += 1)
    values[index] = coordinate.of((jobIndex) => float32At(at(valuesByJob, jobIndex), index));
  return { shape, values };
}

/** The middle of ascending values. */
type Centre = (ascending: Float64Array) => number;

function centreOf(aggregation: RobustAggregation): Centre {
  if (aggregation.kind === 'trimmed-mean')
    return (ascending) => trimmedMean(ascending, aggregation.share);
  return (ascending) => {
    const upper = ascending.length >> 1;
    const lower = (ascending.length - 1) >> 1;
    return (float64At(ascending, lower) + float64At(ascending, upper)) / 2;
  };
}

/** Without the floor of share * n largest and as many smallest, and at least one value. */
function trimmedMean(ascending: Float64Array, share: number): number {
  const cutCount = Math.min(Math.floor(share * ascending.length), (ascending.length - 1) >> 1);
  let sum = 0;
  for (let index = cutCount; index < ascending.length - cutCount; index += 1)
    sum += float64At(ascending, index);
  return sum / (ascending.length - 2 * cutCount);
}

/** One coordinate over jobs of these weights. Jobs without weight do not count. */
class Coordinate {
  readonly #weights: readonly number[];
  readonly #counting: readonly number[];
  readonly #total: number;
  readonly #centre: Centre;
  readonly #means: Float64Array;

  constructor(weights: readonly number[], centre: Centre) {
    this.#weights = weights;
    this.#counting = weights.flatMap((weight, index) => (weight > 0 ? [index] : []));
    this.#total = weights.reduce((sum, weight) => sum + weight, 0);
    this.#centre = centre;
    this.#means = new Float64Array(this.#counting.length);
  }

  /** @param valueOf the value of the job in this place. */
  of(valueOf: (index: number) => number): number {
    if (this.#means.length === 0) return 0;
    for (let place = 0; place < this.#means.length; place += 1) {
      const index = at(this.#counting, place);
      this.#means[place] = valueOf(index) / at(this.#weights, index);
    }
    this.#means.sort();
    return this.#total * this.#centre(this.#means);
  }
}

function missing(name: string): never {
  throw new Error(`a gradient without ${name} was admitted`);
}
