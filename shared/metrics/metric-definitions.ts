/**
 * Every metric that qianmo exports: its kind, its labels with the values that they can have, and the processes that have
 * it. The registry refuses others, and the table of `infra/docs/operation/metrics.md` is made of this file.
 *
 * Names follow Prometheus: base units, `_total` for counters. A label has few values, all known here but for the names of
 * a run and of its at most 16 size buckets, the digest of a bundle and the path of an endpoint.
 */

import {
  BUNDLE_VERDICTS,
  COMPUTE_END_REASONS,
  DEVICE_POOLS,
  JOB_FAILURE_KINDS,
  REJECTIONS,
  STEP_PHASES,
} from '../names/event-terms.js';

/** The process whose endpoint has a metric. */
export type MetricSource = 'coordinator' | 'worker' | 'server' | 'dashboard';

/** Values by label; null where they are not known beforehand. */
type Labels = Readonly<Record<string, readonly string[] | null>>;

interface MetricDefinition<Own extends Labels | null = Labels | null> {
  readonly kind: 'counter' | 'gauge' | 'histogram';
  readonly help: string;
  readonly from: readonly MetricSource[];
  /** Null without any. */
  readonly labels: Own;
  /** The upper bounds of a histogram, ascending, without infinity. */
  readonly buckets?: readonly number[];
  /** The rule that makes one value of those of several processes on one port: by default gauges the largest, others the sum. */
  readonly together?: 'sum' | 'max';
}

function metricsOf(...from: readonly MetricSource[]) {
  const defined = <const Own extends Labels | null>(
    kind: MetricDefinition['kind'],
    help: string,
    labels?: Own,
  ): MetricDefinition<Own> => {
    // Absent labels are null by the defaults below, which the type of an optional parameter does not show.
    return { kind, help, from, labels: (labels ?? null) as Own };
  };
  return {
    counter: <const Own extends Labels | null = null>(help: string, labels?: Own) =>
      defined('counter', help, labels),
    gauge: <const Own extends Labels | null = null>(help: string, labels?: Own) =>
      defined('gauge', help, labels),
    histogram: <const Own extends Labels | null = null>(
      help: string,
      buckets: readonly number[],
      labels?: Own,
    ) => ({ ...defined('histogram', help, labels), buckets }),
  };
}

const coordinator = metricsOf('coordinator');
const worker = metricsOf('worker');
const server = metricsOf('server');
const dashboard = metricsOf('dashboard');
const everywhere = metricsOf('coordinator', 'worker', 'server', 'dashboard');

/** Seconds; a step of a small run takes 10 ms, one of a large run on slow workers an hour. */
const STEP_BUCKETS = [0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100, 300, 1_000, 3_000];
const JOB_BUCKETS = [0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100, 300];
const REQUEST_BUCKETS = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5];

const METRICS = {
  qianmo_run_info: coordinator.gauge('The run that this coordinator works on; always 1.', {
    run: null,
  }),
  qianmo_outer_step: coordinator.gauge('Outer steps that are complete.'),
  qianmo_outer_steps_planned: coordinator.gauge('Outer steps of the run.'),
  qianmo_last_outer_step_timestamp_seconds: coordinator.gauge(
    'When an outer step was completed last, or the run was started, since the epoch.',
  ),
  qianmo_last_progress_timestamp_seconds: coordinator.gauge(
    'When a run got on last, with a result, an outer step or a stage, or was started or resumed, since the epoch.',
  ),
  qianmo_outer_step_seconds: coordinator.histogram('Time of an outer step.', STEP_BUCKETS),
  qianmo_outer_step_phase_seconds_total: coordinator.counter(
    'Time of outer steps by phase; phases overlap.',
    { phase: STEP_PHASES },
  ),
  qianmo_query_loss: coordinator.gauge('Query loss after adaptation, of the last outer step.'),
  qianmo_query_loss_before_adaptation: coordinator.gauge(
    'Query loss before adaptation, of the last outer step that measured it.',
  ),
  qianmo_support_loss: coordinator.gauge('Support loss before adaptation, of the last outer step.'),
  qianmo_query_loss_by_size: coordinator.gauge(
    'Query loss after adaptation by support rows of the adgroups, of the last outer step with such adgroups.',
    { size: null },
  ),
  qianmo_query_loss_before_adaptation_by_size: coordinator.gauge(
    'Query loss before adaptation by support rows of the adgroups, of the last outer step with such adgroups that measured it.',
    { size: null },
  ),
  qianmo_support_loss_by_size: coordinator.gauge(
    'Support loss before adaptation by support rows of the adgroups, of the last outer step with such adgroups.',
    { size: null },
  ),
  qianmo_gradient_norm: coordinator.gauge('Norm of the meta-gradient of the last outer step.'),
  qianmo_validation_loss: coordinator.gauge(
    'Loss of the validation adgroups when they were scored last.',
  ),
  qianmo_bundles_judged_total: coordinator.counter(
    'Bundles that a refresh has judged on later rows, by verdict.',
    { verdict: BUNDLE_VERDICTS },
  ),
  qianmo_judged_loss: coordinator.gauge(
    'Loss per row of the bundle that was judged last, and of the one that it was compared with.',
    { of: ['bundle', 'against'] },
  ),
  qianmo_tasks_total: coordinator.counter('Tasks whose gradients were used.'),
  qianmo_jobs_total: coordinator.counter('Jobs of outer steps whose results were used.'),
  qianmo_job_retries_total: coordinator.counter('Jobs that were sent again, by cause.', {
    cause: ['failed', 'lost', 'output-missing', 'rejected'],
  }),
  qianmo_results_refused_total: coordinator.counter('Results that were not used, by reason.', {
    reason: REJECTIONS,
  }),
  qianmo_workers_wanted: coordinator.gauge(
    'Workers that an outer step could use: its jobs by the device that they demand; 0 at the end.',
    { device: DEVICE_POOLS },
  ),
  qianmo_workers_contributing: coordinator.gauge('Workers whose results the last outer step used.'),
  qianmo_workers_awaited: coordinator.gauge(
    '1 from when jobs waited while no worker was connected until the run gets on.',
  ),
  qianmo_workers_missing_total: coordinator.counter(
    'Times that jobs waited while no worker was connected.',
  ),
  qianmo_workers_quarantined_total: coordinator.counter(
    'Times that a sick worker was asked to take no job.',
  ),
  qianmo_tasks_quarantined_total: coordinator.counter(
    'Tasks that the run leaves out because they fail their jobs.',
  ),
  qianmo_runs_total: coordinator.counter('Runs that ended, by outcome.', {
    outcome: ['finished', 'failed'],
  }),
  qianmo_checkpoint_failures_total: coordinator.counter('Checkpoints that could not be written.'),
  qianmo_last_checkpoint_timestamp_seconds: coordinator.gauge(
    'When a checkpoint was written last, since the epoch.',
  ),
  qianmo_redis_away: coordinator.gauge('1 while Redis does not answer or refuses to write.'),
  qianmo_redis_outages_total: coordinator.counter(
    'Times that Redis went away or refused to write.',
  ),

  qianmo_worker_jobs_total: worker.counter('Jobs of this worker by outcome.', {
    outcome: ['finished', 'failed', 'handed_back'],
  }),
  qianmo_worker_job_failures_total: worker.counter('Jobs that failed here, by kind of failure.', {
    failure: JOB_FAILURE_KINDS,
  }),
  qianmo_job_seconds: worker.histogram('Computing time of a job.', JOB_BUCKETS),
  qianmo_worker_last_job_timestamp_seconds: worker.gauge(
    'When a job was finished last, or the worker started, since the epoch.',
  ),
  qianmo_compute_process_info: worker.gauge('The device and the backend that compute; always 1.', {
    device: DEVICE_POOLS,
    backend: null,
  }),
  qianmo_compute_process_ends_total: worker.counter('Compute processes that ended, by reason.', {
    reason: [...COMPUTE_END_REASONS, 'by-itself'],
  }),

  qianmo_requests_total: server.counter('Requests by route and class of status.', {
    route: null,
    status: ['2xx', '3xx', '4xx', '5xx'],
  }),
  qianmo_request_seconds: server.histogram(
    'Time from the arrival of a request to the end of its answer.',
    REQUEST_BUCKETS,
    { route: null },
  ),
  qianmo_requests_refused_total: server.counter('Requests that were refused, by reason.', {
    reason: null,
  }),
  qianmo_requests_abandoned_total: server.counter('Requests whose client left before the answer.'),
  qianmo_requests_waiting: {
    ...server.gauge('Requests that wait for the scorer.'),
    together: 'sum' as const,
  },
  qianmo_bundle_info: server.gauge(
    'The bundles that answer requests, by their digests; always 1.',
    { role: ['stable', 'canary'], bundle: null },
  ),
  qianmo_bundle_swaps_total: {
    ...server.counter('Bundles that took the place of another.'),
    together: 'max' as const,
  },
  qianmo_bundle_refusals_total: server.counter(
    'Looks at a bundle that was refused, one at every poll where the reason may pass.',
  ),
  qianmo_last_bundle_swap_timestamp_seconds: server.gauge(
    'When a bundle was served first, since the epoch.',
  ),
  qianmo_label_failures_total: server.counter(
    'Looks at the label of a bundle that failed, one at every poll.',
  ),
  qianmo_explored_slots_total: server.counter(
    'Places of slates that exploration gave to an adgroup.',
  ),
  qianmo_decided_slots_total: server.counter(
    'Places of slates that the policy decided: exploration has a share of these.',
  ),
  qianmo_feedback_impressions_total: server.counter(
    'Impressions that feedback reported, by the bundle that predicted and the segment.',
    { bundle: null, segment: null },
  ),
  qianmo_predicted_outcomes_total: server.counter(
    'Sum of the probabilities p that were predicted of those impressions.',
    { bundle: null, segment: null },
  ),
  qianmo_predicted_outcome_variance_total: server.counter(
    'Sum of p (1 - p): the variance of their outcomes if the probabilities are right.',
    { bundle: null, segment: null },
  ),
  qianmo_observed_outcomes_total: server.counter(
    'Sum of the rewards that feedback reported, by the bundle that predicted and the segment.',
    { bundle: null, segment: null },
  ),
  qianmo_exploration_failed: server.gauge(
    '1 while requests are ranked without exploration because its state fails.',
  ),
  qianmo_scored_candidates_total: server.counter('Candidates that were scored.'),
  qianmo_unknown_adgroups_total: server.counter(
    'Candidates that were scored whose adgroup the bundle does not have.',
  ),
  qianmo_dropped_candidates_total: server.counter(
    'Candidates that were left out of their auction: a wrong value, a score that is not finite, or an adgroup that is paused or removed.',
    { reason: ['wrong-value', 'not-finite', 'paused', 'removed'] },
  ),
  qianmo_server_processes: server.gauge('Processes that answer on the port.', {
    state: ['wanted', 'ready'],
  }),
  qianmo_server_process_exits_total: server.counter(
    'Processes of the server that ended by themselves.',
  ),
  qianmo_request_bugs_total: server.counter('Requests that ran into a bug.'),

  qianmo_queue_jobs: dashboard.gauge('Entries of the queue by state.', {
    state: ['waiting', 'active'],
  }),
  qianmo_oldest_job_age_seconds: dashboard.gauge(
    'Age of the entry that has waited longest; 0 if none waits.',
  ),
  qianmo_workers: dashboard.gauge('Workers that live, by device.', {
    device: [...DEVICE_POOLS, 'auto'],
  }),

  qianmo_build_info: everywhere.gauge('The versions that run; always 1.', {
    version: null,
    node: null,
  }),
  qianmo_process_start_time_seconds: everywhere.gauge(
    'When the process was started, since the epoch.',
  ),
  qianmo_process_cpu_seconds_total: everywhere.counter('Processor time of the process.'),
  qianmo_process_resident_memory_bytes: {
    ...everywhere.gauge('Resident memory of the process.'),
    together: 'sum' as const,
  },
  qianmo_event_loop_utilization_ratio: everywhere.gauge(
    'Share of the time in which the event loop was busy, since the scrape before.',
  ),
};

export type MetricName = keyof typeof METRICS;

/** The labels of a metric, each of which must be given. */
export type LabelsOf<Name extends MetricName> = (typeof METRICS)[Name]['labels'] extends null
  ? Readonly<Record<string, never>>
  : { readonly [Label in keyof (typeof METRICS)[Name]['labels']]: string };

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
