/**
 * The parent's side of computing: an executor over a compute process. Hands it one job at a time
 * and the inputs of the next one ahead, ends it when a job passes a bound, and replaces it when it
 * has died or grown. Imports no tensor library: whoever talks to the queue must never be blocked by
 * one.
 */

import type { BackendChoice } from '../compute/engine/backend-choice.js';
import { totalmem } from 'node:os';
import { fileURLToPath } from 'node:url';
import { systemClock, type Clock } from '../../shared/base/clock.js';
import { LruCache } from '../../shared/base/lru-cache.js';
import type { DeviceDemand } from '../../shared/config/run-config.js';
import type { BlobRef } from '../../shared/storage/blob-store.js';
import type { JobExecutor, JobInput, JobOutput } from '../../shared/queue/job-executor.js';
import { abortedError, closedError } from './compute-failures.js';
import { ComputeChild, type ChildOptions, type ComputeEvent } from './compute-child.js';
import type { DeviceReport } from '../../shared/events/device-report.js';
import { SHARED_KEPT_COUNT, type SharedKind } from './compute-protocol.js';

export interface ComputeProcessOptions {
  readonly clock: Clock;
  /** Bound on the rows a store keeps decoded in memory. */
  readonly storeCacheByteCountMax?: number;
  /**
   * Resident memory beyond which the process is replaced between two jobs; half of the machine's
   * by default.
   */
  readonly computeMemoryByteCountMax?: number;
  /** Longest silence of a process that does not compute. */
  readonly silenceMsMax?: number;
  readonly backend?: BackendChoice;
  /** Without it the process does not start; `auto` by default. */
  readonly device?: DeviceDemand;
  /**
   * All variables of the process, as in `{...inherited, CUDA_VISIBLE_DEVICES: '1'}`; those of this
   * process when absent.
   */
  readonly environment?: Readonly<Record<string, string | undefined>>;
  readonly onEvent?: (event: ComputeEvent) => void;
  /** Compiled entry to fork; tests put a misbehaving one here. */
  readonly entry?: string;
}

const STORE_CACHE_BYTE_COUNT_MAX = 256 * 1024 * 1024;
/** Loading TensorFlow takes a second or two; a machine under load, many more. */
const START_TIMEOUT_MS = 120_000;
/** Far above the second between two signs of life, for a machine that swaps. */
const SILENCE_MS_MAX = 30_000;
const MEMORY_SHARE_MAX = 0.5;
/** What fewer jobs need, a fresh process would soon need again. */
const JOB_COUNT_MIN_BEFORE_REPLACING = 8;

/** A process that has loaded its backend, and what it was sent. */
interface RunningChild {
  readonly child: ComputeChild;
  /** sha256 of the shared inputs it holds: a mirror of the child's caches, which see the same uses. */
  readonly kept: Readonly<Record<SharedKind, LruCache<string, true>>>;
  prepared: { readonly input: JobInput; readonly requestId: number } | null;
}

export interface ComputeExecutor extends Required<JobExecutor> {
  /** Starts the process ahead of the first job, so that what is in the way shows at once. */
  start(signal?: AbortSignal): Promise<void>;
}

/**
 * An executor in a child process. The child is started by `start` or the first job, and again by the
 * first job after it ended; jobs given at once are computed one after the other.
 *
 * Its errors: `transient` when the process ended, fell silent or passed `job.timeoutMs`,
 * `interrupted` when the signal aborted, and whatever the child reports.
 */
export function createComputeProcess(options: ComputeProcessOptions): ComputeExecutor {
  const computing = new ComputeProcess(options);
  let turn: Promise<unknown> = Promise.resolve();
  return {
    start: (signal) => {
      const started = turn.then(() => computing.start(signal));
      turn = started.catch(() => undefined);
      return started;
    },
    execute: (input, signal, onBegin) => {
      const result = turn.then(() => computing.execute(input, signal, onBegin));
      const replaceWhenGrown = (): Promise<void> => computing.replaceWhenGrown();
      turn = result.then(replaceWhenGrown, replaceWhenGrown);
      return result;
    },
    prepare: (input) => computing.prepare(input),
    close: () => computing.close(),
  };
}

/** The state behind the executor; its callers take turns. */
class ComputeProcess {
  readonly #options: ComputeProcessOptions;
  readonly #residentByteCountMax: number;
  #forked: ComputeChild | null = null;
  #running: RunningChild | null = null;
  #isClosed = false;
  #requestCount = 0;

  constructor(options: ComputeProcessOptions) {
    this.#options = options;
    this.#residentByteCountMax =
      options.computeMemoryByteCountMax ?? machineMemoryByteCount() * MEMORY_SHARE_MAX;
  }

  async start(signal?: AbortSignal): Promise<void> {
    if (this.#running === null) await this.#start(signal);
  }

  async execute(
    input: JobInput,
    signal?: AbortSignal,
    onBegin: () => void = () => undefined,
  ): Promise<JobOutput> {
    if (this.#isClosed) throw closedError();
    if (signal?.aborted === true) throw abortedError();
    const { job } = input;
    const by = this.#running ?? (await this.#start(signal));
    const requestId = by.prepared?.input === input ? by.prepared.requestId : this.#send(by, input);
    by.prepared = null;
    onBegin();
    const answer = await by.child.exchange({
      request: { kind: 'execute', requestId },
      answer: 'done',
      timeoutMs: job.timeoutMs,
      silenceMsMax: this.#options.silenceMsMax ?? SILENCE_MS_MAX,
      signal,
      subject: `job ${job.jobIndex} of outer step ${job.outerStep}`,
      job,
    });
    const { kind: _kind, requestId: _id, residentByteCount: _resident, ...output } = answer;
    return output;
  }

  prepare(input: JobInput): void {
    const to = this.#running;
    if (to !== null) to.prepared = { input, requestId: this.#send(to, input) };
  }

  async replaceWhenGrown(): Promise<void> {
    const child = this.#running?.child;
    if (child === undefined || this.#isClosed) return;
    const { jobCount, residentByteCount } = child;
    if (residentByteCount <= this.#residentByteCountMax) return;
    if (jobCount < JOB_COUNT_MIN_BEFORE_REPLACING) return;
    this.#options.onEvent?.({
      kind: 'compute-replaced',
      pid: child.pid,
      ...{ jobCount, residentByteCount },
      residentByteCountMax: this.#residentByteCountMax,
    });
    this.#running = null;
    await child.endGracefully('replaced');
    // The next job finds it started; what is in the way is that job's to report.
    await this.#start().catch(() => undefined);
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    await this.#forked?.endGracefully('closed');
  }

  async #start(signal?: AbortSignal): Promise<RunningChild> {
    if (this.#isClosed) throw closedError();
    const child: ComputeChild = new ComputeChild(childOptionsOf(this.#options), () => {
      if (this.#forked === child) this.#forked = null;
      if (this.#running?.child === child) this.#running = null;
    });
    this.#forked = child;
    try {
      await startUp(child, this.#options, signal);
    } catch (error) {
      // What did not start is of no use to the next job.
      child.kill('not-started');
      throw error;
    }
    const kept = {
      dense: new LruCache<string, true>({ countMax: SHARED_KEPT_COUNT }),
      frozen: new LruCache<string, true>({ countMax: SHARED_KEPT_COUNT }),
    };
    this.#running = { child, kept, prepared: null };
    return this.#running;
  }

  #send(to: RunningChild, input: JobInput): number {
    const { job, dense, rowPack, frozen } = input;
    sendShared(to, 'dense', job.dense, dense);
    if (job.frozen !== undefined && frozen !== null) sendShared(to, 'frozen', job.frozen, frozen);
    this.#requestCount += 1;
    const requestId = this.#requestCount;
    to.child.post({ kind: 'prepare', requestId, job, rowPack });
    return requestId;
  }
}

/** Sends what the child does not hold. */
function sendShared(
  { child, kept }: RunningChild,
  of: SharedKind,
  { sha256 }: BlobRef,
  bytes: Uint8Array,
): void {
  if (kept[of].get(sha256) === true) return;
  child.post({ kind: 'shared', of, sha256, bytes });
  kept[of].put(sha256, true);
}

/** Waits until the child has loaded its backend and returns what it computes on. */
async function startUp(
  child: ComputeChild,
  options: ComputeProcessOptions,
  signal?: AbortSignal,
): Promise<DeviceReport> {
  const { device } = await child.exchange({
    request: {
      kind: 'start',
      backend: options.backend ?? 'auto',
      device: options.device ?? 'auto',
      storeCacheByteCountMax: options.storeCacheByteCountMax ?? STORE_CACHE_BYTE_COUNT_MAX,
    },
    answer: 'ready',
    timeoutMs: START_TIMEOUT_MS,
    silenceMsMax: null,
    signal,
    subject: 'the start of the compute process',
    job: null,
  });
  options.onEvent?.({ kind: 'compute-ready', pid: child.pid, device });
  return device;
}

/** What jobs would be computed on here: starts a compute process and ends it again. */
export async function describeDevice(
  options: ComputeProcessOptions = { clock: systemClock },
): Promise<DeviceReport> {
  const child = new ComputeChild(childOptionsOf(options));
  try {
    return await startUp(child, options);
  } finally {
    await child.endGracefully('closed');
  }
}

function childOptionsOf(options: ComputeProcessOptions): ChildOptions {
  const { clock, environment, onEvent = () => undefined } = options;
  return { entry: options.entry ?? compiledEntry(), environment, clock, onEvent };
}

/** The entry compiled to `dist/`, also when this file runs as TypeScript source. */
function compiledEntry(): string {
  const here = import.meta.url;
  const relative = here.endsWith('.ts')
    ? '../../dist/worker/compute/main.js'
    : '../compute/main.js';
  return fileURLToPath(new URL(relative, here));
}

/** Of the container where there is one; without a limit that number is absurdly large or 0. */
function machineMemoryByteCount(): number {
  const constrained = process.constrainedMemory();
  return constrained > 0 ? Math.min(constrained, totalmem()) : totalmem();
}
