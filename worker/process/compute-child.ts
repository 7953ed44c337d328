/**
 * One compute process, seen from its parent: the messages, the limits on the request that it works on, and its end.
 * Requests are answered in the order in which they were sent. `compute-process.ts` makes the next process.
 */

import type { ChildProcess } from 'node:child_process';
import type { Clock } from '../../shared/base/clock.js';
import { QianmoError } from '../../shared/base/errors.js';
import { errorFromRecord } from '../../shared/base/failure-record.js';
import type { COMPUTE_END_REASONS } from '../../shared/names/event-terms.js';
import type { RunEventOf } from '../../shared/events/run-events.js';
import type { Job } from '../../shared/queue/protocol.js';
import type { ForkedEntry } from './forked-entry.js';
import {
  ComputeReplySchema,
  type ComputeReply,
  type ComputeRequest,
  type JobProgress,
} from './compute-protocol.js';

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

export interface ChildOptions {
  readonly forked: ForkedEntry;
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

export interface Exchange extends ExchangeTerms {
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
    this.#forked = forked.process;
    // Without a pid the process could not be spawned; 'error' follows and ends the exchange.
    const pid = (this.pid = forked.process.pid ?? 0);
    onEvent({ kind: 'compute-started', pid });
    // The parent may be somebody's program, so it prints nothing itself.
    forEachLine(forked.process, (line) => onEvent({ kind: 'compute-wrote', pid, line }));
    const onGone = (how: string, signal: NodeJS.Signals | null): void => {
      if (!this.#hasEnded) onEnd();
      this.#hasEnded = true;
      this.#rejectAll(how, signal);
    };
    forked.listen({
      onMessage: (message) => {
        if (this.#endedBecause !== null) return;
        const parsed = ComputeReplySchema.safeParse(message);
        this.#receive(parsed.success ? parsed.data : null);
      },
      onError: (error) => onGone(error.message, null),
      onExit: (exitCode, signal) => {
        onGone(signal === null ? `exit code ${exitCode ?? 'unknown'}` : `signal ${signal}`, signal);
        const endedBecause = this.#endedBecause;
        onEvent({ kind: 'compute-ended', pid, exitCode, signal, endedBecause });
      },
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
    const error = new QianmoError({
      kind: 'transient',
      what: `${subject} passed its deadline`,
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
  return new QianmoError({
    kind: 'transient',
    what: `the compute process ended during ${subject}: ${how}`,
    ...lastHeard,
    cure: `${TRY_AGAIN}; if it repeats: ${known ?? 'check whether memory runs out'}`,
  });
}

function badMessageError(subject: string): QianmoError {
  return new QianmoError({
    kind: 'transient',
    what: `the compute process sent an invalid answer during ${subject}`,
    cure: `${TRY_AGAIN}; if it repeats, rebuild: npm run build`,
  });
}

export function abortedError(lastHeard: { readonly found?: string } = {}): QianmoError {
  return new QianmoError({ kind: 'interrupted', what: 'the job was aborted', ...lastHeard });
}
