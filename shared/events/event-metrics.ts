/** The sink that counts events: what happens is told once, and metrics follow. */

import { at } from '../base/arrays.js';
import {
  isProgress,
  metricUpdatesOf,
  type EventKind,
  type StampedEvent,
  type StampedEventOf,
  type StampedEventSink,
} from './run-events.js';
import { DEVICE_POOLS } from '../names/event-terms.js';
import type { SizeLosses } from './size-losses.js';
import type { MetricSource } from '../metrics/metric-definition.js';
import { definitionOf } from '../metrics/metric-definitions.js';
import type { MetricRegistry } from '../metrics/metric-registry.js';

type Counting = {
  readonly [Kind in EventKind]?: (event: StampedEventOf<Kind>, registry: MetricRegistry) => void;
};

const MS_PER_SECOND = 1000;

/** The kinds that a process of this source counts. A coordinator hears of its local workers, who count for themselves. */
export function metricsSink(source: MetricSource, registry: MetricRegistry): StampedEventSink {
  return (event) => {
    for (const update of metricUpdatesOf(event))
      if (definitionOf(update.name).from.includes(source)) registry.apply(update);
    if (source !== 'coordinator') return;
    if (isProgress(event)) gotOn(event, registry);
    // The function of an event's kind takes that event, which an index by a union does not show.
    const setGauges = GAUGES[event.kind] as
      ((event: StampedEventOf<EventKind>, registry: MetricRegistry) => void) | undefined;
    setGauges?.(event, registry);
  };
}

function gotOn({ epochMs }: Pick<StampedEvent, 'epochMs'>, registry: MetricRegistry): void {
  registry.set('qianmo_last_progress_timestamp_seconds', {}, epochMs / MS_PER_SECOND);
  registry.set('qianmo_workers_awaited', {}, 0);
}

const GAUGES: Counting = {
  'run-started': ({ runId, outerStep, outerSteps, epochMs }, registry) => {
    gotOn({ epochMs }, registry);
    registry.forget('qianmo_run_info');
    registry.set('qianmo_run_info', { run: runId }, 1);
    registry.set('qianmo_outer_step', {}, outerStep);
    registry.set('qianmo_outer_steps_planned', {}, outerSteps);
    registry.set('qianmo_last_outer_step_timestamp_seconds', {}, epochMs / MS_PER_SECOND);
    registry.set('qianmo_run_paused', {}, 0);
    registry.set('qianmo_redis_away', {}, 0);
    for (const name of PASSING_LOSSES) registry.forget(name);
  },
  'outer-step': ({ outerStep, outerSteps, epochMs, ...measured }, registry) => {
    registry.set('qianmo_outer_step', {}, outerStep);
    registry.set('qianmo_outer_steps_planned', {}, outerSteps);
    registry.set('qianmo_last_outer_step_timestamp_seconds', {}, epochMs / MS_PER_SECOND);
    registry.set('qianmo_query_loss', {}, measured.queryLoss);
    registry.set('qianmo_support_loss', {}, measured.supportLoss);
    const { queryLossBefore } = measured;
    if (queryLossBefore !== undefined)
      registry.set('qianmo_query_loss_before_adaptation', {}, queryLossBefore);
    registry.set('qianmo_gradient_norm', {}, measured.gradientNorm);
    if (measured.bySize !== undefined) setBySize(measured.bySize, registry);
  },
  'workers-wanted': ({ device, workerCount }, registry) =>
    registry.set('qianmo_workers_wanted', { device }, workerCount),
  'run-extended': ({ outerSteps }, registry) =>
    registry.set('qianmo_outer_steps_planned', {}, outerSteps),
  'run-validated': ({ loss }, registry) => registry.set('qianmo_validation_loss', {}, loss),
  'run-paused': (_event, registry) => registry.set('qianmo_run_paused', {}, 1),
  'run-resumed': ({ epochMs }, registry) => {
    registry.set('qianmo_run_paused', {}, 0);
    registry.set('qianmo_last_progress_timestamp_seconds', {}, epochMs / MS_PER_SECOND);
  },
  'run-failed': (_event, registry) => {
    registry.set('qianmo_workers_awaited', {}, 0);
    for (const device of DEVICE_POOLS) registry.set('qianmo_workers_wanted', { device }, 0);
  },
  'workers-missing': (_event, registry) => registry.set('qianmo_workers_awaited', {}, 1),
  'redis-away': (_event, registry) => registry.set('qianmo_redis_away', {}, 1),
  'redis-refuses': (_event, registry) => registry.set('qianmo_redis_away', {}, 1),
  'redis-back': (_event, registry) => registry.set('qianmo_redis_away', {}, 0),
  'redis-accepts': (_event, registry) => registry.set('qianmo_redis_away', {}, 0),
};

/** Losses that the next run may not have. */
const PASSING_LOSSES = [
  'qianmo_query_loss_before_adaptation',
  'qianmo_query_loss_by_size',
  'qianmo_query_loss_before_adaptation_by_size',
  'qianmo_support_loss_by_size',
] as const;

/** A bucket without tasks in this outer step keeps its losses. */
function setBySize(
  { sizes, weights, queryLossSums, queryLossBeforeSums, supportLossSums }: SizeLosses,
  registry: MetricRegistry,
): void {
  for (const [bucket, size] of sizes.entries()) {
    const weight = at(weights, bucket);
    if (weight === 0) continue;
    const [query, support] = [at(queryLossSums, bucket), at(supportLossSums, bucket)];
    registry.set('qianmo_query_loss_by_size', { size }, query / weight);
    registry.set('qianmo_support_loss_by_size', { size }, support / weight);
    const before = queryLossBeforeSums?.[bucket];
    if (before !== undefined)
      registry.set('qianmo_query_loss_before_adaptation_by_size', { size }, before / weight);
  }
}
