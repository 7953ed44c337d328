/** The losses of a run by size of the adgroups, in bounded memory: means over spans of equally many outer steps. */

import { at } from '../../../shared/base/arrays.js';
import type { SizeLosses } from '../../../shared/events/size-losses.js';
import { measuredPart, sizeMeansOf, type SizeMean } from '../size-means.js';
import { StepSpans, type StepSpan } from './step-spans.js';

export interface SizedSteps extends Omit<StepSpan<never>, 'sum'> {
  /** Sums by bucket; the same buckets in all spans. */
  readonly means: readonly SizeMean[];
}

const SIZED_SPANS_MAX = 60;

/** Sums over a span of outer steps. */
interface SpanLosses {
  readonly all: SizeLosses;
  /** The same of the outer steps that measure the query loss before adaptation; null where none does. */
  readonly measured: SizeLosses | null;
}

export class SizedLosses {
  #spans = new StepSpans<SpanLosses>(SIZED_SPANS_MAX, summed);
  #sizes = '';

  /** A run that is resumed with other buckets begins anew. */
  add(outerStep: number, losses: SizeLosses): void {
    const sizes = losses.sizes.join(' ');
    if (sizes !== this.#sizes) this.#spans = new StepSpans(SIZED_SPANS_MAX, summed);
    this.#sizes = sizes;
    this.#spans.add(outerStep, { all: losses, measured: measuredPart(losses) });
  }

  /** Forgets the spans with steps behind this one. */
  forgetAfter(outerStep: number): void {
    this.#spans.forgetAfter(outerStep);
  }

  spans(): SizedSteps[] {
    return this.#spans.spans.map(({ sum: { all, measured }, ...span }) => ({
      ...span,
      means: sizeMeansOf(all, measured),
    }));
  }
}

function summed(earlier: SpanLosses, later: SpanLosses): SpanLosses {
  const [some, more] = [earlier.measured, later.measured];
  return {
    all: added(earlier.all, later.all),
    measured: some === null || more === null ? (some ?? more) : added(some, more),
  };
}

function added(earlier: SizeLosses, later: SizeLosses): SizeLosses {
  const sums = (some: readonly number[], more: readonly number[]): number[] =>
    some.map((value, bucket) => value + at(more, bucket));
  return {
    sizes: earlier.sizes,
    taskCounts: sums(earlier.taskCounts, later.taskCounts),
    weights: sums(earlier.weights, later.weights),
    queryLossSums: sums(earlier.queryLossSums, later.queryLossSums),
    supportLossSums: sums(earlier.supportLossSums, later.supportLossSums),
    ...(earlier.queryLossBeforeSums === undefined || later.queryLossBeforeSums === undefined
      ? {}
      : { queryLossBeforeSums: sums(earlier.queryLossBeforeSums, later.queryLossBeforeSums) }),
  };
}
