/** A call of the library as others watch it: its metrics for Prometheus, and its traces. Both read its events. */

import type { Clock } from '../../../shared/base/clock.js';
import { freshNonce } from '../../../shared/base/nonce.js';
import { metricUpdatesOf, runEventSink, sinksTogether } from '../../../shared/events/run-events.js';
import type { MetricSource } from '../../../shared/metrics/metric-definition.js';
import type { MetricsPlace } from '../../../shared/metrics/metrics-server.js';
import { openSpanExporter, tracesFailed } from '../../../shared/traces/open-exporter.js';
import { StepTraces, traceparentOf } from '../../../shared/traces/span.js';
import { traceSettingsOf } from '../../../shared/traces/trace-settings.js';
import type { RunContext } from './run-context.js';

interface WatchedProcess {
  readonly clock: Clock;
  /** What this process does: it decides if absent. */
  readonly source?: MetricSource | undefined;
  readonly version?: (() => string) | undefined;
}

/** @throws QianmoError of kind `usage` if the environment asks for traces in a way that has no sense. */
export function isWatched(
  { environment }: Pick<RunContext, 'environment'>,
  metrics: MetricsPlace | undefined,
): boolean {
  return metrics !== undefined || traceSettingsOf(environment, 'qianmo') !== null;
}

/**
 * The context whose events are counted and traced, where somebody wants it. Servers and exporters end with it.
 *
 * @throws QianmoError `environment` if the port is taken, `usage` if the environment asks for traces in a way that has
 *   no sense.
 */
export async function watchedCall(
  context: RunContext,
  watched: WatchedProcess,
  metrics: MetricsPlace | undefined,
): Promise<RunContext> {
  const counted = metrics === undefined ? context : await countedCall(context, watched, metrics);
  return tracedCall(counted, watched);
}

async function countedCall(
  context: RunContext,
  { clock, source = 'coordinator', version = unknownVersion }: WatchedProcess,
  place: MetricsPlace,
): Promise<RunContext> {
  // Loaded where it is asked for, so that others start sooner.
  const [{ MetricRegistry }, { processMetrics }, { serveMetrics, workersWantedIn }] =
    await Promise.all([
      import('../../../shared/metrics/metric-registry.js'),
      import('../../../shared/metrics/process-metrics.js'),
      import('../../../shared/metrics/metrics-server.js'),
    ]);
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

async function tracedCall(
  context: RunContext,
  { clock, source = 'coordinator', version = unknownVersion }: WatchedProcess,
): Promise<RunContext> {
  const opened = await openSpanExporter(context.environment, {
    ...{ service: `qianmo-${source}`, version: version(), clock },
    onFailure: (failure) => context.sink(tracesFailed(failure)),
  });
  if (opened === null) return context;
  const { exporter, keptShare } = opened;
  context.onClose(() => exporter.close());
  const onSpan = exporter.export;
  if (source === 'worker') return { ...context, onSpan };
  const { stepSpanSink } = await import('../../../shared/traces/step-spans.js');
  const traces = new StepTraces(freshNonce(), keptShare);
  return {
    ...context,
    sink: sinksTogether(context.sink, runEventSink({ clock }, stepSpanSink(traces, onSpan))),
    traceparentOf: (runId, outerStep) => {
      const place = traces.placeOf(runId, outerStep);
      return place === null ? null : traceparentOf(place);
    },
  };
}

function unknownVersion(): string {
  return 'unknown';
}
