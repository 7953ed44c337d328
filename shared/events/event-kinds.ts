/**
 * The vocabulary of events: one entry per kind, with the fields that a program can rely on, its level, the event in
 * words and the metrics that follow it. Shared by coordinator, worker and compute process.
 *
 * `outerStep` is the number of outer steps that were complete. Texts named `reason` are words of a
 * library, an operating system or a failure: to be shown, never to be parsed.
 */

import { z } from 'zod';
import { add, forget, observe, set, type MetricUpdate } from '../metrics/metric-definitions.js';
import { secondsText, shortDigest, counted } from '../names/counted.js';
import { ProcessIdentitySchema } from '../storage/process-identity.js';
import { DeviceReportSchema, formatDeviceLine } from './device-report.js';
import {
  COMPUTE_END_REASONS,
  DEVICE_POOLS,
  JOB_FAILURE_KINDS,
  REJECTIONS,
  STEP_PHASES,
} from '../names/event-terms.js';
import { JUDGED_BUNDLE } from './judged-bundle.js';
import { SizeLossesSchema, measuredPart, sizeMeansOf, type SizeLosses } from './size-losses.js';

/** The origin of an event: a worker, or the coordinator where no worker is named. */
export interface EventSource {
  /** Absent before a run is known, and for a worker that serves none yet. */
  readonly runId?: string | undefined;
  /** The name of the worker, as results carry it. */
  readonly worker?: string | undefined;
  /** The place of the worker among the local workers of a supervisor, from 0. */
  readonly workerIndex?: number | undefined;
  /** The time of the event in milliseconds since the Unix epoch; the present when absent. */
  readonly epochMs?: number | undefined;
}

export interface EventStamp extends EventSource {
  readonly epochMs: number;
  /** Outer steps that were complete; absent outside training. */
  readonly outerStep?: number | undefined;
}

/** Details are kept in the log and not shown on a terminal. */
export type EventLevel = 'detail' | 'notice' | 'warning';

export type FieldsOf<Shape extends z.ZodRawShape> = keyof Shape extends never
  ? // zod gives an empty shape the type of a record without keys, which would forbid `kind`.
    unknown
  : Readonly<z.output<z.ZodObject<Shape>>>;
type Stamped<Shape extends z.ZodRawShape> = FieldsOf<Shape> & EventStamp;

interface Traits<Event> {
  /** Counters and gauges that follow the event. A process applies those that it exports. */
  readonly metrics?: (event: Event) => readonly MetricUpdate[];
  /** Shows that the run moves: it neither stalls nor waits for workers. */
  readonly isProgress?: true;
}

/** The words, level and metrics of an event of one kind. */
export interface EventWords<Event> extends Traits<Event> {
  readonly level: (event: Event) => EventLevel;
  readonly text: (event: Event) => string;
}

type Define = <Shape extends z.ZodRawShape>(
  shape: Shape,
  text: (event: Stamped<Shape>) => string,
  traits?: Traits<Stamped<Shape>>,
) => EventWords<Stamped<Shape>> & { readonly shape: Shape };

function atLevel(level: EventLevel): Define {
  return (shape, text, traits = {}) => ({ shape, level: () => level, text, ...traits });
}

const detail = atLevel('detail');
const notice = atLevel('notice');
const warning = atLevel('warning');

/** Values that the next run may not have. */
const RUN_METRICS = [
  'qianmo_run_info',
  'qianmo_query_loss_before_adaptation',
  'qianmo_query_loss_by_size',
  'qianmo_query_loss_before_adaptation_by_size',
  'qianmo_support_loss_by_size',
] as const;

function outerStepGauges({
  outerStep,
  outerSteps,
  epochMs,
}: {
  readonly outerStep: number;
  readonly outerSteps: number;
  readonly epochMs: number;
}): MetricUpdate[] {
  return [
    set('qianmo_outer_step', {}, outerStep),
    set('qianmo_outer_steps_planned', {}, outerSteps),
    set('qianmo_last_outer_step_timestamp_seconds', {}, seconds(epochMs)),
  ];
}

/** A size without tasks in this outer step keeps its losses. */
function sizeGauges(losses: SizeLosses): MetricUpdate[] {
  return sizeMeansOf(losses, measuredPart(losses)).flatMap(
    ({ size, queryLoss, queryLossBefore, supportLoss }) => [
      ...(queryLoss === null ? [] : [set('qianmo_query_loss_by_size', { size }, queryLoss)]),
      ...(queryLossBefore === null
        ? []
        : [set('qianmo_query_loss_before_adaptation_by_size', { size }, queryLossBefore)]),
      ...(supportLoss === null ? [] : [set('qianmo_support_loss_by_size', { size }, supportLoss)]),
    ],
  );
}

const COMPUTE_ENDS: Readonly<Record<(typeof COMPUTE_END_REASONS)[number], string>> = {
  deadline: 'its job passed the deadline',
  aborted: 'its job was aborted',
  'bad-message': 'it sent an invalid message',
  'lost-channel': 'the channel to it broke',
  'not-started': 'it did not start',
  replaced: 'another one replaces it',
  'other-instructions': 'the next job needs another instruction set',
  closed: 'it was closed',
};

/** Null for an event of the coordinator. */
function sourceOf({ worker, workerIndex }: EventStamp): string | null {
  if (workerIndex !== undefined) return `worker ${workerIndex + 1}`;
  return worker === undefined ? null : `worker ${worker}`;
}

function workerOf(stamp: EventStamp): string {
  return sourceOf(stamp) ?? 'the worker';
}

function prefixOf(stamp: EventStamp): string {
  const source = sourceOf(stamp);
  return source === null ? '' : `${source}: `;
}

function endOf(end: { readonly exitCode: number | null; readonly signal: string | null }): string {
  return end.signal === null ? `exit code ${end.exitCode ?? 'unknown'}` : `signal ${end.signal}`;
}

function seconds(durationMs: number): number {
  return durationMs / 1000;
}

const count = z.int().nonnegative();
const processId = z.int().nonnegative();
const durationMs = z.number().nonnegative();

/** JSON has no word for a number that is not finite; `encodeEvent` writes its name. */
const measured = z.union([
  z.number(),
  z.nan(),
  z.literal([Infinity, -Infinity]),
  z.enum(['NaN', 'Infinity', '-Infinity']).transform(Number),
]);

const ofCheckpoint = { outerStep: count, address: z.string(), digest: z.string() };
/** A job as its worker knows it. */
const ofJob = { runId: z.string(), outerStep: count, jobIndex: count };
/** Exit code and signal are null when the process never ran; one of them is otherwise. */
const processEnd = {
  pid: processId,
  exitCode: z.int().nullable(),
  signal: z.string().nullable(),
};
/** An event that only people read. Programs tell one from another by the code, never by the text. */
const message = { code: z.string(), text: z.string() };

/** The bundle in use, or the one that answers a share of the requests next to it. */
const bundleRole = z.enum(['stable', 'canary']);

export const EVENT_KINDS = {
  notice: notice(message, (event) => `${prefixOf(event)}${event.text}`),
  warning: warning(message, (event) => `${prefixOf(event)}${event.text}`),

  /** A call that keeps this log lives: told at its beginning and at intervals, to the log alone. */
  'call-alive': detail(
    { call: z.string(), process: ProcessIdentitySchema, sinceMs: z.int().positive() },
    ({ call, process: { host, pid } }) => `${call} lives, as process ${pid} on ${host}`,
  ),
  /** The last event of a call, however it ended. */
  'call-ended': detail({ call: z.string() }, ({ call }) => `${call} has ended`),
  'run-started': notice(
    { runId: z.string(), outerStep: count, outerSteps: count },
    ({ runId, outerStep, outerSteps }) =>
      outerStep === 0
        ? `run ${runId}: ${counted(outerSteps, 'outer step')}`
        : `run ${runId}: continuing after outer step ${outerStep} of ${outerSteps}`,
    {
      metrics: ({ runId, outerStep, outerSteps, epochMs }) => [
        ...RUN_METRICS.map((name) => forget(name)),
        set('qianmo_run_info', { run: runId }, 1),
        ...outerStepGauges({ outerStep, outerSteps, epochMs }),
        set('qianmo_last_progress_timestamp_seconds', {}, seconds(epochMs)),
        set('qianmo_workers_awaited', {}, 0),
        set('qianmo_redis_away', {}, 0),
      ],
    },
  ),
  'outer-step': notice(
    {
      ...{ outerStep: count, outerSteps: count, queryLoss: measured, supportLoss: measured },
      ...{ gradientNorm: measured, tasksPerSecond: measured },
      /** The query loss before adaptation, in the outer steps that measure it. */
      queryLossBefore: measured.optional(),
      /** Absent where a worker did not tell them. */
      bySize: SizeLossesSchema.optional(),
    },
    ({ outerStep, outerSteps, queryLoss }) =>
      `step ${outerStep}/${outerSteps}  loss ${queryLoss.toFixed(4)}`,
    {
      isProgress: true,
      metrics: (event) => [
        ...outerStepGauges(event),
        set('qianmo_query_loss', {}, event.queryLoss),
        set('qianmo_support_loss', {}, event.supportLoss),
        ...(event.queryLossBefore === undefined
          ? []
          : [set('qianmo_query_loss_before_adaptation', {}, event.queryLossBefore)]),
        set('qianmo_gradient_norm', {}, event.gradientNorm),
        ...(event.bySize === undefined ? [] : sizeGauges(event.bySize)),
      ],
    },
  ),
  /**
   * The time of an outer step by phase, from `startedMs` (epoch) on. Those of the coordinator are what its loop waited:
   * `sample` for the plan, which is read while workers compute; `pack` for gathering and encoding inputs, some of
   * it while the first jobs are computed; `aggregate` for sums, between results; `optimise`; and `checkpoint` for the
   * one before to be written, since writing goes on beside the next outer steps. With staleness, `sample` and `pack` are
   * those of the jobs that left meanwhile.
   *
   * `fetch`, `compute` and `upload` are sums over the jobs, divided by the number of workers that returned any. A worker
   * fetches and uploads while it computes, so these overlap. `queue` is the wait for results without them, 0 at least:
   * on the queue, on the way, and for the slowest worker. The phases may therefore add up to more than the outer step.
   */
  'outer-step-timed': detail(
    {
      outerStep: count,
      startedMs: z.int().nonnegative(),
      phasesMs: z.record(z.enum(STEP_PHASES), durationMs),
      /** The results that were used, the tasks that they are of, and the workers that they came from. */
      ...{ jobCount: count, taskCount: count, workerCount: count },
    },
    ({ outerStep, phasesMs }) => {
      const phases = STEP_PHASES.map((phase) => `${phase} ${Math.round(phasesMs[phase])}`);
      return `outer step ${outerStep} in milliseconds: ${phases.join(', ')}`;
    },
    {
      metrics: ({ startedMs, epochMs, phasesMs, jobCount, taskCount, workerCount }) => [
        observe('qianmo_outer_step_seconds', {}, seconds(epochMs - startedMs)),
        ...STEP_PHASES.map((phase) =>
          add('qianmo_outer_step_phase_seconds_total', { phase }, seconds(phasesMs[phase])),
        ),
        add('qianmo_jobs_total', {}, jobCount),
        add('qianmo_tasks_total', {}, taskCount),
        set('qianmo_workers_contributing', {}, workerCount),
      ],
    },
  ),
  checkpoint: notice(
    ofCheckpoint,
    ({ outerStep, address }) => `checkpoint of outer step ${outerStep}: ${address}`,
    {
      metrics: ({ epochMs }) => [
        set('qianmo_last_checkpoint_timestamp_seconds', {}, seconds(epochMs)),
      ],
    },
  ),
  'checkpoint-not-written': warning(
    { outerStep: count, reason: z.string() },
    ({ outerStep, reason }) =>
      `the checkpoint of outer step ${outerStep} could not be written: ${reason}`,
    { metrics: () => [add('qianmo_checkpoint_failures_total', {})] },
  ),
  /** The task makes its job fail; the run leaves it out from this outer step on. */
  'task-quarantined': warning(
    { outerStep: count, taskIndex: count, task: z.string(), reason: z.string() },
    ({ outerStep, task, reason }) =>
      `from outer step ${outerStep} on, the run leaves out ${task}: ${reason}`,
    { metrics: () => [add('qianmo_tasks_quarantined_total', {})] },
  ),
  /** Somebody cancelled the run through its queue. */
  'run-cancelled': notice({}, () => 'cancelled through the queue: stopping'),
  /** The validation adgroups were scored; `isBest` if no earlier outer step has a lower loss. */
  'run-validated': notice(
    { outerStep: count, loss: z.number(), isBest: z.boolean() },
    ({ outerStep, loss, isBest }) =>
      `outer step ${outerStep}: validation loss ${loss.toFixed(5)}${isBest ? ', the lowest so far' : ''}`,
    {
      isProgress: true,
      metrics: ({ loss }) => [set('qianmo_validation_loss', {}, loss)],
    },
  ),
  'run-finished': notice(
    ofCheckpoint,
    ({ outerStep, address, digest }) =>
      `finished at outer step ${outerStep}: ${address}\nmeta-parameters ${digest}`,
    { isProgress: true, metrics: () => [add('qianmo_runs_total', { outcome: 'finished' })] },
  ),
  /** The command ended with a failure; `failure` is its kind, or `bug`. The command prints the whole report. */
  'run-failed': detail(
    { failure: z.string(), reason: z.string() },
    ({ reason }) => `the run ended: ${reason}`,
    {
      metrics: () => [
        add('qianmo_runs_total', { outcome: 'failed' }),
        set('qianmo_workers_awaited', {}, 0),
        ...DEVICE_POOLS.map((device) => set('qianmo_workers_wanted', { device }, 0)),
      ],
    },
  ),
  /** High-rate. `total` is null when it is not known. */
  progress: notice(
    { stage: z.string(), done: count, total: count.nullable() },
    ({ stage, done, total }) =>
      total === null ? `${stage}  ${done}` : `${stage}  ${done}/${total}`,
    { isProgress: true },
  ),
  'store-prepared': notice(
    {
      taskCount: count,
      taskCountBySplit: z.strictObject({ train: count, validation: count, test: count }),
      rowCount: count,
      logRowCount: count,
      durationMs,
    },
    ({ taskCount, taskCountBySplit: split, rowCount, logRowCount, durationMs: tookMs }) =>
      `${counted(taskCount, 'task')} (${split.train} train, ${split.validation} validation, ` +
      `${split.test} test) with ${rowCount} of ${counted(logRowCount, 'row')} in ${secondsText(tookMs)}`,
  ),
  'bundle-judged': JUDGED_BUNDLE,
  'report-written': notice({ address: z.string() }, ({ address }) => `report: ${address}`, {
    isProgress: true,
  }),
  /** One arm of an evaluation, on the test adgroups. */
  'arm-evaluated': detail(
    {
      ...{ arm: z.string(), segment: z.string().nullable(), outerStep: count },
      /** Logloss, or squared error where labels are values: per impression, and the mean over adgroups. */
      ...{ loss: z.number(), lossPerAdgroup: z.number() },
      ...{ auc: z.number().nullable(), calibration: z.number().nullable() },
    },
    ({ arm, segment, loss }) =>
      `arm ${arm}${segment === null ? '' : ` of ${segment}`}: loss ${loss.toFixed(5)}`,
  ),
  'trial-scored': notice(
    {
      trial: z.string(),
      outerStep: count,
      /** `logloss` or `squared error`. */
      loss: z.string(),
      /** Null: the trial diverged. */
      validationLoss: measured.nullable(),
    },
    ({ trial, outerStep, loss, validationLoss }) =>
      `${trial} at outer step ${outerStep}: validation ${loss} ` +
      (validationLoss === null ? 'diverged' : validationLoss.toFixed(5)),
    { isProgress: true },
  ),
  /** Events were lost here because a reader or a disk was too slow. */
  'events-dropped': detail(
    { eventCount: z.int().positive() },
    ({ eventCount }) =>
      `${counted(eventCount, 'event')} missing here: the reader or the disk was too slow`,
  ),
  'event-log-failed': warning(
    { address: z.string(), reason: z.string() },
    ({ address, reason }) => `events cannot be logged at ${address} (${reason}); the run continues`,
  ),
  'metrics-served': notice({ url: z.string() }, ({ url }) => `metrics: ${url}/metrics`),

  // The coordinator's side of the queue.
  'job-retried': notice(
    {
      outerStep: count,
      jobIndex: count,
      cause: z.enum(['failed', 'lost', 'output-missing', 'rejected']),
      reason: z.string(),
    },
    ({ jobIndex, reason }) => `job ${jobIndex} is tried again: ${reason}`,
    { metrics: ({ cause }) => [add('qianmo_job_retries_total', { cause })] },
  ),
  'result-refused': detail(
    { outerStep: count, jobIndex: count, fromWorker: z.string(), rejection: z.enum(REJECTIONS) },
    ({ jobIndex, fromWorker, rejection }) =>
      `the result of worker ${fromWorker} for job ${jobIndex} is refused: ${rejection}`,
    {
      metrics: ({ rejection: reason }) => [add('qianmo_results_refused_total', { reason })],
    },
  ),
  /** Results of an outer step were admitted. Told every ten seconds, and of the first one after `workers-missing`. */
  'results-admitted': detail(
    { outerStep: count, admittedJobCount: count, jobCount: count },
    ({ outerStep, admittedJobCount, jobCount }) =>
      `${admittedJobCount} of ${counted(jobCount, 'job')} of outer step ${outerStep} have a result`,
    { isProgress: true },
  ),
  'redis-away': warning(
    { address: z.string(), reason: z.string() },
    ({ address, reason }) => `Redis at ${address} does not answer (${reason}); waiting for it`,
    { metrics: () => [add('qianmo_redis_outages_total', {}), set('qianmo_redis_away', {}, 1)] },
  ),
  'redis-back': notice(
    { awayMs: durationMs },
    ({ awayMs }) => `Redis is back after ${secondsText(awayMs)}`,
    { metrics: () => [set('qianmo_redis_away', {}, 0)] },
  ),
  /** Redis answers and refuses to write. The run ends when it still does so after `waitMs`. */
  'redis-refuses': warning(
    {
      address: z.string(),
      refusal: z.enum(['disk', 'memory', 'permission', 'other']),
      reason: z.string(),
      cure: z.string(),
      waitMs: durationMs,
    },
    ({ address, reason, cure, waitMs }) =>
      `Redis at ${address} refuses to write (${reason}); waiting up to ${secondsText(waitMs)}. ` +
      `Cure: ${cure}.`,
    { metrics: () => [add('qianmo_redis_outages_total', {}), set('qianmo_redis_away', {}, 1)] },
  ),
  'redis-accepts': notice(
    { refusedMs: durationMs },
    ({ refusedMs }) => `Redis accepts writes again after ${secondsText(refusedMs)}`,
    { metrics: () => [set('qianmo_redis_away', {}, 0)] },
  ),
  /** How to start a worker that serves this coordinator. */
  'workers-awaited': notice(
    {
      redisAddress: z.string(),
      /** The file that has the address with its password; null where the caller knows the address. */
      addressFile: z.string().nullable(),
      prefix: z.string(),
      /** Addresses that they have to open, for `--store-allow`. */
      places: z.array(z.string()).optional(),
    },
    ({ redisAddress, addressFile, prefix, places = [] }) =>
      'waiting for workers; start some with: ' +
      (addressFile === null
        ? `qianmo worker --redis ${redisAddress}`
        : `QIANMO_REDIS_URL=$(cat ${addressFile}) qianmo worker`) +
      ` --prefix '${prefix}'` +
      (places.length === 0 ? '' : ` --store-allow '${places.join(',')}'`),
  ),
  'workers-missing': warning(
    { openJobCount: count },
    ({ openJobCount }) =>
      `${counted(openJobCount, 'job')} waiting and no worker is connected: start one with qianmo worker`,
    {
      metrics: () => [
        add('qianmo_workers_missing_total', {}),
        set('qianmo_workers_awaited', {}, 1),
      ],
    },
  ),
  /**
   * How many workers of the pool could take part: one for each job of an outer step or of an evaluation. Told when it
   * changes. Jobs that any device may compute are for `cpu`. 0 at the end.
   */
  'workers-wanted': detail(
    { device: z.enum(DEVICE_POOLS), workerCount: count },
    ({ device, workerCount }) =>
      `${counted(workerCount, 'worker')} on ${device.toUpperCase()} could take part`,
    {
      metrics: ({ device, workerCount }) => [set('qianmo_workers_wanted', { device }, workerCount)],
    },
  ),
  'worker-refused': warning(
    { refusingWorker: z.string(), reason: z.string() },
    ({ refusingWorker, reason }) =>
      `worker ${refusingWorker} refuses the jobs of this run and leaves them to others: ${reason}`,
  ),
  /** The worker is sick: it is asked to take no job for this long. */
  'worker-quarantined': warning(
    { quarantinedWorker: z.string(), reason: z.string(), quarantineMs: durationMs },
    ({ quarantinedWorker, reason, quarantineMs }) =>
      `worker ${quarantinedWorker} is sick and takes no job for ${secondsText(quarantineMs)}: ${reason}`,
    { metrics: () => [add('qianmo_workers_quarantined_total', {})] },
  ),
  /** The run computes on the kind of machine that this worker is, which was chosen or gave the first result. */
  'fingerprint-taken': detail(
    { fingerprint: z.string(), fromWorker: z.string() },
    ({ fingerprint, fromWorker }) =>
      `the run computes on ${fingerprint}, as worker ${fromWorker} does`,
  ),
  /** The run continues on another kind of machine, because its config demands it. */
  'fingerprint-changed': warning(
    { outerStep: count, fingerprint: z.string(), earlier: z.string() },
    ({ outerStep, fingerprint, earlier }) =>
      `the run continues on ${fingerprint} after outer step ${outerStep}, as its config demands; ` +
      `it was computed on ${earlier} before, and its digest is that of neither kind alone`,
  ),

  // A worker, told by itself or by its supervisor. The stamp names the worker.
  'worker-ready': notice(
    { pid: processId, server: z.string(), redisAddress: z.string() },
    (event) =>
      `${workerOf(event)} (process ${event.pid}) takes jobs from ${event.server} at ${event.redisAddress}`,
    {
      metrics: ({ epochMs }) => [
        set('qianmo_worker_last_job_timestamp_seconds', {}, seconds(epochMs)),
      ],
    },
  ),
  'worker-stopped': detail({}, (event) => `${workerOf(event)} stopped`),
  /** It takes no job for this long, because it could not do its last ones or is quarantined. */
  'worker-resting': detail(
    { restMs: durationMs },
    (event) => `${workerOf(event)} takes no job for ${secondsText(event.restMs)}`,
  ),
  'worker-exited': warning(
    {
      ...processEnd,
      /** Why it could not be started; null for a process that ran. */
      reason: z.string().nullable(),
      /** The end of its standard error. */
      lastWords: z.string(),
    },
    (event) =>
      `${workerOf(event)} ended: ${event.reason ?? endOf(event)}` +
      (event.lastWords === '' ? '' : `; its last words: ${event.lastWords}`),
  ),
  'redis-trouble': warning({ reason: z.string() }, (event) => `${prefixOf(event)}${event.reason}`),
  'job-started': detail(
    { jobId: z.string(), ...ofJob },
    (event) => `${prefixOf(event)}job ${event.jobId} started`,
  ),
  'job-finished': detail(
    {
      ...{ jobId: z.string(), ...ofJob, computeMs: durationMs },
      /** Resident memory of the compute process afterwards; absent where it is not known. */
      residentByteCount: count.optional(),
    },
    (event) => `${prefixOf(event)}job ${event.jobId} computed in ${Math.round(event.computeMs)} ms`,
    {
      isProgress: true,
      metrics: ({ computeMs, epochMs }) => [
        add('qianmo_worker_jobs_total', { outcome: 'finished' }),
        observe('qianmo_job_seconds', {}, seconds(computeMs)),
        set('qianmo_worker_last_job_timestamp_seconds', {}, seconds(epochMs)),
      ],
    },
  ),
  'job-failed': detail(
    { jobId: z.string(), failure: z.enum(JOB_FAILURE_KINDS), reason: z.string() },
    (event) => `${prefixOf(event)}job ${event.jobId} failed: ${event.failure}: ${event.reason}`,
    {
      metrics: ({ failure }) => [
        add('qianmo_worker_jobs_total', { outcome: 'failed' }),
        add('qianmo_worker_job_failures_total', { failure }),
      ],
    },
  ),
  'job-handed-back': detail(
    { jobId: z.string() },
    (event) => `${prefixOf(event)}job ${event.jobId} handed back to the queue`,
    { metrics: () => [add('qianmo_worker_jobs_total', { outcome: 'handed_back' })] },
  ),

  // A compute process, told by the worker that holds it.
  'compute-started': detail(
    { pid: processId },
    (event) => `${prefixOf(event)}compute process ${event.pid} is starting`,
  ),
  /** A line that a library in the process wrote to standard error. */
  'compute-wrote': notice(
    { pid: processId, line: z.string() },
    (event) => `${prefixOf(event)}${event.line}`,
  ),
  'compute-ready': notice(
    { pid: processId, device: DeviceReportSchema },
    (event) => `${sourceOf(event) ?? 'this process'} computes on ${formatDeviceLine(event.device)}`,
    {
      metrics: ({ device: { device, backend } }) => [
        forget('qianmo_compute_process_info'),
        set('qianmo_compute_process_info', { device, backend }, 1),
      ],
    },
  ),
  'compute-ended': {
    ...warning(
      {
        ...processEnd,
        /** Why the worker ended it; null when it ended by itself. */
        endedBecause: z.enum(COMPUTE_END_REASONS).nullable(),
      },
      (event) => {
        const { endedBecause } = event;
        const reason = endedBecause === null ? endOf(event) : COMPUTE_ENDS[endedBecause];
        return `${prefixOf(event)}the compute process ended: ${reason}`;
      },
      {
        metrics: ({ endedBecause }) => [
          add('qianmo_compute_process_ends_total', { reason: endedBecause ?? 'by-itself' }),
        ],
      },
    ),
    level: ({ endedBecause }: { readonly endedBecause: string | null }) =>
      ['closed', 'replaced', 'aborted', 'other-instructions'].includes(endedBecause ?? '')
        ? 'detail'
        : 'warning',
  },
  /** No native library could be loaded, so jobs run on a slow backend. */
  'backend-portable': warning(
    { refusals: z.array(z.string()), cure: z.string() },
    (event) =>
      `${prefixOf(event)}native TensorFlow did not load, so jobs run on a slow portable backend ` +
      `(${event.refusals.join('; ')}). Cure: ${event.cure}.`,
  ),
  /** High-rate. */
  'job-progress': detail(
    {
      ...ofJob,
      phase: z.enum(['reading', 'computing']),
      microBatch: z
        .strictObject({ number: z.int().positive(), count: z.int().positive() })
        .optional(),
    },
    (event) => {
      const { jobIndex, phase, microBatch } = event;
      const doing =
        microBatch === undefined
          ? phase
          : `micro-batch ${microBatch.number} of ${microBatch.count}`;
      return `${prefixOf(event)}job ${jobIndex} of outer step ${event.outerStep}: ${doing}`;
    },
  ),

  // A ranking server. Bundles are named by their digests.
  'server-ready': notice(
    { url: z.string(), bundle: z.string(), scorer: z.string() },
    ({ url, bundle, scorer }) =>
      `serving bundle ${shortDigest(bundle)} at ${url}, scored by ${scorer}`,
    {
      metrics: ({ bundle, epochMs }) => [
        set('qianmo_bundle_info', { role: 'stable', bundle }, 1),
        set('qianmo_last_bundle_swap_timestamp_seconds', {}, seconds(epochMs)),
        set('qianmo_exploration_failed', {}, 0),
      ],
    },
  ),
  'bundle-served': notice(
    { bundle: z.string(), earlierBundle: z.string(), loadMs: durationMs },
    ({ bundle, earlierBundle, loadMs }) =>
      `serving bundle ${shortDigest(bundle)} in place of ${shortDigest(earlierBundle)}, ` +
      `read in ${secondsText(loadMs)}`,
    {
      metrics: ({ epochMs }) => [
        add('qianmo_bundle_swaps_total', {}),
        set('qianmo_last_bundle_swap_timestamp_seconds', {}, seconds(epochMs)),
      ],
    },
  ),
  /** The earlier bundle stays; a canary answers nothing. */
  'bundle-refused': warning(
    { role: bundleRole, bundle: z.string(), reason: z.string() },
    ({ role, bundle, reason }) =>
      role === 'stable'
        ? `bundle ${shortDigest(bundle)} is refused, and the earlier one stays: ${reason}`
        : `canary ${shortDigest(bundle)} is refused and answers nothing: ${reason}`,
  ),
  /** Requests are ranked without exploration, or feedback is not taken, until the failure is null again. */
  'exploration-state': {
    ...notice(
      { failure: z.string().nullable() },
      ({ failure }) =>
        failure === null
          ? 'exploring again'
          : `ranking without exploration until its state works again: ${failure}`,
      {
        metrics: ({ failure }) => [set('qianmo_exploration_failed', {}, Number(failure !== null))],
      },
    ),
    level: ({ failure }: { readonly failure: string | null }) =>
      failure === null ? 'notice' : 'warning',
  },
  /** One of several processes on one port; it is started again after the delay. */
  'server-process-ended': warning(
    {
      ...{ place: count, pid: count, exitCode: z.int().nullable(), signal: z.string().nullable() },
      ...{ reason: z.string().nullable(), restartMs: durationMs },
    },
    ({ place, pid, exitCode, signal, reason, restartMs }) =>
      `process ${place} of the server (pid ${pid}) ended with ${signal ?? `code ${exitCode}`}` +
      `${reason === null ? '' : `: ${reason}`}; it is started again in ${secondsText(restartMs)}`,
    { metrics: () => [add('qianmo_server_process_exits_total', {})] },
  ),
  /** A bug: the request was answered with status 500. */
  'request-failed': warning(
    { reason: z.string() },
    ({ reason }) => `a request ran into a bug, please report it: ${reason}`,
    { metrics: () => [add('qianmo_request_bugs_total', {})] },
  ),
} as const;
