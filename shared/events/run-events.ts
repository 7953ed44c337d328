/**
 * The one stream of events of a run. Whoever has something to tell emits a `RunEvent` to the sink it
 * was given; `runEventSink` stamps it once, and every sink (terminal, log, library, metrics) reads
 * the stamped event.
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

/** Where an event comes from; without a worker it is the coordinator's. */
export interface EventSource {
  /** The run it belongs to; absent before a run is known, and for a worker that serves none yet. */
  readonly runId?: string | undefined;
  /** Its name, as results carry it. */
  readonly worker?: string | undefined;
  /** The place among the local workers of a supervisor, from 0. */
  readonly workerIndex?: number | undefined;
  /** When it was told, in milliseconds since the Unix epoch; the present when absent. */
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

/** Every event to every sink, in this order. */
export function sinksTogether<Arguments extends readonly unknown[]>(
  ...sinks: readonly ((...event: Arguments) => void)[]
): (...event: Arguments) => void {
  return (...event) => {
    for (const sink of sinks) sink(...event);
  };
}

/** Tells everything as told by this source. */
export function toldBy(source: EventSource, sink: RunEventSink): RunEventSink {
  return (event, given) => sink(event, { ...source, ...given });
}
