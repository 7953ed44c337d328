/**
 * The parent's side of computing: an executor over a compute process. It gives the process one job at
 * a time and the inputs of the next one in advance, ends it when a job exceeds a limit, and replaces
 * it when it has died or grown. It imports no tensor library, because the process that talks to the
 * queue must never be blocked by one.
 */

import type { BackendChoice } from '../compute/engine/native-backend.js';
import { nativeRowsPath } from '../../shared/tensors/native-rows.js';
import { totalmem } from 'node:os';
import type { Clock } from '../../shared/base/clock.js';
import { LruCache } from '../../shared/base/lru-cache.js';
import type { DeviceDemand } from '../../shared/config/compute-config.js';
import type { BlobRef } from '../../shared/storage/blob-store.js';
import type { JobExecutor, JobInput, JobOutput } from '../../shared/queue/job-executor.js';
import { pluginArguments } from '../../shared/plugins/load-plugins.js';
import type { Job } from '../../shared/queue/protocol.js';
import { numericalEnvironment } from '../compute/device/numerical-environment.js';
import {
  abortedError,
  closedError,
  notStartedError,
  portableOnGpuError,
} from './compute-failures.js';
import { ComputeChild, type ChildOptions, type ComputeEvent } from './compute-child.js';
import { forkedEntry, type ForkedEntry } from './forked-entry.js';
import type { DeviceReport, FoundDevice } from '../../shared/events/device-report.js';
import { SHARED_KEPT_COUNT, type SharedKind } from './compute-protocol.js';
import { warningEvent } from '../../shared/events/run-events.js';
import { counted } from '../../shared/names/counted.js';

export interface ComputeProcessOptions {
  readonly clock: Clock;
  /** The limit on decoded rows that a store keeps in memory. */
  readonly storeCacheByteCountMax?: number;
  /**
   * The resident memory above which the process is replaced between two jobs; half of the machine's
   * memory by default.
   */
  readonly computeMemoryByteCountMax?: number;
  /** The longest silence of a process whose thread is free. */
  readonly silenceMsMax?: number;
  readonly backend?: BackendChoice;
  /** The device that must compute; the process does not start without it. `auto` by default. */
  readonly device?: DeviceDemand;
  /**
   * The environment of the process, as in `{...inherited, CUDA_VISIBLE_DEVICES: '1'}`. What decides
   * the bits of results is replaced.
   */
  readonly environment: Readonly<Record<string, string | undefined>>;
  /** Whether the process is started for portable jobs; a job that differs starts another one. */
  readonly portable?: boolean;
  readonly onEvent?: (event: ComputeEvent) => void;
  /** The compiled entry to fork; tests replace it with one that misbehaves. */
  readonly entry?: string;
  /** A process that the caller has forked already, with these options, to save time: the first one to be used. */
  readonly forked?: ForkedEntry;
}

const STORE_CACHE_BYTE_COUNT_MAX = 256 * 1024 * 1024;
/** Loading TensorFlow takes a second or two, and much longer on a busy machine. */
const START_TIMEOUT_MS = 120_000;
/** Far more than the second between two signs of life, because a machine may swap. */
const SILENCE_MS_MAX = 30_000;
const MEMORY_SHARE_MAX = 0.5;
/** A process that grew in fewer jobs would soon be replaced again. */
const JOB_COUNT_MIN_BEFORE_REPLACING = 8;

/** A process that has loaded its backend, and the inputs it holds. */
interface RunningChild {
  readonly child: ComputeChild;
  readonly isPortable: boolean;
  /** sha256 of the shared inputs it holds: a mirror of the child's caches, which see the same uses. */
  readonly kept: Readonly<Record<SharedKind, LruCache<string, true>>>;
  /** The job that follows the one under way. */
  ahead: JobAhead | null;
}

interface JobAhead {
  readonly input: JobInput;
  readonly requestId: number;
}

export interface ComputeExecutor extends Required<JobExecutor> {
  /** Starts the process before the first job, so that a problem is reported at once. */
  start(signal?: AbortSignal): Promise<void>;
}

/**
 * An executor in a child process. The child is started by `start` or the first job, and again by the
 * first job after it ended. Concurrent jobs are computed one after the other.
 *
 * Its errors: `environment` when the process cannot be started, `transient` when it ended, stopped
 * responding or exceeded `job.timeoutMs`,
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
    residentByteCount: () => computing.residentByteCount,
    foundDevice: () => computing.device,
    prepare: (input) => computing.prepare(input),
    forget: (input) => computing.forget(input),
    close: () => computing.close(),
  };
}

/** The state behind the executor. Its methods are called one at a time. */
class ComputeProcess {
  readonly #options: ComputeProcessOptions;
  readonly #residentByteCountMax: number;
  #forked: ComputeChild | null = null;
  #running: RunningChild | null = null;
  #isClosed = false;
  #requestCount = 0;
  /** The device of the process that was started last. */
  #device: FoundDevice | null = null;
  /** Forked by the caller and not in use yet. */
  #forkedAhead: ForkedEntry | null;

  constructor(options: ComputeProcessOptions) {
    this.#options = options;
    this.#forkedAhead = options.forked ?? null;
    this.#residentByteCountMax =
      options.computeMemoryByteCountMax ?? machineMemoryByteCount() * MEMORY_SHARE_MAX;
  }

  async start(signal?: AbortSignal): Promise<void> {
    if (this.#running === null) await this.#start(this.#options.portable === true, signal);
  }

  async execute(
    input: JobInput,
    signal?: AbortSignal,
    onBegin: () => void = () => undefined,
  ): Promise<JobOutput> {
    if (this.#isClosed) throw closedError();
    if (signal?.aborted === true) throw abortedError();
    const { job } = input;
    const by = await this.#runningFor(job, signal);
    const requestId = this.#begin(by, input);
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
    const {
      kind: _kind,
      requestId: _id,
      next: _next,
      residentByteCount: _resident,
      ...output
    } = answer;
    return output;
  }

  /** Null before the first answer of the process that runs. */
  get residentByteCount(): number | null {
    const byteCount = this.#running?.child.residentByteCount ?? 0;
    return byteCount === 0 ? null : byteCount;
  }

  get device(): FoundDevice | null {
    return this.#device;
  }

  prepare(input: JobInput): void {
    const to = this.#running;
    if (to?.isPortable !== input.job.portable) return;
    if (to.ahead !== null) to.child.forget(to.ahead.requestId);
    to.ahead = { input, requestId: this.#send(to, input) };
    // Without a job under way, the one that is computed next is not known to be this one.
    if (to.child.isComputing) to.child.begin(to.ahead.requestId);
  }

  forget(input: JobInput): void {
    const by = this.#running;
    if (by?.ahead?.input !== input) return;
    by.child.forget(by.ahead.requestId);
    by.ahead = null;
  }

  async replaceWhenGrown(): Promise<void> {
    if (this.#running === null || this.#isClosed) return;
    const { child, isPortable } = this.#running;
    const { jobCount, residentByteCount } = child;
    if (residentByteCount <= this.#residentByteCountMax) return;
    if (jobCount < JOB_COUNT_MIN_BEFORE_REPLACING) return;
    this.#options.onEvent?.(
      warningEvent(
        'compute-replaced',
        `the compute process is replaced after ${counted(jobCount, 'job')}: ` +
          `it holds ${mebibytes(residentByteCount)}, more than ${mebibytes(this.#residentByteCountMax)}`,
      ),
    );
    this.#running = null;
    await child.endGracefully('replaced');
    // A failure to start is reported by the next job, which starts the process again.
    await this.#start(isPortable).catch(() => undefined);
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    this.#forkedAhead?.process.disconnect();
    await this.#forked?.endGracefully('closed');
  }

  /** Libraries read their instruction set once, so a job with another one needs another process. */
  async #runningFor({ portable }: Job, signal?: AbortSignal): Promise<RunningChild> {
    const running = this.#running;
    if (running?.isPortable === portable) return running;
    this.#running = null;
    await running?.child.endGracefully('other-instructions');
    return this.#start(portable, signal);
  }

  async #start(isPortable: boolean, signal?: AbortSignal): Promise<RunningChild> {
    if (this.#isClosed) throw closedError();
    const options = childOptionsOf(this.#options, isPortable, this.#takeAhead(isPortable));
    const child: ComputeChild = new ComputeChild(options, () => {
      if (this.#forked === child) this.#forked = null;
      if (this.#running?.child === child) this.#running = null;
    });
    this.#forked = child;
    try {
      this.#device = { ...(await startUp(child, this.#options, signal)), isPortable };
    } catch (error) {
      // The next job needs a new process.
      child.kill('not-started');
      throw notStartedError(error);
    }
    const kept = {
      dense: new LruCache<string, true>({ countMax: SHARED_KEPT_COUNT }),
      frozen: new LruCache<string, true>({ countMax: SHARED_KEPT_COUNT }),
    };
    this.#running = { child, isPortable, kept, ahead: null };
    return this.#running;
  }

  /** A process that was forked for other instructions ends when its channel closes. */
  #takeAhead(isPortable: boolean): ForkedEntry | undefined {
    const ahead = this.#forkedAhead;
    this.#forkedAhead = null;
    if (ahead === null || isPortable === (this.#options.portable === true))
      return ahead ?? undefined;
    ahead.process.disconnect();
    return undefined;
  }

  /** Sees to it that the child computes the job, and then the one ahead. */
  #begin(by: RunningChild, input: JobInput): number {
    const { child, ahead } = by;
    const isAhead = ahead?.input === input;
    // A job ahead that the child may have begun already would keep this one waiting.
    if (ahead !== null && !isAhead && child.hasBegun(ahead.requestId)) {
      child.forget(ahead.requestId);
      by.ahead = null;
    }
    if (isAhead) by.ahead = null;
    const requestId = isAhead ? ahead.requestId : this.#send(by, input);
    child.begin(requestId);
    if (by.ahead !== null) child.begin(by.ahead.requestId);
    return requestId;
  }

  #send(to: RunningChild, input: JobInput): number {
    const { job, dense, rowPack, frozen, given } = input;
    sendShared(to, 'dense', job.dense, dense);
    if (job.frozen !== undefined && frozen !== null) sendShared(to, 'frozen', job.frozen, frozen);
    this.#requestCount += 1;
    const requestId = this.#requestCount;
    to.child.post({
      ...{ kind: 'prepare', requestId, job, rowPack },
      ...(given === undefined ? {} : { given }),
    });
    return requestId;
  }
}

/** Sends the shared inputs that the child does not hold. */
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

/** Waits until the child has loaded its backend and returns its device. */
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
      rowAddon: nativeRowsPath(),
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

/** The device that would compute jobs here: starts a compute process and ends it again. */
export async function describeDevice(options: ComputeProcessOptions): Promise<DeviceReport> {
  const child = new ComputeChild(childOptionsOf(options, options.portable === true));
  try {
    return await startUp(child, options);
  } finally {
    await child.endGracefully('closed');
  }
}

/** @throws QianmoError if the demanded device does not compute such jobs. */
function childOptionsOf(
  options: ComputeProcessOptions,
  isPortable: boolean,
  ahead?: ForkedEntry,
): ChildOptions {
  const { clock, device, entry, backend = 'auto', onEvent = () => undefined } = options;
  if (isPortable && device === 'gpu') throw portableOnGpuError();
  const environment = numericalEnvironment(options.environment, isPortable);
  const terms = { entry, environment, backend, pluginArguments: pluginArguments() };
  return { forked: ahead ?? forkedEntry(terms), clock, onEvent };
}

/** The limit of the container, or the machine's memory where there is no limit. */
function machineMemoryByteCount(): number {
  const constrained = process.constrainedMemory();
  return constrained > 0 ? Math.min(constrained, totalmem()) : totalmem();
}

function mebibytes(byteCount: number): string {
  return `${Math.round(byteCount / 2 ** 20)} MiB`;
}
