/**
 * The parent's side of the compute process: forks it, hands it one job at a time, ends it when a
 * job passes its deadline and starts a fresh one. Imports no tensor library: whoever talks to the
 * queue must never be blocked by one.
 */

import { fork, type ChildProcess } from 'node:child_process';
import { existsSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { systemClock, type Clock } from '../shared/clock.js';
import { QianmoError } from '../shared/errors.js';
import type { JobExecutor, JobInput, JobOutput } from '../shared/job-executor.js';
import {
  ComputeReplySchema,
  errorFromRecord,
  type BackendChoice,
  type ComputeReply,
  type ComputeRequest,
} from './compute-protocol.js';

export type ComputeEvent =
  | { readonly kind: 'started'; readonly pid: number }
  | { readonly kind: 'ready'; readonly pid: number; readonly backend: string }
  | { readonly kind: 'warning'; readonly message: string }
  /** Why: `deadline`, `aborted`, `closed`, `bad message` or how the process ended by itself. */
  | { readonly kind: 'ended'; readonly pid: number; readonly why: string };

export interface ComputeProcessOptions {
  readonly clock: Clock;
  /** Bound on the rows a store keeps decoded in memory. */
  readonly storeCacheByteCountMax?: number;
  readonly backend?: BackendChoice;
  readonly onEvent?: (event: ComputeEvent) => void;
  /** Compiled entry to fork; tests put a misbehaving one here. */
  readonly entry?: string;
}

const STORE_CACHE_BYTE_COUNT_MAX = 256 * 1024 * 1024;
/** Loading TensorFlow takes a second or two; a machine under load, many more. */
const START_TIMEOUT_MS = 120_000;
const CLOSE_TIMEOUT_MS = 2_000;
/** What TensorFlow prints at every start whatever its log level is set to. */
const LIBRARY_CHATTER = /^(WARNING: All log messages before absl|I0000 |To enable the following)/;

interface Child {
  readonly process: ChildProcess;
  readonly pid: number;
  /** Set before this side ends it, so that the exit is reported as what it is. */
  endedBecause: string | null;
}

/**
 * An executor in a child process. The child is started by the first job and again by the first
 * job after it ended; jobs given at once are computed one after the other.
 *
 * Its errors: `transient` when the process ended or passed `job.timeoutMs`, `interrupted` when the
 * signal aborted, and whatever the child reports.
 */
export function createComputeProcess(options: ComputeProcessOptions): JobExecutor {
  const { clock, onEvent = () => undefined } = options;
  const entry = options.entry ?? compiledEntry();
  let child: Child | null = null;
  let isClosed = false;
  let requestCount = 0;
  let turn: Promise<unknown> = Promise.resolve();

  const start = async (signal?: AbortSignal): Promise<Child> => {
    const started = forkEntry(entry, onEvent, (ended) => {
      if (child === ended) child = null;
    });
    child = started;
    await startUp(started, options, signal).catch((error: unknown) => {
      // What did not start is of no use to the next job.
      if (child === started) child = null;
      started.process.kill('SIGKILL');
      throw error;
    });
    return started;
  };

  const executeNow = async (input: JobInput, signal?: AbortSignal): Promise<JobOutput> => {
    if (isClosed) throw closedError();
    if (signal?.aborted === true) throw abortedError();
    const { job, dense, rowPack } = input;
    const running = child ?? (await start(signal));
    requestCount += 1;
    const requestId = requestCount;
    const done = await exchange(running, {
      clock,
      onEvent,
      request: { kind: 'execute', requestId, job, dense, rowPack },
      isAnswer: (reply) => reply.kind === 'done' && reply.requestId === requestId,
      timeoutMs: job.timeoutMs,
      signal,
      subject: `job ${job.jobIndex} of outer step ${job.outerStep}`,
    });
    if (done.kind !== 'done') throw new Error('the answer was checked to be a result');
    const { kind: _kind, requestId: _id, ...output } = done;
    return output;
  };

  return {
    execute: (input, signal) => {
      const result = turn.then(() => executeNow(input, signal));
      turn = result.catch(() => undefined);
      return result;
    },
    close: async () => {
      isClosed = true;
      if (child !== null) await endGracefully(child, clock);
    },
  };
}

/** Waits until the child has loaded its backend and returns the backend's description. */
async function startUp(
  child: Child,
  options: ComputeProcessOptions,
  signal?: AbortSignal,
): Promise<string> {
  const { clock, onEvent = () => undefined } = options;
  const ready = await exchange(child, {
    clock,
    onEvent,
    request: {
      kind: 'start',
      backend: options.backend ?? 'auto',
      storeCacheByteCountMax: options.storeCacheByteCountMax ?? STORE_CACHE_BYTE_COUNT_MAX,
    },
    isAnswer: (reply) => reply.kind === 'ready',
    timeoutMs: START_TIMEOUT_MS,
    signal,
    subject: 'the start of the compute process',
  });
  if (ready.kind !== 'ready') throw new Error('the answer was checked to be a start');
  onEvent({ kind: 'ready', pid: child.pid, backend: ready.backend });
  return ready.backend;
}

/** What jobs would be computed on here: starts a compute process and ends it again. */
export async function describeComputeBackend(
  options: ComputeProcessOptions = { clock: systemClock },
): Promise<{ readonly isNative: boolean; readonly description: string }> {
  const child = forkEntry(options.entry ?? compiledEntry(), options.onEvent ?? (() => undefined));
  try {
    const description = await startUp(child, options);
    return { isNative: description.startsWith('tfjs-node'), description };
  } finally {
    await endGracefully(child, options.clock);
  }
}

/** The entry compiled to `dist/`, also when this file runs as TypeScript source. */
function compiledEntry(): string {
  const here = import.meta.url;
  const relative = here.endsWith('.ts') ? '../dist/worker/compute/main.js' : './compute/main.js';
  return fileURLToPath(new URL(relative, here));
}

function forkEntry(
  entry: string,
  onEvent: (event: ComputeEvent) => void,
  onEnd: (child: Child) => void = () => undefined,
): Child {
  if (!existsSync(entry))
    throw new QianmoError({
      kind: 'environment',
      what: 'the compute process is not built',
      where: entry,
      cure: 'run: npm run build',
    });
  const forked = fork(entry, [], {
    serialization: 'advanced',
    execArgv: [],
    stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
  });
  if (forked.stderr !== null)
    createInterface({ input: forked.stderr }).on('line', (line) => {
      if (!LIBRARY_CHATTER.test(line)) process.stderr.write(`${line}\n`);
    });
  // No pid means that it could not be spawned; 'error' follows and ends the exchange.
  const child: Child = { process: forked, pid: forked.pid ?? 0, endedBecause: null };
  onEvent({ kind: 'started', pid: child.pid });
  forked.on('error', () => onEnd(child));
  forked.once('exit', (code, signal) => {
    onEnd(child);
    onEvent({ kind: 'ended', pid: child.pid, why: child.endedBecause ?? endOf(code, signal) });
  });
  return child;
}

interface Exchange {
  readonly clock: Clock;
  readonly onEvent: (event: ComputeEvent) => void;
  readonly request: ComputeRequest;
  readonly isAnswer: (reply: ComputeReply) => boolean;
  readonly timeoutMs: number;
  readonly signal: AbortSignal | undefined;
  readonly subject: string;
}

/** Sends one request and waits for its answer, the end of the process, the deadline or an abort. */
function exchange(child: Child, terms: Exchange): Promise<ComputeReply> {
  const { clock, request, timeoutMs, signal, subject } = terms;
  const forked = child.process;
  return new Promise((resolve, reject) => {
    const watch = new AbortController();
    const settle = (finish: () => void): void => {
      if (watch.signal.aborted) return;
      watch.abort();
      forked.off('message', onMessage).off('exit', onExit).off('error', onError);
      signal?.removeEventListener('abort', onAbort);
      finish();
    };
    const kill = (why: string, error: QianmoError): void =>
      settle(() => {
        child.endedBecause = why;
        // The next job must find it gone, so the answer waits for the exit.
        if (forked.exitCode !== null || forked.signalCode !== null) {
          reject(error);
          return;
        }
        forked.once('exit', () => reject(error));
        forked.kill('SIGKILL');
      });
    const onMessage = (message: unknown): void => {
      const parsed = ComputeReplySchema.safeParse(message);
      const reply = parsed.success ? parsed.data : null;
      if (reply?.kind === 'warning') terms.onEvent({ kind: 'warning', message: reply.message });
      else if (reply?.kind === 'failed') settle(() => reject(errorFromRecord(reply.report)));
      else if (reply !== null && terms.isAnswer(reply)) settle(() => resolve(reply));
      else kill('bad message', badMessageError(subject));
    };
    const onExit = (code: number | null, ended: NodeJS.Signals | null): void =>
      settle(() => reject(endedError(subject, endOf(code, ended))));
    const onError = (error: Error): void =>
      settle(() => reject(endedError(subject, error.message)));
    const onAbort = (): void => kill('aborted', abortedError());

    forked.on('message', onMessage).on('exit', onExit).on('error', onError);
    signal?.addEventListener('abort', onAbort, { once: true });
    // The callback keeps a broken channel from being thrown as an uncaught error.
    forked.send(request, (error) => {
      if (error !== null) onError(error);
    });
    void clock.sleep(timeoutMs, watch.signal).then(() => {
      if (!watch.signal.aborted) kill('deadline', deadlineError(subject, timeoutMs));
    });
    if (signal?.aborted === true) onAbort();
  });
}

/** Closing the channel lets the child finish what it does; then it is killed. */
async function endGracefully(child: Child, clock: Clock): Promise<void> {
  const forked = child.process;
  if (forked.exitCode !== null || forked.signalCode !== null) return;
  child.endedBecause = 'closed';
  const exited = new AbortController();
  const exit = new Promise<void>((resolve) => {
    forked.once('exit', () => {
      exited.abort();
      resolve();
    });
  });
  if (forked.connected) forked.disconnect();
  await clock.sleep(CLOSE_TIMEOUT_MS, exited.signal);
  if (!exited.signal.aborted) forked.kill('SIGKILL');
  await exit;
}

function endOf(code: number | null, signal: NodeJS.Signals | null): string {
  return signal === null ? `exit code ${code ?? 'unknown'}` : `signal ${signal}`;
}

const TRY_AGAIN = 'nothing: the job is tried again in a fresh process';

function endedError(subject: string, found: string): QianmoError {
  return new QianmoError({
    kind: 'transient',
    what: `the compute process ended during ${subject}: ${found}`,
    cure: `${TRY_AGAIN}; if it repeats, look for lack of memory`,
  });
}

function deadlineError(subject: string, timeoutMs: number): QianmoError {
  return new QianmoError({
    kind: 'transient',
    what: `${subject} passed its deadline`,
    expected: `an answer within ${timeoutMs} ms`,
    cure: `${TRY_AGAIN}; if it repeats, raise queue.jobTimeoutMs or lower training.tasksPerJob`,
  });
}

function badMessageError(subject: string): QianmoError {
  return new QianmoError({
    kind: 'transient',
    what: `the compute process sent a message that is no answer during ${subject}`,
    cure: `${TRY_AGAIN}; if it repeats, rebuild: npm run build`,
  });
}

function abortedError(): QianmoError {
  return new QianmoError({ kind: 'interrupted', what: 'the job was aborted' });
}

function closedError(): QianmoError {
  return new QianmoError({ kind: 'interrupted', what: 'the compute process was closed' });
}
