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
  type RunEventSink,
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
  run: LoggedRun,
  context: RunContext,
  work: (context: RunContext) => Promise<Result>,
): Promise<Result> {
  const log = openRunLog(run, context);
  try {
    return await work({ ...context, sink: log.sink });
  } catch (error) {
    const failure = failureOfSystemError(error) ?? error;
    log.sink(failedEvent(failure));
    throw failure;
  } finally {
    await log.close();
  }
}

export interface RunLog {
  /** Tells the context and the log. */
  readonly sink: RunEventSink;
  close(): Promise<void>;
}

/** The log of a run whose work is not one function; `loggedRun` is simpler where it is. */
export function openRunLog(
  { run: runId, output, storage }: LoggedRun,
  { clock, sink }: Pick<RunContext, 'clock' | 'sink'>,
): RunLog {
  const tell = toldBy({ runId }, sink);
  const log = openEventLog(output, { clock, s3: s3OptionsOf(storage), onFailure: tell });
  const toLog = runEventSink({ runId, clock }, heldUntilBegun(log.sink));
  return { sink: sinksTogether(tell, toLog), close: () => log.close() };
}

/** The end of a run that fails, as the log tells it. */
export function failedEvent(failure: unknown): RunEventOf<'run-failed'> {
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
