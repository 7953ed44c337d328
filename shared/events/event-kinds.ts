/**
 * The vocabulary of events: one entry per kind, with the fields that a program can rely on. Shared by
 * coordinator, worker and compute process. The words for people are in `sentences.ts`.
 *
 * `outerStep` is the number of outer steps that were complete. Texts named `reason` are words of a
 * library, an operating system or a failure: to be shown, never to be parsed.
 */

import { z } from 'zod';
import { ProcessIdentitySchema } from '../storage/process-identity.js';
import { DeviceReportSchema } from './device-report.js';
import { OPERATION_SHAPES } from './kinds/operation-kinds.js';
import { PREPARATION_SHAPES } from './kinds/preparation-kinds.js';
import { SizeLossesSchema } from './size-losses.js';
import { TRACKING_SHAPES } from './kinds/tracking-kinds.js';

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

/** Why a worker ends its compute process. */
export const COMPUTE_END_REASONS = [
  'deadline',
  'silent',
  'aborted',
  'bad-message',
  'lost-channel',
  'not-started',
  'replaced',
  'other-instructions',
  'closed',
] as const;

/** Why a job failed; `job-failure.ts` says what each kind means. */
export const JOB_FAILURE_KINDS = [
  'blob-missing',
  'refused',
  'declined',
  'sick',
  'worker-lost',
  'permanent',
  'transient',
] as const;

/** Why a coordinator does not use a result. */
export const REJECTIONS = [
  'duplicate',
  'not_of_this_step',
  'other_fingerprint',
  'layout_mismatch',
  'not_finite',
  'wrong_blob',
  'forged',
  'norm_exceeded',
  'not_asked',
] as const;

/** The phases of an outer step, in the order in which they begin. */
export const STEP_PHASES = [
  'sample',
  'pack',
  'queue',
  'fetch',
  'compute',
  'upload',
  'aggregate',
  'optimise',
  'checkpoint',
] as const;
export type StepPhase = (typeof STEP_PHASES)[number];

/** The course of a run. */
const RUN_SHAPES = {
  /** A call that keeps this log lives: told at its beginning and at intervals, to the log alone. */
  'call-alive': { call: z.string(), process: ProcessIdentitySchema, sinceMs: z.int().positive() },
  /** The last event of a call, however it ended. */
  'call-ended': { call: z.string() },
  'run-started': { runId: z.string(), outerStep: count, outerSteps: count },
  'outer-step': {
    ...{ outerStep: count, outerSteps: count, queryLoss: measured, supportLoss: measured },
    ...{ gradientNorm: measured, tasksPerSecond: measured },
    /** The query loss before adaptation, in the outer steps that measure it. */
    queryLossBefore: measured.optional(),
    /** Absent where a worker did not tell them, and in records of earlier versions. */
    bySize: SizeLossesSchema.optional(),
  },
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
  'outer-step-timed': {
    outerStep: count,
    startedMs: z.int().nonnegative(),
    phasesMs: z.record(z.enum(STEP_PHASES), durationMs),
    /** The results that were used, the tasks that they are of, and the workers that they came from. */
    ...{ jobCount: count, taskCount: count, workerCount: count },
  },
  checkpoint: ofCheckpoint,
  /** The outer step was closed without the results of some jobs. */
  'leaves-left-out': { outerStep: count, admittedLeafCount: count, leafCount: count },
  /** The task makes its job fail; the run leaves it out from this outer step on. */
  'task-quarantined': { outerStep: count, taskIndex: count, task: z.string(), reason: z.string() },
  /** No job goes out until somebody resumes the run. */
  'run-paused': {},
  'run-resumed': { pausedMs: durationMs },
  /** Somebody cancelled the run through its queue. */
  'run-cancelled': {},
  'run-extended': { outerSteps: count, earlierOuterSteps: count },
  /** Orders are those of another version, or not signed as the run demands. It keeps those that it heard before. */
  'orders-unreadable': { reason: z.string() },
  /** The validation adgroups were scored; `isBest` if no earlier outer step has a lower loss. */
  'run-validated': { outerStep: count, loss: z.number(), isBest: z.boolean() },
  /** The loss of the validation adgroups has stopped falling. */
  'run-stopped-early': { outerStep: count, bestOuterStep: count, outerSteps: count },
  'run-finished': ofCheckpoint,
  /** The command ended with a failure; `failure` is its kind, or `bug`. */
  'run-failed': { failure: z.string(), reason: z.string() },
  'stop-requested': {},
  /** Something that was started for the run could not be stopped. */
  'stop-failed': { reason: z.string() },
  /** High-rate. `total` is null when it is not known. */
  progress: { stage: z.string(), done: count, total: count.nullable() },
  'global-arm-started': {},
  /** The run has fewer outer steps than its config asks for. */
  'unfinished-run-evaluated': { outerStep: count, outerSteps: count },
  'report-written': { address: z.string() },
  'trial-scored': {
    trial: z.string(),
    outerStep: count,
    /** `logloss` or `squared error`. */
    loss: z.string(),
    /** Null: the trial diverged. */
    validationLoss: measured.nullable(),
  },
  'trial-diverged': { trial: z.string(), reason: z.string() },
  /** Somebody trained the trial further than the rung that scores it. */
  'trial-retrained': { trial: z.string(), outerStep: count, scoredOuterStep: count },
  /** Events were lost here because a reader or a disk was too slow. */
  'events-dropped': { eventCount: z.int().positive() },
  'event-log-failed': { address: z.string(), reason: z.string() },
};

/** Checkpoints that could not be read, written or removed. */
const CHECKPOINT_SHAPES = {
  'checkpoint-damaged': {
    /** The pointer `latest.json`, or a checkpoint it names. */
    part: z.enum(['pointer', 'checkpoint']),
    address: z.string(),
    reason: z.string(),
  },
  'checkpoint-fallback': { outerStep: count },
  'checkpoint-not-written': { outerStep: count, reason: z.string() },
  'old-checkpoints-kept': { reason: z.string() },
  'writes-unconditional': { address: z.string() },
};

/** The coordinator's side of the queue. */
const DISPATCH_SHAPES = {
  'job-retried': {
    outerStep: count,
    jobIndex: count,
    cause: z.enum(['failed', 'lost', 'output-missing', 'rejected', 'late']),
    reason: z.string(),
  },
  'result-refused': {
    outerStep: count,
    jobIndex: count,
    fromWorker: z.string(),
    rejection: z.enum(REJECTIONS),
  },
  /** Results of an outer step were admitted. Told every ten seconds, and of the first one after `workers-missing`. */
  'results-admitted': { outerStep: count, admittedJobCount: count, jobCount: count },
  /** A worker has had the job for long, so an idle one gets a copy of it. */
  'job-copied': { outerStep: count, jobIndex: count, slowWorker: z.string(), heldMs: durationMs },
  /** The result of a job came after its outer step had been closed without it, or after another worker's. */
  'result-late': { outerStep: count, jobIndex: count, fromWorker: z.string(), lateMs: durationMs },
  /** A coordinator that may be dead has the lease of the run. */
  'lease-awaited': { address: z.string(), host: z.string(), waitMs: durationMs },
  'leftover-jobs-removed': { jobCount: count },
  'redis-away': { address: z.string(), reason: z.string() },
  'redis-back': { awayMs: durationMs },
  'object-store-away': { address: z.string(), reason: z.string() },
  'object-store-back': { awayMs: durationMs },
  /** Redis answers and refuses to write. The run ends when it still does so after `waitMs`. */
  'redis-refuses': {
    address: z.string(),
    refusal: z.enum(['disk', 'memory', 'permission', 'other']),
    reason: z.string(),
    cure: z.string(),
    waitMs: durationMs,
  },
  'redis-accepts': { refusedMs: durationMs },
  /** How to start a worker that serves this coordinator. */
  'workers-awaited': {
    redisAddress: z.string(),
    /** The file that has the address with its password; null where the caller knows the address. */
    addressFile: z.string().nullable(),
    prefix: z.string(),
    /** Addresses that they have to open, for `--store-allow`; absent in events of earlier versions. */
    places: z.array(z.string()).optional(),
  },
  'workers-missing': { openJobCount: count },
  'worker-refused': { refusingWorker: z.string(), reason: z.string() },
  /** The worker is sick: it is asked to take no job for this long. */
  'worker-quarantined': {
    quarantinedWorker: z.string(),
    reason: z.string(),
    quarantineMs: durationMs,
  },
  /** Its results contradict those of two others: the run uses none of it any more. */
  'worker-distrusted': {
    distrustedWorker: z.string(),
    outerStep: count,
    jobIndex: count,
    reason: z.string(),
  },
  /** Workers gave different results of one job; another one decides. */
  'results-disagree': { outerStep: count, jobIndex: count, workers: z.array(z.string()) },
  /** A job that was drawn or doubted has no second result. */
  'job-not-recomputed': { outerStep: count, jobIndex: count, reason: z.string() },
  'outer-step-retaken': { outerStep: count, reason: z.string() },
  /** The run computes on the kind of machine that this worker is, which was chosen or gave the first result. */
  'fingerprint-taken': { fingerprint: z.string(), fromWorker: z.string() },
  /** The run continues on another kind of machine, because its config demands it. */
  'fingerprint-changed': { outerStep: count, fingerprint: z.string(), earlier: z.string() },
  /** A worker's device had too little memory for the micro-batches of the run. */
  'queue-board-served': { url: z.string() },
};

/** A worker, told by itself or by its supervisor. The stamp says which worker. */
const WORKER_SHAPES = {
  'worker-ready': { pid: processId, server: z.string(), redisAddress: z.string() },
  /** Another live worker has the name of this one; results and refusals carry the name on the queue. */
  'worker-renamed': { nameOnQueue: z.string() },
  'worker-stopped': {},
  /** It takes no job for this long, because it could not do its last ones or is quarantined. */
  'worker-resting': { restMs: durationMs },
  'worker-exited': {
    ...processEnd,
    /** Why it could not be started; null for a process that ran. */
    reason: z.string().nullable(),
    /** The end of its standard error. */
    lastWords: z.string(),
  },
  'worker-restarted': {},
  'worker-given-up': { restartCount: count },
  /** A worker sent a message that is not an event of this vocabulary. */
  'worker-misunderstood': { reason: z.string() },
  'redis-trouble': { reason: z.string() },
  'job-started': { jobId: z.string(), ...ofJob },
  'job-finished': {
    ...{ jobId: z.string(), ...ofJob, computeMs: durationMs },
    /** Resident memory of the compute process afterwards; absent where it is not known. */
    residentByteCount: count.optional(),
  },
  'job-failed': {
    jobId: z.string(),
    failure: z.enum(JOB_FAILURE_KINDS),
    reason: z.string(),
  },
  'job-handed-back': { jobId: z.string() },
};

/** A compute process, told by the worker that holds it. */
const COMPUTE_SHAPES = {
  'compute-started': { pid: processId },
  /** A line that a library in the process wrote to standard error. */
  'compute-wrote': {
    ...{ pid: processId, line: z.string() },
    /** Lines before this one that were left out, because there were too many; none if absent. */
    leftOutCount: count.optional(),
  },
  'compute-ready': { pid: processId, device: DeviceReportSchema },
  'compute-ended': {
    ...processEnd,
    /** Why the worker ended it; null when it ended by itself. */
    endedBecause: z.enum(COMPUTE_END_REASONS).nullable(),
  },
  'compute-replaced': {
    pid: processId,
    jobCount: count,
    residentByteCount: count,
    residentByteCountMax: z.number().nonnegative(),
  },
  /** No native library could be loaded, so jobs run on a slow backend. */
  'backend-portable': { refusals: z.array(z.string()), cure: z.string() },
  /** The device's memory was exhausted; the low bits of results may differ from here on. */
  /** High-rate. */
  'job-progress': {
    ...ofJob,
    phase: z.enum(['reading', 'computing']),
    microBatch: z
      .strictObject({ number: z.int().positive(), count: z.int().positive() })
      .optional(),
  },
};

/** A ranking server. Bundles are named by their digests. */
const SERVING_SHAPES = {
  'server-ready': { url: z.string(), bundle: z.string(), scorer: z.string() },
  'bundle-served': { bundle: z.string(), earlierBundle: z.string(), loadMs: durationMs },
  /** The earlier bundle stays. */
  'bundle-refused': { bundle: z.string(), reason: z.string() },
  /** A bundle answers a share of the requests beside the one in use. */
  'canary-served': { bundle: z.string(), share: z.number(), loadMs: durationMs },
  'canary-refused': { bundle: z.string(), reason: z.string() },
  /** Its label is gone, or points at the bundle in use. */
  'canary-ended': { bundle: z.string() },
  /** The label could not be read; it is tried again. */
  'label-unread': { label: z.string(), reason: z.string() },
  /** Requests are ranked without exploration, or feedback is not taken, until it works again. */
  'exploration-failed': { reason: z.string() },
  'exploration-restored': {},
  /** It cannot be seen from here: the server starts when it has given no sign for so long. */
  'state-owner-watched': { owner: z.string(), silenceMs: durationMs },
  'server-draining': { requestCount: count },
  /** One of several processes on one port; it is started again after the delay. */
  'server-process-ended': {
    ...{ place: count, pid: count, exitCode: z.int().nullable(), signal: z.string().nullable() },
    ...{ reason: z.string().nullable(), restartMs: durationMs },
  },
  /** A bug: the request was answered with status 500. */
  'request-failed': { reason: z.string() },
};

export const EVENT_SHAPES = {
  ...RUN_SHAPES,
  ...PREPARATION_SHAPES,
  ...CHECKPOINT_SHAPES,
  ...DISPATCH_SHAPES,
  ...WORKER_SHAPES,
  ...COMPUTE_SHAPES,
  ...SERVING_SHAPES,
  ...OPERATION_SHAPES,
  ...TRACKING_SHAPES,
};
