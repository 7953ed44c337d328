/**
 * The parent's side of computing: an executor over a compute process. It gives the process a job and the next one in
 * advance, ends it when a job exceeds its deadline, and replaces it when it has died or grown. It imports no tensor
 * library, because the process that talks to the queue must never be blocked by one.
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
import { QianmoError } from '../../shared/base/errors.js';
import {
  abortedError,
  ComputeChild,
  type ChildOptions,
  type ComputeEvent,
  type Exchange,
} from './compute-child.js';
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
const MEMORY_SHARE_MAX = 0.5;
/** A process that grew in fewer jobs would soon be replaced again. */
const JOB_COUNT_MIN_BEFORE_REPLACING = 8;

/** A process that has loaded its backend, and the inputs it holds. */
interface RunningChild {
  readonly child: ComputeChild;
  readonly isPortable: boolean;
  /** sha256 of the shared inputs it holds: a mirror of the child's caches, which see the same uses. */
  readonly kept: Readonly<Record<SharedKind, LruCache<string, true>>>;
  /** The job that follows the one under way. It is sent after that one. */
  ahead: { readonly input: JobInput; exchange: Exchange | null } | null;
  isComputing: boolean;
}

export interface ComputeExecutor extends Required<JobExecutor> {
  /** Starts the process before the first job, so that a problem is reported at once. */
  start(signal?: AbortSignal): Promise<void>;
}

/**
 * An executor in a child process. The child is started by `start` or the first job, and again by the
 * first job after it ended. Concurrent jobs are computed one after the other.
 *
 * Its errors: `environment` when the process cannot be started, `transient` when it ended or exceeded `job.timeoutMs`,
 * `interrupted` when the signal aborted, and any error that the child reports.
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
    execute: (input, signal) => {
      const result = turn.then(() => computing.execute(input, signal));
      const replaceWhenGrown = (): Promise<void> => computing.replaceWhenGrown();
      turn = result.then(replaceWhenGrown, replaceWhenGrown);
      return result;
    },
    residentByteCount: () => computing.residentByteCount,
    foundDevice: () => computing.device,
    prepare: (input) => computing.prepare(input),
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

  async execute(input: JobInput, signal?: AbortSignal): Promise<JobOutput> {
    if (this.#isClosed) throw closedError();
    if (signal?.aborted === true) throw abortedError();
    const by = await this.#runningFor(input.job, signal);
    const { ahead } = by;
    const isAhead = ahead?.input === input;
    if (isAhead || ahead?.exchange) this.#takeBack(by, !isAhead);
    const exchange = (isAhead ? ahead.exchange : null) ?? this.#send(by, input);
    by.isComputing = true;
    if (by.ahead !== null) by.ahead.exchange ??= this.#send(by, by.ahead.input);
    try {
      const answer = await by.child.answerTo(exchange, signal);
      if (answer.kind !== 'done') throw new Error('a job was answered as a start');
      const { kind: _kind, requestId: _id, residentByteCount: _resident, ...output } = answer;
      return output;
    } finally {
      by.isComputing = false;
    }
  }

  /** Null before the first answer of the process that runs. */
  get residentByteCount(): number | null {
    const byteCount = this.#running?.child.residentByteCount ?? 0;
    return byteCount === 0 ? null : byteCount;
  }

  get device(): FoundDevice | null {
    return this.#device;
  }

  prepare(input: JobInput | null): void {
    const to = this.#running;
    if (to === null) return;
    this.#takeBack(to, true);
    if (to.isPortable !== input?.job.portable) return;
    // Without a job under way, the one that is computed next is not known to be this one.
    to.ahead = { input, exchange: to.isComputing ? this.#send(to, input) : null };
  }

  #takeBack(from: RunningChild, isDropped: boolean): void {
    const exchange = from.ahead?.exchange ?? null;
    if (isDropped && exchange !== null) from.child.drop(exchange);
    from.ahead = null;
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
      if (!(error instanceof QianmoError) || error.kind !== 'transient') throw error;
      throw new QianmoError({
        ...error.report,
        kind: 'environment',
        cure: 'check the memory, the disk and the limits of this machine, and start the worker again if it has ended',
        cause: error,
      });
    }
    const kept = {
      dense: new LruCache<string, true>({ countMax: SHARED_KEPT_COUNT }),
      frozen: new LruCache<string, true>({ countMax: SHARED_KEPT_COUNT }),
    };
    this.#running = { child, isPortable, kept, ahead: null, isComputing: false };
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

  #send(to: RunningChild, input: JobInput): Exchange {
    const { job, dense, rowPack, frozen, given } = input;
    sendShared(to, 'dense', job.dense, dense);
    if (job.frozen !== undefined && frozen !== null) sendShared(to, 'frozen', job.frozen, frozen);
    this.#requestCount += 1;
    const requestId = this.#requestCount;
    return to.child.send(
      { kind: 'execute', requestId, job, rowPack, ...(given === undefined ? {} : { given }) },
      {
        timeoutMs: job.timeoutMs,
        subject: `job ${job.jobIndex} of outer step ${job.outerStep}`,
        job,
      },
    );
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
  const exchange = child.send(
    {
      kind: 'start',
      backend: options.backend ?? 'auto',
      device: options.device ?? 'auto',
      storeCacheByteCountMax: options.storeCacheByteCountMax ?? STORE_CACHE_BYTE_COUNT_MAX,
      rowAddon: nativeRowsPath(),
    },
    { timeoutMs: START_TIMEOUT_MS, subject: 'the start of the compute process' },
  );
  const answer = await child.answerTo(exchange, signal);
  if (answer.kind !== 'ready') throw new Error('a start was answered as a job');
  const { device } = answer;
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
  if (isPortable && device === 'gpu')
    throw new QianmoError({
      kind: 'environment',
      what: 'portable jobs are computed on CPUs, and this worker demands a GPU',
      cure: 'start a worker with --device auto or cpu, or remove compute.portable from the config',
      isOfThisMachine: true,
    });
  const environment = numericalEnvironment(options.environment, isPortable);
  const terms = { entry, environment, backend, pluginArguments: pluginArguments() };
  return { forked: ahead ?? forkedEntry(terms), clock, onEvent };
}

function closedError(): QianmoError {
  return new QianmoError({ kind: 'interrupted', what: 'the compute process was closed' });
}

/** The limit of the container, or the machine's memory where there is no limit. */
function machineMemoryByteCount(): number {
  const constrained = process.constrainedMemory();
  return constrained > 0 ? Math.min(constrained, totalmem()) : totalmem();
}

function mebibytes(byteCount: number): string {
  return `${Math.round(byteCount / 2 ** 20)} MiB`;
}
