/** The time that outer steps take by phase, in bounded memory: means over spans of equally many steps. */

import { SpanList } from './span-list.js';

export interface TimedSteps {
  readonly firstOuterStep: number;
  readonly lastOuterStep: number;
  readonly stepCount: number;
  /** Milliseconds of one outer step, by phase. */
  readonly meanMsByPhase: ReadonlyMap<string, number>;
}

interface Span {
  readonly first: number;
  readonly last: number;
  readonly stepCount: number;
  readonly sumMsByPhase: ReadonlyMap<string, number>;
}

export const TIMED_SPANS_MAX = 120;
/** More kinds of phases than any version of the program has. */
const PHASES_MAX = 24;

export class StepTimes {
  readonly #list = new SpanList<Span>({
    spansMax: TIMED_SPANS_MAX,
    itemCountOf: ({ stepCount }) => stepCount,
    united,
  });

  add(outerStep: number, phasesMs: Readonly<Record<string, number>>): void {
    const newest = this.#list.spans.at(-1);
    if (newest !== undefined && outerStep <= newest.last) return;
    const phases = Object.entries(phasesMs).filter(([, ms]) => Number.isFinite(ms));
    this.#list.add({
      ...{ first: outerStep, last: outerStep, stepCount: 1 },
      sumMsByPhase: new Map(phases.slice(0, PHASES_MAX)),
    });
  }

  /** Forgets the spans with steps behind this one. */
  forgetAfter(outerStep: number): void {
    this.#list.replaceEach((span) => (span.last <= outerStep ? [span] : []));
  }

  spans(): TimedSteps[] {
    return this.#list.spans.map(({ first, last, stepCount, sumMsByPhase }) => ({
      firstOuterStep: first,
      lastOuterStep: last,
      stepCount,
      meanMsByPhase: new Map([...sumMsByPhase].map(([phase, sumMs]) => [phase, sumMs / stepCount])),
    }));
  }
}

function united(earlier: Span, later: Span): Span {
  const sums = new Map(earlier.sumMsByPhase);
  for (const [phase, sumMs] of later.sumMsByPhase) sums.set(phase, (sums.get(phase) ?? 0) + sumMs);
  return {
    first: earlier.first,
    last: later.last,
    stepCount: earlier.stepCount + later.stepCount,
    sumMsByPhase: sums,
  };
}
