/**
 * One compute process, seen from its parent: the fork, the messages, the limits on a running request
 * and the end. An instance is used for one process; `compute-process.ts` makes the next one.
 */

import type { ChildProcess } from 'node:child_process';
import type { Clock } from '../../shared/base/clock.js';
import type { QianmoError } from '../../shared/base/errors.js';
import { errorFromRecord } from '../../shared/base/failure-record.js';
import type { COMPUTE_END_REASONS } from '../../shared/names/event-terms.js';
import type { RunEventOf } from '../../shared/events/run-events.js';
import type { Job } from '../../shared/queue/protocol.js';
import {
  abortedError,
  badMessageError,
  deadlineError,
  endedError,
  endOf,
  lastHeardOf,
  silentError,
  type Heartbeat,
} from './compute-failures.js';
import { ComputeLines } from './compute-lines.js';
import type { ForkedEntry } from './forked-entry.js';
import {
  ComputeReplySchema,
  type ComputeReply,
  type ComputeRequest,
  type JobProgress,
} from './compute-protocol.js';

/** A reply that belongs to a job. */
type JobReply = Extract<ComputeReply, { kind: 'done' | 'failed' | 'progress' }>;

interface JobAhead {
  heartbeat: Heartbeat | null;
  answer: Exclude<JobReply, { kind: 'progress' }> | null;
}

class JobsAhead {
  readonly #byRequest = new Map<number, JobAhead>();
  /** Requests that were taken back, and may be answered all the same. */
  readonly #forgotten = new Set<number>();

  has(requestId: number): boolean {
    return this.#byRequest.has(requestId);
  }

  add(requestId: number): void {
    this.#byRequest.set(requestId, { heartbeat: null, answer: null });
  }

  /** Returns what was said about a job that is waited for from now on. */
  take(requestId: number): JobAhead | null {
    const job = this.#byRequest.get(requestId) ?? null;
    this.#byRequest.delete(requestId);
    return job;
  }

  forget(requestId: number): void {
    if (this.#byRequest.delete(requestId)) this.#forgotten.add(requestId);
  }

  /** Jobs are answered in turn, so an earlier one that was taken back was dropped in time. */
  answered(requestId: number): void {
    for (const earlier of this.#forgotten) if (earlier < requestId) this.#forgotten.delete(earlier);
  }

  /** Returns false for a reply that belongs to no job ahead. */
  keep(reply: JobReply, nowMs: number): boolean {
    const { requestId } = reply;
    if (requestId === null) return false;
    if (this.#forgotten.has(requestId)) {
      if (reply.kind !== 'progress') this.#forgotten.delete(requestId);
      return true;
    }
    const job = this.#byRequest.get(requestId);
    if (job === undefined || job.answer !== null) return false;
    if (reply.kind === 'progress') job.heartbeat = { progress: reply.progress, atMs: nowMs };
    else job.answer = reply;
    return true;
  }
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

export interface ChildOptions {
  readonly forked: ForkedEntry;
  readonly clock: Clock;
  readonly onEvent: (event: ComputeEvent) => void;
}

/** An answer that completes a request. */
type ComputeAnswer = Extract<ComputeReply, { kind: 'ready' | 'done' }>;

interface ExchangeTerms<Kind extends ComputeAnswer['kind']> {
  readonly request: Extract<ComputeRequest, { kind: 'start' | 'execute' }>;
  readonly answer: Kind;
  readonly timeoutMs: number;
  /** The longest silence while the child's thread is free; null for no limit. */
  readonly silenceMsMax: number | null;
  readonly signal: AbortSignal | undefined;
  /** For error messages: `job 3 of outer step 7`. */
  readonly subject: string;
  /** The job whose progress is reported; null at the start of the process. */
  readonly job: Pick<Job, 'runId' | 'outerStep' | 'jobIndex'> | null;
}

const CLOSE_TIMEOUT_MS = 2_000;
/** A reason of one's own spares the exception, with its stack, that the platform would make for each job. */
const SETTLED = 'settled';

type ExchangeEnd = { readonly answer: ComputeAnswer } | { readonly error: QianmoError };

interface OpenExchange {
  readonly terms: ExchangeTerms<ComputeAnswer['kind']>;
  heartbeat: Heartbeat | null;
  finish(end: ExchangeEnd): void;
}

export class ComputeChild {
  readonly pid: number;
  readonly #forked: ChildProcess;
  readonly #options: ChildOptions;
  #jobCount = 0;
  #residentByteCount = 0;
  #hasEnded = false;
  /** Set before the parent ends the process, so that the exit is reported with the right reason. */
  #endedBecause: EndReason | null = null;
  #open: OpenExchange | null = null;
  readonly #ahead = new JobsAhead();

  /** @param onEnd called once, when the process has ended. */
  constructor(options: ChildOptions, onEnd: () => void = () => undefined) {
    const { onEvent, forked } = options;
    this.#options = options;
    this.#forked = forked.process;
    // Without a pid the process could not be spawned; 'error' follows and ends the exchange.
    this.pid = forked.process.pid ?? 0;
    onEvent({ kind: 'compute-started', pid: this.pid });
    this.#tellLines();
    const onGone = (how: string, signal: NodeJS.Signals | null): void => {
      if (!this.#hasEnded) onEnd();
      this.#hasEnded = true;
      const end = endedError(this.#open?.terms.subject ?? '', { how, signal }, this.#lastHeard());
      this.#settle({ error: end });
    };
    forked.listen({
      onMessage: (message) => {
        if (this.#endedBecause !== null) return;
        const parsed = ComputeReplySchema.safeParse(message);
        this.#receive(parsed.success ? parsed.data : null);
      },
      onError: (error) => onGone(error.message, null),
      onExit: (code, signal) => {
        onGone(endOf(code, signal), signal);
        onEvent({
          kind: 'compute-ended',
          pid: this.pid,
          exitCode: code,
          signal,
          endedBecause: this.#endedBecause,
        });
      },
    });
  }

  /** The number of answers, including failures. */
  get jobCount(): number {
    return this.#jobCount;
  }

  /** Resident memory at the latest answer. */
  get residentByteCount(): number {
    return this.#residentByteCount;
  }

  /** Sends a message that has no answer. A lost channel is reported by the next exchange. */
  post(message: ComputeRequest): void {
    // Without a callback, a broken channel would be thrown as an uncaught error.
    this.#forked.send(message, () => undefined);
  }

  /** Whether a job is waited for. */
  get isComputing(): boolean {
    return this.#open?.terms.request.kind === 'execute';
  }

  /** Has the process compute a prepared job once those before it have ended, unless it was told before. */
  begin(requestId: number): void {
    if (this.#ahead.has(requestId)) return;
    this.#ahead.add(requestId);
    this.post({ kind: 'execute', requestId });
  }

  hasBegun(requestId: number): boolean {
    return this.#ahead.has(requestId);
  }

  /** Takes a prepared job back. Its answer, if it was begun before, is ignored. */
  forget(requestId: number): void {
    this.#ahead.forget(requestId);
    this.post({ kind: 'forget', requestId });
  }

  /**
   * Waits for the answer, the end of the process, a limit or an abort. One exchange at a time. A job has
   * begun before.
   */
  exchange<Kind extends ComputeAnswer['kind']>(
    terms: ExchangeTerms<Kind>,
  ): Promise<Extract<ComputeAnswer, { kind: Kind }>> {
    const { signal, subject } = terms;
    return new Promise((resolve, reject) => {
      const settled = new AbortController();
      const exchange: OpenExchange = {
        terms,
        heartbeat: null,
        finish: (end) => {
          settled.abort(SETTLED);
          signal?.removeEventListener('abort', onAbort);
          if ('error' in end) reject(end.error);
          else if (isAnswer(end.answer, terms.answer)) resolve(end.answer);
          else reject(badMessageError(subject));
        },
      };
      const onAbort = (): void => this.#killFor('aborted', abortedError(this.#lastHeard()));
      this.#open = exchange;
      signal?.addEventListener('abort', onAbort, { once: true });
      this.#startOrFollow(exchange);
      if (this.#open !== exchange) return;
      void this.#watch(exchange, settled.signal);
      if (signal?.aborted === true) onAbort();
    });
  }

  /** Sends the request, or goes on from what has been said about a job that has begun. */
  #startOrFollow(exchange: OpenExchange): void {
    const { request, subject, job } = exchange.terms;
    const ahead = request.kind === 'execute' ? this.#ahead.take(request.requestId) : null;
    if (ahead !== null && ahead.heartbeat !== null) {
      exchange.heartbeat = ahead.heartbeat;
      this.#tellProgress(job, ahead.heartbeat.progress);
    }
    if (ahead !== null && ahead.answer !== null) {
      this.#settle(this.#endBy(ahead.answer));
      return;
    }
    const onSent = (error: Error | null): void => {
      if (error === null || this.#open !== exchange) return;
      this.#killFor('lost-channel', () => this.#lostChannelError(subject, error));
    };
    if (ahead === null) this.#forked.send(request, onSent);
    else if (this.#hasEnded || !this.#forked.connected) onSent(new Error('the channel is closed'));
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
    const open = this.#open;
    if (reply?.kind === 'done' && reply.next !== undefined) this.#tellsOfNext(reply.next);
    if (reply !== null && reply.kind !== 'ready' && this.#isAhead(reply)) return;
    if (open === null || reply === null || !isOf(reply, requestIdOf(open))) {
      this.#killFor('bad-message', badMessageError(open?.terms.subject ?? ''));
      return;
    }
    if (reply.kind === 'progress') {
      open.heartbeat = {
        progress: reply.progress,
        atMs: this.#options.clock.monotonicMs(),
      };
      this.#tellProgress(open.terms.job, reply.progress);
      return;
    }
    this.#settle(this.#endBy(reply));
    this.#ahead.answered(requestIdOf(open) ?? 0);
  }

  #endBy(reply: Extract<ComputeReply, { kind: 'ready' | 'done' | 'failed' }>): ExchangeEnd {
    if (reply.kind !== 'ready') {
      this.#jobCount += 1;
      this.#residentByteCount = reply.residentByteCount;
    }
    return reply.kind === 'failed' ? { error: errorFromRecord(reply.report) } : { answer: reply };
  }

  /** The thread may be blocked from now on. While it is free, the process says so at intervals. */
  #tellsOfNext(requestId: number): void {
    this.#isAhead({ kind: 'progress', requestId, progress: { phase: 'computing' } });
  }

  #isAhead(reply: JobReply): boolean {
    return this.#ahead.keep(reply, this.#options.clock.monotonicMs());
  }

  /** The parent may be somebody's program, so it prints nothing itself. */
  #tellLines(): void {
    const { clock, onEvent } = this.#options;
    const lines = new ComputeLines(clock, (line, leftOutCount) =>
      onEvent({
        ...{ kind: 'compute-wrote', pid: this.pid, line },
        ...(leftOutCount === 0 ? {} : { leftOutCount }),
      }),
    );
    const errors = this.#forked.stderr?.setEncoding('utf8');
    errors?.on('data', (text: string) => lines.write(text)).on('close', () => lines.end());
  }

  #tellProgress(job: ExchangeTerms<'done'>['job'], progress: JobProgress): void {
    if (job === null) return;
    const { runId, outerStep, jobIndex } = job;
    this.#options.onEvent({ kind: 'job-progress', runId, outerStep, jobIndex, ...progress });
  }

  #settle(end: ExchangeEnd): void {
    const open = this.#open;
    this.#open = null;
    open?.finish(end);
  }

  /** The error is reported after the exit, because the next job must not meet the dying process. */
  #killFor(why: EndReason, error: QianmoError | (() => QianmoError)): void {
    const open = this.#open;
    this.#open = null;
    this.kill(why);
    const finish = (): void =>
      open?.finish({ error: typeof error === 'function' ? error() : error });
    if (this.#hasEnded) finish();
    else this.#forked.once('exit', finish);
  }

  /**
   * The error of a channel that broke. If the process had already ended by itself, its exit code or
   * signal is reported, because it says more than the broken channel.
   */
  #lostChannelError(subject: string, { message }: Error): QianmoError {
    const { exitCode, signalCode } = this.#forked;
    const wasAlive = signalCode === 'SIGKILL';
    const how = wasAlive ? message : endOf(exitCode, signalCode);
    return endedError(subject, { how, signal: wasAlive ? null : signalCode });
  }

  /** The last sign of life during a job; a starting process sends none. */
  #lastHeard(): string | undefined {
    if (this.#open?.terms.request.kind !== 'execute') return undefined;
    return lastHeardOf(this.#open.heartbeat, this.#options.clock.monotonicMs());
  }

  /** Enforces the limits until the exchange is settled. */
  async #watch(exchange: OpenExchange, settled: AbortSignal): Promise<void> {
    const { timeoutMs, silenceMsMax, subject } = exchange.terms;
    const { clock } = this.#options;
    const startMs = clock.monotonicMs();
    while (this.#open === exchange) {
      const leftMs = timeoutMs - (clock.monotonicMs() - startMs);
      if (leftMs <= 0) {
        this.#killFor('deadline', deadlineError(subject, timeoutMs, this.#lastHeard()));
        return;
      }
      const heardMs = exchange.heartbeat?.atMs ?? startMs;
      if (silenceMsMax !== null && !isBlocked(exchange.heartbeat)) {
        const silentMs = clock.monotonicMs() - heardMs;
        if (silentMs >= silenceMsMax) {
          this.#killFor('silent', silentError(subject, silenceMsMax, this.#lastHeard()));
          return;
        }
      }
      await clock.sleep(Math.min(leftMs, silenceMsMax ?? leftMs), settled);
    }
  }
}

function requestIdOf({ terms: { request } }: OpenExchange): number | null {
  return request.kind === 'execute' ? request.requestId : null;
}

/** Returns whether a reply belongs to the current request; a second answer to an earlier request does not. */
function isOf(reply: ComputeReply, requestId: number | null): boolean {
  if (reply.kind === 'ready') return requestId === null;
  if (reply.kind === 'failed') return reply.requestId === null || reply.requestId === requestId;
  return 'requestId' in reply && reply.requestId === requestId;
}

function isAnswer<Kind extends ComputeAnswer['kind']>(
  answer: ComputeAnswer,
  kind: Kind,
): answer is Extract<ComputeAnswer, { kind: Kind }> {
  return answer.kind === kind;
}

/** In these phases the thread is busy, so silence does not mean a problem. */
function isBlocked(heartbeat: Heartbeat | null): boolean {
  return heartbeat !== null && heartbeat.progress.phase !== 'reading';
}
