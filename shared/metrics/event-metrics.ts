/** The sink that counts events: what happens is told once, and metrics follow. */

import { at } from '../base/arrays.js';
import {
  isProgress,
  type EventKind,
  type StampedEvent,
  type StampedEventOf,
  type StampedEventSink,
} from '../events/run-events.js';
import { STEP_PHASES } from '../events/event-kinds.js';
import { DEVICE_POOLS } from '../events/kinds/operation-kinds.js';
import type { SizeLosses } from '../events/size-losses.js';
import type { MetricSource } from './metric-definition.js';
import type { MetricRegistry } from './metric-registry.js';

type Counting = {
  readonly [Kind in EventKind]?: (event: StampedEventOf<Kind>, registry: MetricRegistry) => void;
};

const MS_PER_SECOND = 1000;

/** The kinds that a process of this source counts. A coordinator hears of its local workers, who count for themselves. */
export function metricsSink(source: MetricSource, registry: MetricRegistry): StampedEventSink {
  const counting = COUNTING[source];
  return (event) => {
    if (source === 'coordinator' && isProgress(event)) gotOn(event, registry);
    // The function of an event's kind takes that event, which an index by a union does not show.
    const count = counting[event.kind] as
      ((event: StampedEventOf<EventKind>, registry: MetricRegistry) => void) | undefined;
    count?.(event, registry);
  };
}

function gotOn({ epochMs }: Pick<StampedEvent, 'epochMs'>, registry: MetricRegistry): void {
  registry.set('qianmo_last_progress_timestamp_seconds', {}, epochMs / MS_PER_SECOND);
  registry.set('qianmo_workers_awaited', {}, 0);
}

const OF_COORDINATORS: Counting = {
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
  'outer-step-timed': (event, registry) => {
    const { startedMs, epochMs, phasesMs, jobCount, taskCount, workerCount } = event;
    registry.observe('qianmo_outer_step_seconds', {}, (epochMs - startedMs) / MS_PER_SECOND);
    for (const phase of STEP_PHASES)
      registry.add(
        'qianmo_outer_step_phase_seconds_total',
        { phase },
        phasesMs[phase] / MS_PER_SECOND,
      );
    registry.add('qianmo_jobs_total', { outcome: 'admitted' }, jobCount);
    registry.add('qianmo_tasks_total', {}, taskCount);
    registry.set('qianmo_workers_contributing', {}, workerCount);
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
  'run-finished': (_event, registry) => registry.add('qianmo_runs_total', { outcome: 'finished' }),
  'run-failed': (_event, registry) => {
    registry.add('qianmo_runs_total', { outcome: 'failed' });
    registry.set('qianmo_workers_awaited', {}, 0);
    for (const device of DEVICE_POOLS) registry.set('qianmo_workers_wanted', { device }, 0);
  },
  checkpoint: ({ epochMs }, registry) => {
    registry.add('qianmo_checkpoints_total', {});
    registry.set('qianmo_last_checkpoint_timestamp_seconds', {}, epochMs / MS_PER_SECOND);
  },
  'checkpoint-not-written': (_event, registry) =>
    registry.add('qianmo_checkpoint_failures_total', {}),
  'leaves-left-out': ({ admittedLeafCount, leafCount }, registry) =>
    registry.add('qianmo_jobs_total', { outcome: 'left_out' }, leafCount - admittedLeafCount),
  'result-late': (_event, registry) => registry.add('qianmo_jobs_total', { outcome: 'late' }),
  'job-retried': ({ cause }, registry) => registry.add('qianmo_job_retries_total', { cause }),
  'result-refused': ({ rejection: reason }, registry) =>
    registry.add('qianmo_results_refused_total', { reason }),
  'job-copied': (_event, registry) => registry.add('qianmo_job_copies_total', {}),
  'workers-missing': (_event, registry) => {
    registry.add('qianmo_workers_missing_total', {});
    registry.set('qianmo_workers_awaited', {}, 1);
  },
  'worker-refused': (_event, registry) => registry.add('qianmo_worker_refusals_total', {}),
  'worker-quarantined': (_event, registry) => registry.add('qianmo_workers_quarantined_total', {}),
  'worker-distrusted': (_event, registry) => registry.add('qianmo_workers_distrusted_total', {}),
  'task-quarantined': (_event, registry) => registry.add('qianmo_tasks_quarantined_total', {}),
  'worker-exited': (_event, registry) => registry.add('qianmo_local_worker_exits_total', {}),
  'redis-away': (_event, registry) => redisGone(registry),
  'redis-refuses': (_event, registry) => redisGone(registry),
  'redis-back': (_event, registry) => registry.set('qianmo_redis_away', {}, 0),
  'redis-accepts': (_event, registry) => registry.set('qianmo_redis_away', {}, 0),
  'event-log-failed': (_event, registry) => registry.add('qianmo_event_log_failures_total', {}),
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

function redisGone(registry: MetricRegistry): void {
  registry.set('qianmo_redis_away', {}, 1);
  registry.add('qianmo_redis_outages_total', {});
}

const OF_WORKERS: Counting = {
  'worker-ready': ({ epochMs }, registry) =>
    registry.set('qianmo_worker_last_job_timestamp_seconds', {}, epochMs / MS_PER_SECOND),
  'worker-resting': (_event, registry) => registry.add('qianmo_worker_rests_total', {}),
  'redis-trouble': (_event, registry) => registry.add('qianmo_worker_redis_troubles_total', {}),
  'job-finished': ({ computeMs, epochMs }, registry) => {
    registry.add('qianmo_worker_jobs_total', { outcome: 'finished' });
    registry.observe('qianmo_job_seconds', {}, computeMs / MS_PER_SECOND);
    registry.set('qianmo_worker_last_job_timestamp_seconds', {}, epochMs / MS_PER_SECOND);
  },
  'job-failed': ({ failure }, registry) => {
    registry.add('qianmo_worker_jobs_total', { outcome: 'failed' });
    registry.add('qianmo_worker_job_failures_total', { failure });
  },
  'job-handed-back': (_event, registry) =>
    registry.add('qianmo_worker_jobs_total', { outcome: 'handed_back' }),
  'compute-started': (_event, registry) => registry.add('qianmo_compute_process_starts_total', {}),
  'compute-ready': ({ device }, registry) => {
    registry.forget('qianmo_compute_process_info');
    registry.set(
      'qianmo_compute_process_info',
      { device: device.device, backend: device.backend },
      1,
    );
  },
  'compute-ended': ({ endedBecause }, registry) =>
    registry.add('qianmo_compute_process_ends_total', { reason: endedBecause ?? 'by-itself' }),
};

const OF_SERVERS: Counting = {
  'server-ready': ({ bundle, epochMs }, registry) => {
    registry.set('qianmo_bundle_info', { role: 'stable', bundle }, 1);
    registry.set('qianmo_last_bundle_swap_timestamp_seconds', {}, epochMs / MS_PER_SECOND);
    registry.set('qianmo_exploration_failed', {}, 0);
  },
  'bundle-served': ({ epochMs }, registry) => {
    registry.add('qianmo_bundle_swaps_total', {});
    registry.set('qianmo_last_bundle_swap_timestamp_seconds', {}, epochMs / MS_PER_SECOND);
  },
  'exploration-failed': (_event, registry) => registry.set('qianmo_exploration_failed', {}, 1),
  'exploration-restored': (_event, registry) => registry.set('qianmo_exploration_failed', {}, 0),
  'server-process-ended': (_event, registry) =>
    registry.add('qianmo_server_process_exits_total', {}),
  'request-failed': (_event, registry) => registry.add('qianmo_request_bugs_total', {}),
};

const COUNTING: Readonly<Record<MetricSource, Counting>> = {
  coordinator: OF_COORDINATORS,
  worker: OF_WORKERS,
  server: OF_SERVERS,
  dashboard: {},
};
