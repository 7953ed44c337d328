/**
 * Limits the rate of frequent kinds of events, for sinks to which each event is a cost: a log file, a
 * channel between processes. Every other event passes.
 */

import type { Clock } from '../base/clock.js';
import { LruCache } from '../base/lru-cache.js';
import type { StampedEvent, StampedEventSink } from './run-events.js';

/** The least time between two events of one kind, worker and stage. */
const INTERVAL_MS = 1_000;
/** The number of stages and workers that are told apart. */
const SUBJECT_COUNT_MAX = 1_000;

export function boundedRate(clock: Clock, sink: StampedEventSink): StampedEventSink {
  const passedMsBySubject = new LruCache<string, number>({ countMax: SUBJECT_COUNT_MAX });
  return (event) => {
    const subject = subjectOf(event);
    if (subject === null) {
      sink(event);
      return;
    }
    const nowMs = clock.monotonicMs();
    const passedMs = passedMsBySubject.get(subject) ?? Number.NEGATIVE_INFINITY;
    if (nowMs - passedMs < INTERVAL_MS && !isLast(event)) return;
    passedMsBySubject.put(subject, nowMs);
    sink(event);
  };
}

/** Returns the subject whose events have a limited rate; null when every event passes. */
function subjectOf(event: StampedEvent): string | null {
  switch (event.kind) {
    case 'progress':
      return `${event.kind} ${event.stage}`;
    case 'job-progress':
    case 'job-started':
    case 'job-finished':
      return `${event.kind} ${event.worker ?? ''}`;
    default:
      return null;
  }
}

function isLast(event: StampedEvent): boolean {
  return event.kind === 'progress' && event.done === event.total;
}
