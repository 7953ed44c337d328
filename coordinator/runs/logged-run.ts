/**
 * Keeps the events of a run in its output. The log begins when the work does: a run that is refused
 * leaves every file as it was.
 */

import { QianmoError } from '../../shared/base/errors.js';
import { failureOfSystemError } from '../../shared/base/system-errors.js';
import type { RunConfig } from '../../shared/config/run-config.js';
import { openEventLog } from '../../shared/events/event-log.js';
import {
  runEventSink,
  sinksTogether,
  toldBy,
  type EventKind,
  type RunEventOf,
  type StampedEvent,
  type StampedEventSink,
} from '../../shared/events/run-events.js';
import { s3OptionsOf } from '../../shared/storage/open-object-store.js';
import type { RunContext } from './call/run-context.js';

/** The name and the output of the log. A sweep has its own. */
export type LoggedRun = Pick<RunConfig, 'run' | 'output' | 'storage'>;

/** Events that show that the run was not refused. */
const BEGINNINGS: ReadonlySet<EventKind> = new Set([
  'run-started',
  'global-arm-started',
  'progress',
  'trial-scored',
  'report-written',
]);

/** Bound on the events before the beginning that are kept for the log. */
const HELD_EVENT_COUNT_MAX = 1_000;

/** Does the work in a context whose events name the run and are logged in its output. */
export async function loggedRun<Result>(
  { run: runId, output, storage }: LoggedRun,
  context: RunContext,
  work: (context: RunContext) => Promise<Result>,
): Promise<Result> {
  const { clock } = context;
  const tell = toldBy({ runId }, context.sink);
  const log = openEventLog(output, { clock, s3: s3OptionsOf(storage), onFailure: tell });
  const sink = sinksTogether(tell, runEventSink({ runId, clock }, heldUntilBegun(log.sink)));
  try {
    return await work({ ...context, sink });
  } catch (error) {
    const failure = failureOfSystemError(error) ?? error;
    sink(failedEvent(failure));
    throw failure;
  } finally {
    await log.close();
  }
}

function failedEvent(failure: unknown): RunEventOf<'run-failed'> {
  return {
    kind: 'run-failed',
    failure: failure instanceof QianmoError ? failure.kind : 'bug',
    reason: failure instanceof Error ? failure.message : String(failure),
  };
}

function heldUntilBegun(sink: StampedEventSink): StampedEventSink {
  let held: StampedEvent[] | null = [];
  return (event) => {
    if (held === null) sink(event);
    else if (BEGINNINGS.has(event.kind)) {
      for (const earlier of [...held, event]) sink(earlier);
      held = null;
    } else if (held.length < HELD_EVENT_COUNT_MAX) held.push(event);
  };
}
