/**
 * Keeps the events of a call in its output. The log begins when the work does: a call that is refused
 * leaves every file as it was.
 */

import type { Clock } from '../../shared/base/clock.js';
import { QianmoError } from '../../shared/base/errors.js';
import { failureOfSystemError } from '../../shared/base/system-errors.js';
import type { RunConfig } from '../../shared/config/run-config.js';
import { openEventLog, type SegmentBounds } from '../../shared/events/event-log.js';
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
import { thisProcess } from '../../shared/storage/process-identity.js';
import { s3OptionsOf } from '../../shared/storage/open-object-store.js';
import type { S3Options } from '../../shared/storage/s3-object-store.js';
import type { openTracking } from '../tracking/open-tracking.js';
import type { RunContext } from './run-context.js';

type TrackingOrder = Parameters<typeof openTracking>[0];

/** The name of the run and the place of its log. A comparison has no name. */
interface LoggedCall {
  /** The name of the call on the command line, as `train`. */
  readonly call: string;
  readonly run: string | null;
  readonly output: string;
  readonly s3: S3Options;
  /** The events that begin the log, where they differ from those of most calls. */
  readonly beginnings?: ReadonlySet<EventKind>;
  /** The size of the log; that of a run if absent. */
  readonly bounds?: SegmentBounds;
  /** Absent for a call that no tracker follows. */
  readonly tracked?: TrackingOrder;
}

export function loggedCallOf(
  call: string,
  { run, output, storage }: Pick<RunConfig, 'run' | 'output' | 'storage'>,
): LoggedCall {
  return { call, run, output, s3: s3OptionsOf(storage) };
}

/** A call that the trackers of the config follow, where it has any. */
export function trackedCallOf(call: string, config: RunConfig, isFresh = false): LoggedCall {
  return { ...loggedCallOf(call, config), tracked: { call, config, isFresh } };
}

/** Events that show that the call was not refused. */
const BEGINNINGS: ReadonlySet<EventKind> = new Set([
  'run-started',
  'progress',
  'trial-scored',
  'report-written',
  'bundle-judged',
]);

/** Readers call a silent call lost after nine of these. */
const ALIVE_INTERVAL_MS = 10_000;

/** Bound on the events before the beginning that are kept for the log. */
const HELD_EVENT_COUNT_MAX = 1_000;

/** Does the work in a context whose events name the run and are logged in its output. */
export async function loggedRun<Result>(
  call: LoggedCall,
  context: RunContext,
  work: (context: RunContext) => Promise<Result>,
): Promise<Result> {
  const sink = await loggedSink(call, context);
  try {
    return await work({ ...context, sink });
  } catch (error) {
    const failure = failureOfSystemError(error) ?? error;
    sink(failedEvent(failure));
    throw failure;
  }
}

/**
 * Passes events on to the context and to the log. The log closes with the context, after everything
 * that was started later, so it holds the last words of workers and compute processes.
 */
export async function loggedSink(
  { call, run, output, s3, bounds, tracked, beginnings = BEGINNINGS }: LoggedCall,
  { clock, sink, onClose, environment, version = () => 'unknown' }: LoggingContext,
): Promise<RunEventSink> {
  const trackers = await openedTrackers(tracked, { clock, environment, version: version() });
  const named = run === null ? {} : { runId: run };
  const tell = toldBy(named, sink);
  const log = openEventLog(output, { clock, s3, bounds, onFailure: tell });
  let tracking: ReturnType<ReturnType<typeof openTracking>> | null = null;
  const record = runEventSink(
    { ...named, clock },
    sinksTogether(heldUntil(beginnings, log.sink), (event) => tracking?.sink(event)),
  );
  tracking = trackers?.(sinksTogether(tell, record)) ?? null;
  const endLife = tellingThatItLives(call, clock, record);
  onClose(async () => {
    await tracking?.close();
    endLife();
    await log.close();
  });
  return sinksTogether(tell, record);
}

type LoggingContext = Pick<RunContext, 'clock' | 'sink' | 'onClose' | 'environment' | 'version'>;

/** Null where the config names no tracker: then their code is not loaded. */
async function openedTrackers(
  order: TrackingOrder | undefined,
  surroundings: Parameters<typeof openTracking>[2],
) {
  const tracking = order?.config.tracking;
  if (order === undefined || tracking === undefined) return null;
  const opened = await import('../tracking/open-tracking.js');
  return opened.openTracking(order, tracking, surroundings);
}

/** Tells it now and at intervals. Returns what tells the end. */
function tellingThatItLives(call: string, clock: Clock, record: RunEventSink): () => void {
  const sinceMs = clock.epochMs();
  const alive = (): void => record({ kind: 'call-alive', call, process: thisProcess(), sinceMs });
  const ended = new AbortController();
  alive();
  void (async () => {
    for (;;) {
      await clock.sleep(ALIVE_INTERVAL_MS, ended.signal);
      if (ended.signal.aborted) return;
      alive();
    }
  })();
  return () => {
    ended.abort();
    record({ kind: 'call-ended', call });
  };
}

/** The end of a run that fails, as the log tells it. */
export function failedEvent(failure: unknown): RunEventOf<'run-failed'> {
  return {
    kind: 'run-failed',
    failure: failure instanceof QianmoError ? failure.kind : 'bug',
    reason: failure instanceof Error ? failure.message : String(failure),
  };
}

function heldUntil(beginnings: ReadonlySet<EventKind>, sink: StampedEventSink): StampedEventSink {
  let held: StampedEvent[] | null = [];
  return (event) => {
    if (held === null) sink(event);
    else if (beginnings.has(event.kind)) {
      for (const earlier of [...held, event]) sink(earlier);
      held = null;
    } else if (held.length < HELD_EVENT_COUNT_MAX) held.push(event);
  };
}
