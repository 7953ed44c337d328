/**
 * The parent's side of computing: an executor over a compute process. It gives the process a job and the next one in
 * advance, ends it when a job exceeds its deadline, and replaces it when it has died or grown. It imports no tensor
 * library, because the process that talks to the queue must never be blocked by one.
 */

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
import { QianmoError, errorOf } from '../../shared/base/errors.js';
import { forkedEntry } from './forked-entry.js';
import type { DeviceReport, FoundDevice } from '../../shared/events/device-report.js';
import {
  SHARED_KEPT_COUNT,
  type SharedKind,
  ComputeReplySchema,
  type ComputeReply,
  type ComputeRequest,
  type JobProgress,
} from './compute-protocol.js';
import { warningEvent, type RunEventOf } from '../../shared/events/run-events.js';
import { counted } from '../../shared/names/counted.js';
import type { ChildProcess } from 'node:child_process';
import { errorFromRecord } from '../../shared/base/failure-record.js';
import type { COMPUTE_END_REASONS } from '../../shared/names/event-terms.js';

export interface ComputeProcessOptions {
  readonly clock: Clock;
  /**
   * The resident memory above which the process is replaced between two jobs; half of the machine's
   * memory by default.
   */
  readonly computeMemoryByteCountMax?: number;
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
}

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

  constructor(options: ComputeProcessOptions) {
    this.#options = options;
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
    const options = childOptionsOf(this.#options, isPortable);
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
      device: options.device ?? 'auto',
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
function childOptionsOf(options: ComputeProcessOptions, isPortable: boolean): ChildOptions {
  const { clock, device, entry, onEvent = () => undefined } = options;
  if (isPortable && device === 'gpu')
    throw new QianmoError({
      kind: 'environment',
      what: 'portable jobs are computed on CPUs, and this worker demands a GPU',
      cure: 'start a worker with --device auto or cpu, or remove compute.portable from the config',
      isOfThisMachine: true,
    });
  const environment = numericalEnvironment(options.environment, isPortable);
  const terms = { entry, environment, pluginArguments: pluginArguments() };
  return { forked: forkedEntry(terms), clock, onEvent };
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

/** Why the parent ended the process. */
type EndReason = (typeof COMPUTE_END_REASONS)[number];

export type ComputeEvent = RunEventOf<
  | 'compute-started'
  | 'compute-wrote'
  | 'compute-ready'
  | 'compute-ended'
  | 'warning'
  | 'backend-portable'
  | 'job-progress'
>;

interface ChildOptions {
  readonly forked: ChildProcess;
  readonly clock: Clock;
  readonly onEvent: (event: ComputeEvent) => void;
}

type ComputeAnswer = Extract<ComputeReply, { kind: 'ready' | 'done' }>;

interface ExchangeTerms {
  readonly timeoutMs: number;
  /** For error messages: `job 3 of outer step 7`. */
  readonly subject: string;
  /** The job whose progress is reported; absent at the start of the process. */
  readonly job?: Pick<Job, 'runId' | 'outerStep' | 'jobIndex'>;
}

interface Exchange extends ExchangeTerms {
  /** Null for the start of the process. */
  readonly requestId: number | null;
  readonly answer: Promise<ComputeAnswer>;
}

interface OpenExchange extends Exchange {
  readonly settled: AbortController;
  heartbeat: { readonly progress: JobProgress; readonly atMs: number } | null;
  resolve(answer: ComputeAnswer): void;
  reject(error: QianmoError): void;
}

const CLOSE_TIMEOUT_MS = 2_000;
const LINE_LENGTH_MAX = 4_000;
/** A custom reason avoids the exception that the platform would make for each job. */
const SETTLED = 'settled';
/** Lines that TensorFlow prints at every start, whatever its log level. */
const LIBRARY_CHATTER = /^(WARNING: All log messages before absl|I0000 |To enable the following)/;

/**
 * One compute process: the messages, the limits on the request that it works on, and its end. Requests are answered
 * in the order in which they were sent.
 */
export class ComputeChild {
  readonly pid: number;
  readonly #forked: ChildProcess;
  readonly #options: ChildOptions;
  /** The number of answers, including failures. */
  jobCount = 0;
  /** Resident memory at the latest answer. */
  residentByteCount = 0;
  #hasEnded = false;
  /** Set before the parent ends the process, so that the exit is reported with the right reason. */
  #endedBecause: EndReason | null = null;
  #failure: QianmoError | null = null;
  /** The first one is being worked on. */
  #open: OpenExchange[] = [];
  /** Requests that were taken back, and may be answered all the same. */
  readonly #dropped = new Set<number>();

  /** @param onEnd called once, when the process has ended. */
  constructor(options: ChildOptions, onEnd: () => void = () => undefined) {
    const { onEvent, forked } = options;
    this.#options = options;
    this.#forked = forked;
    // Without a pid the process could not be spawned; 'error' follows and ends the exchange.
    const pid = (this.pid = forked.pid ?? 0);
    onEvent({ kind: 'compute-started', pid });
    // The parent may be somebody's program, so it prints nothing itself.
    forEachLine(forked, (line) => onEvent({ kind: 'compute-wrote', pid, line }));
    const onGone = (how: string, signal: NodeJS.Signals | null): void => {
      if (!this.#hasEnded) onEnd();
      this.#hasEnded = true;
      this.#rejectAll(how, signal);
    };
    forked.on('message', (message) => {
      if (this.#endedBecause !== null) return;
      const parsed = ComputeReplySchema.safeParse(message);
      this.#receive(parsed.success ? parsed.data : null);
    });
    forked.on('error', (error) => onGone(error.message, null));
    forked.once('exit', (exitCode, signal) => {
      onGone(signal === null ? `exit code ${exitCode ?? 'unknown'}` : `signal ${signal}`, signal);
      const endedBecause = this.#endedBecause;
      onEvent({ kind: 'compute-ended', pid, exitCode, signal, endedBecause });
    });
  }

  /** Sends a message that has no answer. A lost channel is reported by the next request. */
  post(message: ComputeRequest): void {
    // Without a callback, a broken channel would be thrown as an uncaught error.
    this.#forked.send(message, () => undefined);
  }

  /** Sends a request, which is worked on when those before it have been answered. */
  send(
    request: Extract<ComputeRequest, { kind: 'start' | 'execute' }>,
    terms: ExchangeTerms,
  ): Exchange {
    let [resolve, reject]: [OpenExchange['resolve'], OpenExchange['reject']] = [
      () => undefined,
      () => undefined,
    ];
    const answer = new Promise<ComputeAnswer>((onAnswer, onError) => {
      [resolve, reject] = [onAnswer, onError];
    });
    // Avoids an unhandled rejection of a request that nobody waits for yet.
    answer.catch(() => undefined);
    const requestId = request.kind === 'execute' ? request.requestId : null;
    const settled = new AbortController();
    const exchange = { ...terms, requestId, answer, settled, heartbeat: null, resolve, reject };
    this.#open.push(exchange);
    if (this.#open.length === 1) void this.#watch(exchange);
    this.#forked.send(request, (error) => {
      if (error !== null && this.#open.includes(exchange))
        this.#killFor('lost-channel', endedError(exchange, error.message, null));
    });
    if (this.#hasEnded) this.#rejectAll('it had ended before', null);
    return exchange;
  }

  /** Waits for the answer. An abort ends the process, unless it has answered. */
  async answerTo(exchange: Exchange, signal?: AbortSignal): Promise<ComputeAnswer> {
    const onAbort = (): void => {
      const open = this.#open.find((each) => each === exchange);
      if (open !== undefined) this.#killFor('aborted', abortedError(this.#lastHeard(open)));
    };
    signal?.addEventListener('abort', onAbort, { once: true });
    if (signal?.aborted === true) onAbort();
    try {
      return await exchange.answer;
    } finally {
      signal?.removeEventListener('abort', onAbort);
    }
  }

  /** Takes a job back. If the process has begun it, its answer is ignored. */
  drop(exchange: Exchange): void {
    const { requestId } = exchange;
    if (requestId === null || !this.#open.some((each) => each === exchange)) return;
    this.#dropped.add(requestId);
    this.#close(exchange);
    this.post({ kind: 'drop', requestId });
  }

  kill(why: EndReason): void {
    this.#endedBecause ??= why;
    this.#forked.kill('SIGKILL');
  }

  /** Closes the channel, so that the process can finish its work, and kills it if it takes too long. */
  async endGracefully(why: EndReason): Promise<void> {
    if (this.#hasEnded) return;
    this.#endedBecause ??= why;
    const exited = new AbortController();
    const exit = new Promise<void>((resolve) => {
      this.#forked.once('exit', () => {
        exited.abort();
        resolve();
      });
    });
    if (this.#forked.connected) this.#forked.disconnect();
    await this.#options.clock.sleep(CLOSE_TIMEOUT_MS, exited.signal);
    if (!exited.signal.aborted) this.#forked.kill('SIGKILL');
    await exit;
  }

  #receive(reply: ComputeReply | null): void {
    if (reply?.kind === 'event') {
      this.#options.onEvent(reply.event);
      return;
    }
    const requestId = reply !== null && 'requestId' in reply ? reply.requestId : null;
    if (requestId !== null && this.#dropped.has(requestId)) return;
    const [first] = this.#open;
    const isExpected =
      reply !== null &&
      first !== undefined &&
      (requestId === first.requestId || (reply.kind === 'failed' && requestId === null));
    if (!isExpected) {
      this.#killFor('bad-message', badMessageError(first?.subject ?? ''));
      return;
    }
    if (reply.kind === 'progress') {
      this.#noteProgress(first, reply.progress);
      return;
    }
    this.#close(first);
    // Jobs are answered in turn, so an earlier one that was taken back was dropped in time.
    for (const id of this.#dropped) if (id < (requestId ?? 0)) this.#dropped.delete(id);
    if (reply.kind !== 'ready') {
      this.jobCount += 1;
      this.residentByteCount = reply.residentByteCount;
    }
    if (reply.kind === 'failed') first.reject(errorFromRecord(reply.report));
    else first.resolve(reply);
  }

  #noteProgress(exchange: OpenExchange, progress: JobProgress): void {
    exchange.heartbeat = { progress, atMs: this.#options.clock.monotonicMs() };
    if (exchange.job === undefined) return;
    const { runId, outerStep, jobIndex } = exchange.job;
    this.#options.onEvent({ kind: 'job-progress', runId, outerStep, jobIndex, ...progress });
  }

  #close(closed: Exchange): void {
    const [before] = this.#open;
    this.#open = this.#open.filter((each) => each !== closed);
    const [first] = this.#open;
    if (before === closed) before.settled.abort(SETTLED);
    if (first !== undefined && first !== before) void this.#watch(first);
  }

  /** The error is reported after the exit, because the next job must not meet the dying process. */
  #killFor(why: EndReason, error: QianmoError): void {
    this.#failure ??= error;
    this.kill(why);
    if (this.#hasEnded) this.#rejectAll('', null);
  }

  #rejectAll(how: string, signal: NodeJS.Signals | null): void {
    // A process that ended by itself says more than the channel that broke.
    const isOwnEnd = this.#endedBecause === 'lost-channel' && how !== '' && signal !== 'SIGKILL';
    for (const each of this.#open.splice(0)) {
      each.settled.abort(SETTLED);
      const failure = isOwnEnd ? null : this.#failure;
      each.reject(failure ?? endedError(each, how, signal, this.#lastHeard(each)));
    }
  }

  /** The latest report of a job; a starting process sends none. */
  #lastHeard({ heartbeat, requestId }: OpenExchange): { readonly found?: string } {
    if (requestId === null) return {};
    if (heartbeat === null) return { found: 'last heard: nothing about this job' };
    const { phase, microBatch } = heartbeat.progress;
    const doing =
      microBatch === undefined ? phase : `micro-batch ${microBatch.number} of ${microBatch.count}`;
    const agoMs = this.#options.clock.monotonicMs() - heartbeat.atMs;
    return { found: `last heard: ${doing}, ${(agoMs / 1000).toFixed(1)} s ago` };
  }

  /** Enforces the deadline. It begins when the process has answered the request before. */
  async #watch(exchange: OpenExchange): Promise<void> {
    const { timeoutMs, subject, settled } = exchange;
    await this.#options.clock.sleep(timeoutMs, settled.signal);
    if (settled.signal.aborted) return;
    const error = errorOf('transient', `${subject} passed its deadline`, {
      expected: `an answer within ${timeoutMs} ms`,
      ...this.#lastHeard(exchange),
      cure: `${TRY_AGAIN}; if it repeats, raise queue.jobTimeoutMs or lower training.microBatchRowsMax`,
    });
    this.#killFor('deadline', error);
  }
}

/** Passes on the lines of standard error. */
function forEachLine({ stderr }: ChildProcess, tell: (line: string) => void): void {
  let begun = '';
  const end = (): void => {
    const line = begun.replace(/\r$/, '');
    begun = '';
    if (line !== '' && !LIBRARY_CHATTER.test(line)) tell(line);
  };
  stderr
    ?.setEncoding('utf8')
    .on('data', (text: string) => {
      for (const [index, part] of text.split('\n').entries()) {
        if (index > 0) end();
        begun += part.slice(0, LINE_LENGTH_MAX - begun.length);
      }
    })
    .on('close', end);
}

const TRY_AGAIN = 'no action needed: the job is retried in a new process';

/** The usual cause of each fatal signal in a process that runs native code. */
const CURE_BY_SIGNAL: Readonly<Record<string, string>> = {
  SIGKILL:
    'usually the kernel, because memory ran out: lower training.microBatchRowsMax ' +
    'or the number of workers on this machine',
  SIGABRT:
    'native code aborted, usually for lack of memory: see its last lines above, and lower ' +
    'training.microBatchRowsMax',
  SIGSEGV: 'native code crashed: if one job causes it on every machine, report it with the config',
  SIGBUS: 'native code crashed, or a mapped file was truncated: check whether the disk is full',
  SIGILL:
    'this processor lacks an instruction that the library uses: run the worker on another machine',
  SIGFPE: 'native code divided by zero: report it with the config',
};

function endedError(
  { subject }: ExchangeTerms,
  how: string,
  signal: NodeJS.Signals | null,
  lastHeard: { readonly found?: string } = {},
): QianmoError {
  const known = signal === null ? undefined : CURE_BY_SIGNAL[signal];
  return errorOf('transient', `the compute process ended during ${subject}: ${how}`, {
    ...lastHeard,
    cure: `${TRY_AGAIN}; if it repeats: ${known ?? 'check whether memory runs out'}`,
  });
}

function badMessageError(subject: string): QianmoError {
  return errorOf('transient', `the compute process sent an invalid answer during ${subject}`, {
    cure: `${TRY_AGAIN}; if it repeats, rebuild: npm run build`,
  });
}

function abortedError(lastHeard: { readonly found?: string } = {}): QianmoError {
  return new QianmoError({ kind: 'interrupted', what: 'the job was aborted', ...lastHeard });
}
