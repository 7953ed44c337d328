/** Values of outer steps in bounded memory: sums over spans of equally many steps. */

import { SpanList } from './span-list.js';

export interface StepSpan<Sum> {
  readonly firstOuterStep: number;
  readonly lastOuterStep: number;
  readonly stepCount: number;
  readonly sum: Sum;
}

export class StepSpans<Sum> {
  readonly #list: SpanList<StepSpan<Sum>>;

  constructor(spansMax: number, summed: (earlier: Sum, later: Sum) => Sum) {
    this.#list = new SpanList({
      spansMax,
      itemCountOf: ({ stepCount }) => stepCount,
      united: (earlier, later) => ({
        firstOuterStep: earlier.firstOuterStep,
        lastOuterStep: later.lastOuterStep,
        stepCount: earlier.stepCount + later.stepCount,
        sum: summed(earlier.sum, later.sum),
      }),
    });
  }

  /** Steps that are not behind the last one are left out. */
  add(outerStep: number, value: Sum): void {
    const newest = this.#list.spans.at(-1);
    if (newest !== undefined && outerStep <= newest.lastOuterStep) return;
    this.#list.add({
      ...{ firstOuterStep: outerStep, lastOuterStep: outerStep, stepCount: 1 },
      sum: value,
    });
  }

  /** Forgets the spans with steps behind this one. */
  forgetAfter(outerStep: number): void {
    this.#list.replaceEach((span) => (span.lastOuterStep <= outerStep ? [span] : []));
  }

  get spans(): readonly StepSpan<Sum>[] {
    return this.#list.spans;
  }
}
