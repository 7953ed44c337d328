/**
 * The stream of events of a run. Code emits a `RunEvent` to the sink that it was given. `runEventSink`
 * stamps the event once, and every sink (terminal, log, library) reads the stamped event.
 */

import type { z } from 'zod';
import type { Clock } from '../base/clock.js';
import type { EVENT_SHAPES } from './event-kinds.js';

type Shapes = typeof EVENT_SHAPES;
export type EventKind = keyof Shapes;

/** An event of one kind, as it is emitted. */
export type RunEventOf<Kind extends EventKind> = {
  // zod gives an empty shape the type of a record without keys, which would forbid `kind`.
  [Each in Kind]: { readonly kind: Each } & (keyof Shapes[Each] extends never
    ? unknown
    : Readonly<z.output<z.ZodObject<Shapes[Each]>>>);
}[Kind];
export type RunEvent = RunEventOf<EventKind>;

/** The origin of an event: a worker, or the coordinator where no worker is named. */
export interface EventSource {
  /** Absent before a run is known, and for a worker that serves none yet. */
  readonly runId?: string | undefined;
  /** The name of the worker, as results carry it. */
  readonly worker?: string | undefined;
  /** The place of the worker among the local workers of a supervisor, from 0. */
  readonly workerIndex?: number | undefined;
  /** The time of the event in milliseconds since the Unix epoch; the present when absent. */
  readonly epochMs?: number | undefined;
}

export type RunEventSink = (event: RunEvent, source?: EventSource) => void;

export interface EventStamp extends EventSource {
  readonly epochMs: number;
  /** Outer steps that were complete; absent outside training. */
  readonly outerStep?: number | undefined;
}

export type StampedEventOf<Kind extends EventKind> = RunEventOf<Kind> & EventStamp;
export type StampedEvent = { [Kind in EventKind]: StampedEventOf<Kind> }[EventKind];
export type StampedEventSink = (event: StampedEvent) => void;

/**
 * Stamps events with run, time and outer step. A run or outer step that an event names itself wins;
 * otherwise the outer step is the one that training has reached.
 */
export function runEventSink(
  { runId, clock }: { readonly runId?: string; readonly clock: Clock },
  sink: StampedEventSink,
): RunEventSink {
  let reachedOuterStep: number | undefined;
  return (event, source = {}) => {
    const { worker, workerIndex, epochMs = clock.epochMs() } = source;
    const ofRun = source.runId ?? runId;
    if (event.kind === 'run-started' || event.kind === 'outer-step')
      reachedOuterStep = event.outerStep;
    sink({
      epochMs,
      ...(ofRun === undefined ? {} : { runId: ofRun }),
      ...(reachedOuterStep === undefined ? {} : { outerStep: reachedOuterStep }),
      ...(worker === undefined ? {} : { worker }),
      ...(workerIndex === undefined ? {} : { workerIndex }),
      ...event,
    });
    if (event.kind === 'run-finished' || event.kind === 'run-failed') reachedOuterStep = undefined;
  };
}

/** Passes every event to every sink, in this order. */
export function sinksTogether<Arguments extends readonly unknown[]>(
  ...sinks: readonly ((...event: Arguments) => void)[]
): (...event: Arguments) => void {
  return (...event) => {
    for (const sink of sinks) sink(...event);
  };
}

/** Passes events on with this source. A source that is given with an event wins. */
export function toldBy(source: EventSource, sink: RunEventSink): RunEventSink {
  return (event, given) => sink(event, { ...source, ...given });
}

const PROGRESS_KINDS: ReadonlySet<EventKind> = new Set([
  'outer-step',
  'progress',
  'job-finished',
  'results-admitted',
  'run-validated',
  'trial-scored',
  'report-written',
  'run-finished',
]);

/**
 * Whether an event shows that its run gets on: that it neither stalls nor waits for workers. A checkpoint does not,
 * since it is written beside the outer steps that follow.
 */
export function isProgress({ kind }: Pick<StampedEvent, 'kind'>): boolean {
  return PROGRESS_KINDS.has(kind);
}
