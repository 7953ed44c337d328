/** The losses of a run by size of the adgroups, in bounded memory: means over spans of equally many outer steps. */

import { at } from '../../../shared/base/arrays.js';
import type { SizeLosses } from '../../../shared/events/size-losses.js';
import { sizeMeansOf, type SizeMean } from '../size-means.js';
import { StepSpans, type StepSpan } from './step-spans.js';

export interface SizedSteps extends Omit<StepSpan<never>, 'sum'> {
  /** Sums by bucket; the same buckets in all spans. */
  readonly means: readonly SizeMean[];
}

const SIZED_SPANS_MAX = 60;

export class SizedLosses {
  #spans = new StepSpans<SizeLosses>(SIZED_SPANS_MAX, summed);
  #sizes = '';

  /** A run that is resumed with other buckets begins anew. */
  add(outerStep: number, losses: SizeLosses): void {
    const sizes = losses.sizes.join(' ');
    if (sizes !== this.#sizes) this.#spans = new StepSpans(SIZED_SPANS_MAX, summed);
    this.#sizes = sizes;
    this.#spans.add(outerStep, losses);
  }

  /** Forgets the spans with steps behind this one. */
  forgetAfter(outerStep: number): void {
    this.#spans.forgetAfter(outerStep);
  }

  spans(): SizedSteps[] {
    return this.#spans.spans.map(({ sum, ...span }) => ({ ...span, means: sizeMeansOf(sum) }));
  }
}

function summed(earlier: SizeLosses, later: SizeLosses): SizeLosses {
  const added = (some: readonly number[], more: readonly number[]): number[] =>
    some.map((value, bucket) => value + at(more, bucket));
  return {
    sizes: earlier.sizes,
    taskCounts: added(earlier.taskCounts, later.taskCounts),
    weights: added(earlier.weights, later.weights),
    queryLossSums: added(earlier.queryLossSums, later.queryLossSums),
    supportLossSums: added(earlier.supportLossSums, later.supportLossSums),
  };
}
