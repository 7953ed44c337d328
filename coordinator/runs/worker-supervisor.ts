/**
 * Starts local worker processes, restarts those that end, and lets none outlive it: `stop` ends them
 * in bounded time, and a worker whose supervisor was killed sees its channel close and exits. Passes
 * on their events. Knows nothing of jobs: a dead worker's job comes back through the queue.
 */

import { type ChildProcess, spawn } from 'node:child_process';
import type { Clock } from '../../shared/base/clock.js';
import { QianmoError } from '../../shared/base/errors.js';
import { endInTime, superviseProcess } from '../../shared/base/supervise.js';
import { parseEventLine } from '../../shared/events/event-lines.js';
import {
  type RunEventOf,
  type RunEventSink,
  noticeEvent,
  toldBy,
  warningEvent,
} from '../../shared/events/run-events.js';

export interface WorkerCommand {
  readonly path: string;
  /** The arguments of a worker, counted from 0; the same at every restart. */
  readonly argsOf: (index: number) => readonly string[];
  readonly env: Readonly<Record<string, string | undefined>>;
}

interface SuperviseWorkersOptions {
  readonly count: number;
  readonly command: WorkerCommand;
  readonly clock: Clock;
  readonly sink: RunEventSink;
  /** The limit on restarts, counted over all workers. One is forgotten every minute. */
  readonly restartsMax: number;
}

interface SupervisedWorkers {
  /** The processes that run at present. */
  pids(): number[];
  /** Ends all workers and resolves when the last one has exited. */
  stop(): Promise<void>;
}

/** A worker that was asked to stop is killed after this time; it hands its job back within 5 s. */
const STOP_TIMEOUT_MS = 7_000;
/** A run of weeks must not end because something fails once a day. */
const RESTART_FORGOTTEN_MS = 60_000;
const LAST_WORDS_LENGTH_MAX = 4_000;

export function superviseWorkers(options: SuperviseWorkersOptions): SupervisedWorkers {
  const { count, command, clock, sink: sinkOfAll, restartsMax } = options;
  const stopping = new AbortController();
  const running = new Set<ChildProcess>();
  const mayRestart = restartBudget(restartsMax, clock);
  const lives = Array.from({ length: count }, (_, index) => {
    const sink = toldBy({ workerIndex: index }, sinkOfAll);
    return superviseProcess({
      ...{ clock, stopping: stopping.signal },
      runOnce: () => runWorkerOnce(command, index, sink, running),
      onEnd: ({ event, worker }) => {
        sink(event, { worker });
        if (mayRestart()) return true;
        const text = `not started again: ${restartsMax} restarts are used up`;
        sink(warningEvent('worker-given-up', text));
        return false;
      },
      onRestart: () => sink(noticeEvent('worker-restarted', 'started again')),
    });
  });
  return {
    pids: () => [...running].flatMap(({ pid }) => pid ?? []),
    stop: async () => {
      stopping.abort();
      for (const child of running) child.kill('SIGTERM');
      await endInTime(running, Promise.all(lives), { clock, graceMs: STOP_TIMEOUT_MS });
    },
  };
}

/** Returns a function that counts a restart, and returns false if they are used up. */
function restartBudget(restartsMax: number, clock: Clock): () => boolean {
  let count = 0;
  let countedMs = clock.monotonicMs();
  return () => {
    const nowMs = clock.monotonicMs();
    count = Math.max(0, count - (nowMs - countedMs) / RESTART_FORGOTTEN_MS);
    countedMs = nowMs;
    if (count + 1 > restartsMax) return false;
    count += 1;
    return true;
  };
}

interface WorkerEnd {
  readonly event: RunEventOf<'worker-exited'>;
  /** The name of the worker, if it sent an event. */
  readonly worker: string | undefined;
}

/** Resolves when the process has ended. Passes on its events until then. */
function runWorkerOnce(
  { path, argsOf, env }: WorkerCommand,
  index: number,
  sink: RunEventSink,
  running: Set<ChildProcess>,
): Promise<WorkerEnd> {
  const child = spawn(path, [...argsOf(index)], {
    env,
    stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
    // A separate session, because the coordinator handles Ctrl-C on the terminal.
    detached: true,
  });
  running.add(child);
  let lastWords = '';
  child.stderr?.setEncoding('utf8').on('data', (text: string) => {
    lastWords = (lastWords + text).slice(-LAST_WORDS_LENGTH_MAX);
  });
  let worker: string | undefined;
  let isMisunderstood = false;
  child.on('message', (message) => {
    try {
      const event = parseEventLine(typeof message === 'string' ? message : 'no text');
      worker = event.worker ?? worker;
      sink(event, event);
    } catch (error) {
      if (!(error instanceof QianmoError)) throw error;
      // Reported once for each process.
      if (isMisunderstood) return;
      isMisunderstood = true;
      const text = `sent a message that is not an event: ${error.report.found ?? error.message}`;
      sink(warningEvent('worker-misunderstood', text));
    }
  });
  return new Promise((resolve) => {
    const finish = (end: Pick<WorkerEnd['event'], 'exitCode' | 'signal' | 'reason'>): void => {
      running.delete(child);
      const pid = child.pid ?? 0;
      const event = { kind: 'worker-exited', pid, ...end, lastWords: lastWords.trim() } as const;
      resolve({ event, worker });
    };
    child.once('error', ({ message }) => finish({ exitCode: null, signal: null, reason: message }));
    child.once('close', (exitCode, signal) => finish({ exitCode, signal, reason: null }));
  });
}
