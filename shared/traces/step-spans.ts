/** The spans of a coordinator, made of the event that tells the times of an outer step. */

import type { StepPhase } from '../names/event-terms.js';
import type { StampedEventOf, StampedEventSink } from '../events/run-events.js';
import { spanBelow, type Span, type StepTraces } from './span.js';

/** The phases of the coordinator itself. The others lie in the spans of jobs. */
const AT_START = ['sample', 'pack'] as const satisfies readonly StepPhase[];
const AT_END = ['aggregate', 'optimise', 'checkpoint'] as const satisfies readonly StepPhase[];

export function stepSpanSink(traces: StepTraces, take: (span: Span) => void): StampedEventSink {
  return (event) => {
    if (event.kind === 'outer-step-timed') for (const span of spansOf(event, traces)) take(span);
  };
}

/**
 * The outer step, and below it its phases. How long they took was measured; they are drawn in their order, the first
 * ones from the beginning and the last ones up to the end.
 */
function spansOf(event: StampedEventOf<'outer-step-timed'>, traces: StepTraces): Span[] {
  const { runId = '', outerStep, startedMs, epochMs, phasesMs, jobCount, taskCount } = event;
  // The event counts the complete outer steps, the jobs of this one those before it.
  const place = traces.placeOf(runId, outerStep - 1);
  if (place === null) return [];
  const root: Span = {
    ...{ ...place, parentSpanId: null, name: 'outer step', startMs: startedMs, endMs: epochMs },
    attributes: {
      ...{ 'qianmo.run': runId, 'qianmo.outer_step': outerStep - 1 },
      ...{ 'qianmo.jobs': jobCount, 'qianmo.tasks': taskCount },
    },
  };
  let startMs = startedMs;
  const first = AT_START.map((phase) => {
    const span = spanBelow(place, phase, { startMs, endMs: startMs + phasesMs[phase] });
    startMs = span.endMs;
    return span;
  });
  let endMs = epochMs;
  const last = AT_END.toReversed().map((phase) => {
    const span = spanBelow(place, phase, { startMs: endMs - phasesMs[phase], endMs });
    endMs = span.startMs;
    return span;
  });
  return [root, ...first, ...last.reverse()];
}
