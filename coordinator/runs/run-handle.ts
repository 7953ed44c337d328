/**
 * A call of the library under way. It opens a context, does the work, stops whatever the work
 * started, and settles; it prints nothing and leaves no handler behind.
 */

import type { Clock } from '../../shared/base/clock.js';
import { isInterruption, QianmoError, errorOf } from '../../shared/base/errors.js';
import { failureOfSystemError } from '../../shared/base/system-errors.js';
import {
  runEventSink,
  type RunEventSink,
  type StampedEvent,
  type StampedEventSink,
  warningEvent,
  metricUpdatesOf,
  sinksTogether,
} from '../../shared/events/run-events.js';
import type { MetricSource } from '../../shared/metrics/metric-definitions.js';
import type { MetricsPlace } from '../../shared/metrics/metrics-server.js';
import type { Ask } from '../propose/propose-data.js';
import type { Environment, Machine, RunContext } from './run-context.js';

/** Options that every function of the library takes. */
export interface CallOptions {
  /** Stops the work: the handle rejects with a QianmoError of kind `interrupted`. */
  readonly signal?: AbortSignal | undefined;
  /** Called with each event as it happens; must not throw. */
  readonly onEvent?: StampedEventSink | undefined;
  /** The environment variables to use, instead of those of the process. */
  readonly environment?: Environment | undefined;
  /**
   * The variables of the process itself, if the process belongs to the call: a few adgroups are then adapted in it, which blocks it
   * meanwhile, under settings that libraries read from these variables.
   */
  readonly ownEnvironment?: RunContext['ownEnvironment'] | undefined;
  /** The place of the metrics for Prometheus; nowhere if absent. */
  readonly metrics?: MetricsPlace | undefined;
  /** Asks a person what `init` cannot tell; it fails instead if absent. */
  readonly ask?: Ask | undefined;
}

/**
 * The promise of a result, with the events of the work. The work starts at once, whether or not
 * the events are read. When the promise settles, everything that the work started has been stopped.
 */
export interface RunHandle<Result> extends Promise<Result> {
  /**
   * Every event from the first on. An iteration that falls ten thousand events behind misses the
   * oldest, and an `events-dropped` says how many. It ends with the work, and throws the failure of
   * the work. Leaving the loop early does not stop the work: abort the signal for that.
   */
  readonly events: AsyncIterable<StampedEvent>;
}

/** The parts of a context that outlive one call. */
export interface Surroundings {
  readonly machine: Machine;
  readonly clock: Clock;
  readonly environment: Environment;
  readonly ownEnvironment?: RunContext['ownEnvironment'] | undefined;
  /** The version of the package, for its metrics. */
  readonly version?: () => string;
  /** The role of this process, for its metrics; a coordinator if absent. */
  readonly source?: MetricSource;
}

type Work<Result> = (context: RunContext) => Promise<Result>;

export function startRun<Result>(
  surroundings: Surroundings,
  { signal, onEvent, metrics }: CallOptions,
  work: Work<Result>,
): RunHandle<Result> {
  const events = eventStream();
  const sink = runEventSink({ clock: surroundings.clock }, (event) => {
    events.sink(event);
    onEvent?.(event);
  });
  const result = (async () => {
    try {
      const value = await carriedOut(surroundings, { signal, sink, metrics }, work);
      events.end();
      return value;
    } catch (error) {
      events.end({ error });
      throw error;
    }
  })();
  const readers: AsyncIterable<StampedEvent> = {
    [Symbol.asyncIterator]: () => {
      // The reader is thrown a failure of the work. Without a reader and without an await, a failure is
      // an unhandled rejection, as that of any promise: it must not go unnoticed.
      result.catch(() => undefined);
      return events[Symbol.asyncIterator]();
    },
  };
  return Object.assign(result, { events: readers });
}

async function carriedOut<Result>(
  surroundings: Surroundings,
  { signal, sink, metrics }: Omit<CallOptions, 'onEvent'> & { readonly sink: RunEventSink },
  work: Work<Result>,
): Promise<Result> {
  const { context, close } = openRunContext(surroundings, signal, sink);
  try {
    context.signal.throwIfAborted();
    // Work that nobody watches begins at once, so that no abort comes before it listens.
    const watched =
      metrics === undefined ? context : await countedCall(context, surroundings, metrics);
    context.signal.throwIfAborted();
    const result = await work(watched);
    await close();
    return result;
  } catch (error) {
    // The failure of the work takes precedence over a failure to close.
    await close().catch((failure: unknown) =>
      sink(
        warningEvent(
          'stop-failed',
          `something that was started could not be stopped: ${String(failure)}`,
        ),
      ),
    );
    throw failureOfSystemError(error) ?? error;
  }
}

interface OpenedContext {
  readonly context: RunContext;
  /** Runs all closers, in reverse order, and throws the first failure. A second call has no effect. */
  readonly close: () => Promise<void>;
}

export function openRunContext(
  surroundings: Surroundings,
  signal: AbortSignal | undefined,
  sink: RunEventSink,
): OpenedContext {
  const closers: (() => Promise<void>)[] = [];
  const abort = new AbortController();
  const stop = (): void => abort.abort(interruptionOf(signal?.reason));
  if (signal?.aborted === true) stop();
  else signal?.addEventListener('abort', stop, { once: true });
  return {
    context: {
      ...surroundings,
      sink,
      signal: abort.signal,
      onClose: (close) => {
        closers.push(close);
      },
    },
    close: async () => {
      const failures: unknown[] = [];
      // A closer that fails must not keep the other workers and servers alive.
      for (const close of closers.splice(0).reverse())
        await close().catch((error: unknown) => failures.push(error));
      signal?.removeEventListener('abort', stop);
      if (failures.length > 0) throw failures[0];
    },
  };
}

function interruptionOf(reason: unknown): QianmoError {
  if (isInterruption(reason)) return reason;
  return errorOf('interrupted', 'stopped before the work was complete', { cause: reason });
}

interface WatchedProcess {
  readonly clock: Clock;
  /** The role of this process; a coordinator if absent. */
  readonly source?: MetricSource | undefined;
  readonly version?: (() => string) | undefined;
}

/** Counts the events of the context, and serves the counts until it closes. @throws QianmoError `environment` if the port is taken. */
async function countedCall(
  context: RunContext,
  { clock, source = 'coordinator', version = () => 'unknown' }: WatchedProcess,
  place: MetricsPlace,
): Promise<RunContext> {
  // Loaded where it is asked for, so that others start sooner.
  const [{ MetricRegistry, processMetrics }, { serveMetrics, workersWantedIn }] = await Promise.all(
    [
      import('../../shared/metrics/metric-registry.js'),
      import('../../shared/metrics/metrics-server.js'),
    ],
  );
  const registry = new MetricRegistry(source);
  const setProcess = processMetrics(registry, { clock, version: version() });
  const snapshot = (): ReturnType<typeof registry.snapshot> => {
    setProcess();
    return registry.snapshot();
  };
  const server = await serveMetrics(
    {
      snapshot,
      ...(source === 'coordinator' ? { workersWanted: () => workersWantedIn(registry) } : {}),
    },
    place,
  );
  context.onClose(() => server.close());
  const sink = sinksTogether(
    context.sink,
    runEventSink({ clock }, (event) => registry.apply(metricUpdatesOf(event))),
  );
  sink({ kind: 'metrics-served', url: server.url });
  return { ...context, sink };
}

interface WholeInterrupted {
  readonly what: string;
  readonly where: string;
  readonly cure: string;
}

/**
 * Waits for the work. If a part of it was interrupted, throws an interruption of the whole.
 *
 * @param whole called after the interruption, when it is known what was completed.
 */
export async function interruptedAs<Value>(
  work: Promise<Value>,
  whole: () => WholeInterrupted,
): Promise<Value> {
  try {
    return await work;
  } catch (error) {
    if (!isInterruption(error)) throw error;
    throw new QianmoError({ kind: error.kind, ...whole() });
  }
}

const EVENT_COUNT_MAX = 10_000;

/**
 * Every iteration begins with the first event, or with the oldest one that is kept. An `events-dropped`
 * stands in the place of events that are no longer kept, with their number.
 */
interface EventStream extends AsyncIterable<StampedEvent> {
  readonly sink: StampedEventSink;
  /** Ends every iteration after the last event: with this failure, where there is one. */
  end(failure?: { readonly error: unknown }): void;
}

/** @param eventCountMax how many of the newest events are kept for readers. */
export function eventStream(eventCountMax = EVENT_COUNT_MAX): EventStream {
  const kept: StampedEvent[] = [];
  let droppedCount = 0;
  let end: { readonly failure: { readonly error: unknown } | undefined } | null = null;
  let waiting: (() => void)[] = [];

  const wakeAll = (): void => {
    const woken = waiting;
    waiting = [];
    for (const wake of woken) wake();
  };
  return {
    sink: (event) => {
      if (end !== null) return;
      kept.push(event);
      if (kept.length > eventCountMax) {
        kept.shift();
        droppedCount += 1;
      }
      wakeAll();
    },
    end: (failure) => {
      end ??= { failure };
      wakeAll();
    },
    async *[Symbol.asyncIterator]() {
      for (let nextIndex = 0; ;) {
        const missedCount = droppedCount - nextIndex;
        const event = kept[Math.max(0, -missedCount)];
        if (event === undefined) {
          if (end?.failure !== undefined) throw end.failure.error;
          if (end !== null) return;
          await new Promise<void>((resolve) => waiting.push(resolve));
        } else if (missedCount > 0) {
          nextIndex += missedCount;
          const { epochMs, runId } = event;
          yield { kind: 'events-dropped', epochMs, runId, eventCount: missedCount };
        } else {
          nextIndex += 1;
          yield event;
        }
      }
    },
  };
}
