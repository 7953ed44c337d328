/** The time that outer steps take by phase, in bounded memory: means over spans of equally many steps. */

import { StepSpans, type StepSpan } from './step-spans.js';

export interface TimedSteps extends Omit<StepSpan<never>, 'sum'> {
  /** Milliseconds of one outer step, by phase. */
  readonly meanMsByPhase: ReadonlyMap<string, number>;
}

type MsByPhase = ReadonlyMap<string, number>;

export const TIMED_SPANS_MAX = 120;
/** More kinds of phases than any version of the program has. */
const PHASES_MAX = 24;

export class StepTimes {
  readonly #spans = new StepSpans<MsByPhase>(TIMED_SPANS_MAX, summed);

  add(outerStep: number, phasesMs: Readonly<Record<string, number>>): void {
    const phases = Object.entries(phasesMs).filter(([, ms]) => Number.isFinite(ms));
    this.#spans.add(outerStep, new Map(phases.slice(0, PHASES_MAX)));
  }

  /** Forgets the spans with steps behind this one. */
  forgetAfter(outerStep: number): void {
    this.#spans.forgetAfter(outerStep);
  }

  spans(): TimedSteps[] {
    return this.#spans.spans.map(({ sum, ...span }) => ({
      ...span,
      meanMsByPhase: new Map([...sum].map(([phase, sumMs]) => [phase, sumMs / span.stepCount])),
    }));
  }
}

function summed(earlier: MsByPhase, later: MsByPhase): MsByPhase {
  const sums = new Map(earlier);
  for (const [phase, sumMs] of later) sums.set(phase, (sums.get(phase) ?? 0) + sumMs);
  return sums;
}
