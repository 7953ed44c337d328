/**
 * The stream of events of a run. Code emits a `RunEvent` to the sink that it was given. `runEventSink`
 * stamps the event once, and every sink (terminal, log, library) reads the stamped event.
 */

import { secondsText } from '../names/counted.js';
import type { Clock } from '../base/clock.js';
import { set, type MetricUpdate } from '../metrics/metric-definitions.js';
import {
  type EventLevel,
  type EventSource,
  type EventStamp,
  type EventWords,
  type FieldsOf,
  EVENT_KINDS,
} from './event-kinds.js';

export type { EventSource, EventStamp } from './event-kinds.js';

export type EventKind = keyof typeof EVENT_KINDS;

/** An event of one kind, as it is emitted. */
export type RunEventOf<Kind extends EventKind> = {
  [Each in Kind]: { readonly kind: Each } & FieldsOf<(typeof EVENT_KINDS)[Each]['shape']>;
}[Kind];
export type RunEvent = RunEventOf<EventKind>;

export type RunEventSink = (event: RunEvent, source?: EventSource) => void;

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

/** An event that only people read, at the level of a notice. */
export function noticeEvent(code: string, text: string): RunEventOf<'notice'> {
  return { kind: 'notice', code, text };
}

export function warningEvent(code: string, text: string): RunEventOf<'warning'> {
  return { kind: 'warning', code, text };
}

export function objectStoreAway(outage: {
  readonly address: string;
  readonly reason: string;
}): RunEvent {
  const text = `the object store at ${outage.address} fails (${outage.reason}); waiting for it`;
  return warningEvent('object-store-away', text);
}

export function objectStoreBack(awayMs: number): RunEvent {
  const text = `the object store is back after ${secondsText(awayMs)}`;
  return noticeEvent('object-store-back', text);
}

interface Sentence {
  readonly level: EventLevel;
  readonly text: string;
}

export function sentenceOf(event: StampedEvent): Sentence {
  const { level, text } = entryOf(event);
  return { level: level(event), text: text(event) };
}

/** Returns the changes of counters and gauges that follow the event. */
export function metricUpdatesOf(event: StampedEvent): readonly MetricUpdate[] {
  const updates = entryOf(event).metrics?.(event) ?? [];
  if (!isProgress(event)) return updates;
  return [
    ...updates,
    set('qianmo_last_progress_timestamp_seconds', {}, event.epochMs / 1000),
    set('qianmo_workers_awaited', {}, 0),
  ];
}

/**
 * Whether an event shows that its run moves: that it neither stalls nor waits for workers. A checkpoint does not,
 * since it is written while the outer steps that follow are computed.
 */
export function isProgress(event: StampedEvent): boolean {
  return entryOf(event).isProgress === true;
}

function entryOf({ kind }: StampedEvent): EventWords<StampedEvent> {
  // The entry of an event's kind takes that event, which an index by a union does not show.
  return EVENT_KINDS[kind] as unknown as EventWords<StampedEvent>;
}
