/** The time that outer steps take by phase, in bounded memory: means over spans of equally many steps. */

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
  #spans: Span[] = [];
  #spanLength = 1;

  add(outerStep: number, phasesMs: Readonly<Record<string, number>>): void {
    const newest = this.#spans.at(-1);
    if (newest !== undefined && outerStep <= newest.last) return;
    const phases = Object.entries(phasesMs).filter(([, ms]) => Number.isFinite(ms));
    const single = {
      ...{ first: outerStep, last: outerStep, stepCount: 1 },
      sumMsByPhase: new Map(phases.slice(0, PHASES_MAX)),
    };
    if (newest !== undefined && newest.stepCount < this.#spanLength)
      this.#spans[this.#spans.length - 1] = united(newest, single);
    else this.#spans.push(single);
    if (this.#spans.length > TIMED_SPANS_MAX) this.#halve();
  }

  /** Forgets the spans with steps behind this one. */
  forgetAfter(outerStep: number): void {
    this.#spans = this.#spans.filter(({ last }) => last <= outerStep);
  }

  spans(): TimedSteps[] {
    return this.#spans.map(({ first, last, stepCount, sumMsByPhase }) => ({
      firstOuterStep: first,
      lastOuterStep: last,
      stepCount,
      meanMsByPhase: new Map([...sumMsByPhase].map(([phase, sumMs]) => [phase, sumMs / stepCount])),
    }));
  }

  #halve(): void {
    this.#spanLength *= 2;
    const halved: Span[] = [];
    for (const [index, span] of this.#spans.entries()) {
      const earlier = halved.at(-1);
      if (index % 2 === 1 && earlier !== undefined)
        halved[halved.length - 1] = united(earlier, span);
      else halved.push(span);
    }
    this.#spans = halved;
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
