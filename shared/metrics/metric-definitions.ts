/**
 * Every metric that qianmo exports: its kind, its labels with the values that they can have, and who has it. The
 * registry refuses others, and the table of `infra/docs/operation/metrics.md` is made of this file.
 *
 * Names follow Prometheus: base units, `_total` for what only grows. A label has few values, all known here but for
 * the names of a run and of its at most 16 size buckets, the digest of a bundle and the path of an endpoint.
 */

import {
  COMPUTE_END_REASONS,
  DEVICE_POOLS,
  JOB_FAILURE_KINDS,
  REJECTIONS,
  STEP_PHASES,
} from '../names/event-terms.js';
import { METRIC_SOURCES, type MetricDefinition } from './metric-definition.js';
import { OF_SERVERS } from './server-metrics.js';

const coordinator = { from: ['coordinator'] } as const;
const worker = { from: ['worker'] } as const;
const dashboard = { from: ['dashboard'] } as const;
const everywhere = { from: METRIC_SOURCES } as const;

const device = { device: DEVICE_POOLS } as const;
const outcome = ['finished', 'failed'] as const;

/** Seconds; a step of a small run takes 10 ms, one of a large run on slow workers an hour. */
const STEP_BUCKETS = [0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100, 300, 1_000, 3_000] as const;
const JOB_BUCKETS = [0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100, 300] as const;

const OF_COORDINATORS = {
  qianmo_run_info: {
    ...{ kind: 'gauge', ...coordinator, labels: { run: null } },
    help: 'The run that this coordinator works on; always 1.',
  },
  qianmo_outer_step: { kind: 'gauge', ...coordinator, help: 'Outer steps that are complete.' },
  qianmo_outer_steps_planned: { kind: 'gauge', ...coordinator, help: 'Outer steps of the run.' },
  qianmo_last_outer_step_timestamp_seconds: {
    ...{ kind: 'gauge', ...coordinator },
    help: 'When an outer step was completed last, or the run was started, since the epoch.',
  },
  qianmo_last_progress_timestamp_seconds: {
    ...{ kind: 'gauge', ...coordinator },
    help: 'When a run got on last, with a result, an outer step or a stage, or was started or resumed, since the epoch.',
  },
  qianmo_outer_step_seconds: {
    ...{ kind: 'histogram', ...coordinator, buckets: STEP_BUCKETS },
    help: 'Time of an outer step.',
  },
  qianmo_outer_step_phase_seconds_total: {
    ...{ kind: 'counter', ...coordinator, labels: { phase: STEP_PHASES } },
    help: 'Time of outer steps by phase; phases overlap.',
  },
  qianmo_query_loss: {
    kind: 'gauge',
    ...coordinator,
    help: 'Query loss after adaptation, of the last outer step.',
  },
  qianmo_query_loss_before_adaptation: {
    kind: 'gauge',
    ...coordinator,
    help: 'Query loss before adaptation, of the last outer step that measured it.',
  },
  qianmo_support_loss: {
    kind: 'gauge',
    ...coordinator,
    help: 'Support loss before adaptation, of the last outer step.',
  },
  qianmo_query_loss_by_size: {
    ...{ kind: 'gauge', ...coordinator, labels: { size: null } },
    help: 'Query loss after adaptation by support rows of the adgroups, of the last outer step with such adgroups.',
  },
  qianmo_query_loss_before_adaptation_by_size: {
    ...{ kind: 'gauge', ...coordinator, labels: { size: null } },
    help: 'Query loss before adaptation by support rows of the adgroups, of the last outer step with such adgroups that measured it.',
  },
  qianmo_support_loss_by_size: {
    ...{ kind: 'gauge', ...coordinator, labels: { size: null } },
    help: 'Support loss before adaptation by support rows of the adgroups, of the last outer step with such adgroups.',
  },
  qianmo_gradient_norm: {
    kind: 'gauge',
    ...coordinator,
    help: 'Norm of the meta-gradient of the last outer step.',
  },
  qianmo_validation_loss: {
    kind: 'gauge',
    ...coordinator,
    help: 'Loss of the validation adgroups when they were scored last.',
  },
  qianmo_tasks_total: { kind: 'counter', ...coordinator, help: 'Tasks whose gradients were used.' },
  qianmo_jobs_total: {
    ...{ kind: 'counter', ...coordinator },
    help: 'Jobs of outer steps whose results were used.',
  },
  qianmo_job_retries_total: {
    kind: 'counter',
    ...coordinator,
    labels: { cause: ['failed', 'lost', 'output-missing', 'rejected'] },
    help: 'Jobs that were sent again, by cause.',
  },
  qianmo_results_refused_total: {
    ...{ kind: 'counter', ...coordinator, labels: { reason: REJECTIONS } },
    help: 'Results that were not used, by reason.',
  },
  qianmo_job_copies_total: {
    kind: 'counter',
    ...coordinator,
    help: 'Copies of slow jobs that idle workers got.',
  },
  qianmo_workers_wanted: {
    ...{ kind: 'gauge', ...coordinator, labels: device },
    help: 'Workers that an outer step could use: its jobs by the device that they demand; 0 in a pause and at the end.',
  },
  qianmo_workers_contributing: {
    kind: 'gauge',
    ...coordinator,
    help: 'Workers whose results the last outer step used.',
  },
  qianmo_workers_awaited: {
    kind: 'gauge',
    ...coordinator,
    help: '1 from when jobs waited while no worker was connected until the run gets on.',
  },
  qianmo_workers_missing_total: {
    kind: 'counter',
    ...coordinator,
    help: 'Times that jobs waited while no worker was connected.',
  },
  qianmo_worker_refusals_total: {
    kind: 'counter',
    ...coordinator,
    help: 'Workers that refused the jobs of this run.',
  },
  qianmo_workers_quarantined_total: {
    kind: 'counter',
    ...coordinator,
    help: 'Times that a sick worker was asked to take no job.',
  },
  qianmo_workers_distrusted_total: {
    kind: 'counter',
    ...coordinator,
    help: 'Workers whose results contradicted those of others.',
  },
  qianmo_tasks_quarantined_total: {
    kind: 'counter',
    ...coordinator,
    help: 'Tasks that the run leaves out because they fail their jobs.',
  },
  qianmo_local_worker_exits_total: {
    kind: 'counter',
    ...coordinator,
    help: 'Ends of local worker processes that nobody asked for.',
  },
  qianmo_run_paused: { kind: 'gauge', ...coordinator, help: '1 while the run is paused.' },
  qianmo_runs_total: {
    ...{ kind: 'counter', ...coordinator, labels: { outcome } },
    help: 'Runs that ended, by outcome.',
  },
  qianmo_checkpoints_total: {
    kind: 'counter',
    ...coordinator,
    help: 'Checkpoints that were written.',
  },
  qianmo_checkpoint_failures_total: {
    kind: 'counter',
    ...coordinator,
    help: 'Checkpoints that could not be written.',
  },
  qianmo_last_checkpoint_timestamp_seconds: {
    kind: 'gauge',
    ...coordinator,
    help: 'When a checkpoint was written last, since the epoch.',
  },
  qianmo_redis_away: {
    kind: 'gauge',
    ...coordinator,
    help: '1 while Redis does not answer or refuses to write.',
  },
  qianmo_redis_outages_total: {
    kind: 'counter',
    ...coordinator,
    help: 'Times that Redis went away or refused to write.',
  },
  qianmo_event_log_failures_total: {
    kind: 'counter',
    ...coordinator,
    help: 'Times that the event log could not be written.',
  },
} as const satisfies Readonly<Record<string, MetricDefinition>>;

const OF_WORKERS = {
  qianmo_worker_jobs_total: {
    ...{ kind: 'counter', ...worker, labels: { outcome: ['finished', 'failed', 'handed_back'] } },
    help: 'Jobs of this worker by outcome.',
  },
  qianmo_worker_job_failures_total: {
    ...{ kind: 'counter', ...worker, labels: { failure: JOB_FAILURE_KINDS } },
    help: 'Jobs that failed here, by kind of failure.',
  },
  qianmo_job_seconds: {
    ...{ kind: 'histogram', ...worker, buckets: JOB_BUCKETS },
    help: 'Computing time of a job.',
  },
  qianmo_worker_last_job_timestamp_seconds: {
    kind: 'gauge',
    ...worker,
    help: 'When a job was finished last, or the worker started, since the epoch.',
  },
  qianmo_worker_rests_total: {
    kind: 'counter',
    ...worker,
    help: 'Times that the worker took no job for a while.',
  },
  qianmo_worker_redis_troubles_total: { kind: 'counter', ...worker, help: 'Troubles with Redis.' },
  qianmo_compute_process_info: {
    ...{ kind: 'gauge', ...worker, labels: { ...device, backend: null } },
    help: 'The device and the backend that compute; always 1.',
  },
  qianmo_compute_process_starts_total: {
    kind: 'counter',
    ...worker,
    help: 'Compute processes that were started.',
  },
  qianmo_compute_process_ends_total: {
    ...{ kind: 'counter', ...worker, labels: { reason: [...COMPUTE_END_REASONS, 'by-itself'] } },
    help: 'Compute processes that ended, by reason.',
  },
} as const satisfies Readonly<Record<string, MetricDefinition>>;

const OF_DASHBOARDS = {
  qianmo_queue_jobs: {
    ...{ kind: 'gauge', ...dashboard, labels: { state: ['waiting', 'active'] } },
    help: 'Entries of the queue by state.',
  },
  qianmo_oldest_job_age_seconds: {
    kind: 'gauge',
    ...dashboard,
    help: 'Age of the entry that has waited longest; 0 if none waits.',
  },
  qianmo_workers: {
    ...{ kind: 'gauge', ...dashboard, labels: { device: [...DEVICE_POOLS, 'auto'] } },
    help: 'Workers that live, by device.',
  },
} as const satisfies Readonly<Record<string, MetricDefinition>>;

const OF_PROCESSES = {
  qianmo_build_info: {
    ...{ kind: 'gauge', ...everywhere, labels: { version: null, node: null } },
    help: 'The versions that run; always 1.',
  },
  qianmo_process_start_time_seconds: {
    kind: 'gauge',
    ...everywhere,
    help: 'When the process was started, since the epoch.',
  },
  qianmo_process_cpu_seconds_total: {
    kind: 'counter',
    ...everywhere,
    help: 'Processor time of the process.',
  },
  qianmo_process_resident_memory_bytes: {
    kind: 'gauge',
    ...everywhere,
    together: 'sum',
    help: 'Resident memory of the process.',
  },
  qianmo_event_loop_utilization_ratio: {
    kind: 'gauge',
    ...everywhere,
    help: 'Share of the time in which the event loop was busy, since the scrape before.',
  },
} as const satisfies Readonly<Record<string, MetricDefinition>>;

export const METRICS = {
  ...OF_COORDINATORS,
  ...OF_WORKERS,
  ...OF_SERVERS,
  ...OF_DASHBOARDS,
  ...OF_PROCESSES,
};

export type MetricName = keyof typeof METRICS;

/** The labels of a metric, each of which must be given. */
export type LabelsOf<Name extends MetricName> = (typeof METRICS)[Name] extends {
  readonly labels: infer Labels;
}
  ? { readonly [Label in keyof Labels]: string }
  : Readonly<Record<string, never>>;

export function definitionOf(name: MetricName): MetricDefinition {
  return METRICS[name];
}

export const METRIC_NAMES = Object.keys(METRICS) as readonly MetricName[];

/** A change of a metric. The functions below make one, so that its labels are those of the metric. */
export interface MetricUpdate {
  readonly how: 'add' | 'set' | 'observe' | 'forget';
  readonly name: MetricName;
  readonly labels: Readonly<Record<string, string>>;
  readonly value: number;
}

type Update = <Name extends MetricName>(
  name: Name,
  labels: LabelsOf<Name>,
  value: number,
) => MetricUpdate;

function updateBy(how: MetricUpdate['how']): Update {
  return (name, labels, value) => ({ how, name, labels, value });
}

/** Sets a gauge, or a counter that is counted elsewhere. */
export const set = updateBy('set');
/** Adds an observation to a histogram. */
export const observe = updateBy('observe');

export function add<Name extends MetricName>(
  name: Name,
  labels: LabelsOf<Name>,
  value = 1,
): MetricUpdate {
  return { how: 'add', name, labels, value };
}

/** Removes all values of a metric, as those of a bundle that is no longer served. */
export function forget(name: MetricName): MetricUpdate {
  return { how: 'forget', name, labels: {}, value: 0 };
}
