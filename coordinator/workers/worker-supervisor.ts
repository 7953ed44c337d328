/**
 * Starts local worker processes, starts those anew that end, and lets none outlive it: `stop` ends
 * them in bounded time, and a worker whose supervisor was killed sees its channel close and goes.
 * Knows nothing of jobs: a dead worker's job comes back through the queue.
 */

import { spawn, type ChildProcess } from 'node:child_process';
import { z } from 'zod';
import type { Clock } from '../../shared/base/clock.js';
import type { RunEventSink } from '../../shared/events/run-events.js';

export interface WorkerCommand {
  readonly path: string;
  /** Of one of the workers, counted from 0: the same in all its lives. */
  readonly argsOf: (workerIndex: number) => readonly string[];
  readonly env: Readonly<Record<string, string | undefined>>;
}

export interface SuperviseWorkersOptions {
  readonly count: number;
  readonly command: WorkerCommand;
  readonly clock: Clock;
  readonly sink: RunEventSink;
  /** Restarts of all workers together. */
  readonly restartsMax: number;
}

export interface SupervisedWorkers {
  /** Of the processes that run now. */
  pids(): number[];
  /** Ends all workers and resolves when the last is gone. */
  stop(): Promise<void>;
}

const RESTART_DELAY_MS_MIN = 200;
const RESTART_DELAY_MS_MAX = 10_000;
/** A worker that lived this long starts again without the delay that earlier failures earned. */
const HEALTHY_MS = 30_000;
/** After it a worker that was asked to go is killed; it hands its job back within 5 s. */
const STOP_TIMEOUT_MS = 7_000;
const LAST_WORDS_LENGTH_MAX = 4_000;

/** What a worker says over its channel; anything else is not for us. */
const WorkerMessageSchema = z.union([
  z.object({ kind: z.literal('ready'), redis: z.string() }),
  z.object({ kind: z.literal('redis-trouble'), reason: z.string() }),
  z.object({ kind: z.literal('warning'), message: z.string() }),
  z.object({ kind: z.literal('device'), line: z.string() }),
]);

export function superviseWorkers(options: SuperviseWorkersOptions): SupervisedWorkers {
  const stopping = new AbortController();
  const running = new Set<ChildProcess>();
  const restarts = { count: 0 };
  const lives = Array.from({ length: options.count }, (_, index) =>
    keepAlive(index, options, { stopping: stopping.signal, running, restarts }),
  );
  return {
    pids: () => [...running].flatMap(({ pid }) => pid ?? []),
    stop: async () => {
      stopping.abort();
      const allGone = new AbortController();
      for (const child of running) child.kill('SIGTERM');
      const killLate = async (): Promise<void> => {
        await options.clock.sleep(STOP_TIMEOUT_MS, allGone.signal);
        for (const child of running) child.kill('SIGKILL');
      };
      void killLate();
      await Promise.all(lives);
      allGone.abort();
    },
  };
}

interface Supervision {
  readonly stopping: AbortSignal;
  readonly running: Set<ChildProcess>;
  /** Shared by all workers. */
  readonly restarts: { count: number };
}

/** One worker's lives, one after the other, until stopped or out of restarts. */
async function keepAlive(
  workerIndex: number,
  options: SuperviseWorkersOptions,
  { stopping, running, restarts }: Supervision,
): Promise<void> {
  const { clock, sink, restartsMax } = options;
  const label = `worker ${workerIndex + 1}`;
  const isStopping = (): boolean => stopping.aborted;
  let failuresInRow = 0;
  for (;;) {
    const bornMs = clock.monotonicMs();
    const how = await oneLife(workerIndex, label, options, running);
    if (isStopping()) return;
    failuresInRow = clock.monotonicMs() - bornMs > HEALTHY_MS ? 1 : failuresInRow + 1;
    sink({ kind: 'worker', state: 'exited', detail: `${label} ended: ${how}` });
    if (restarts.count >= restartsMax) {
      sink({
        kind: 'warning',
        message: `${label} is not started again: ${restartsMax} restarts are used up`,
      });
      return;
    }
    restarts.count += 1;
    const delayMs = Math.min(RESTART_DELAY_MS_MIN * 2 ** (failuresInRow - 1), RESTART_DELAY_MS_MAX);
    await clock.sleep(delayMs, stopping);
    if (isStopping()) return;
    sink({ kind: 'worker', state: 'restarted', detail: label });
  }
}

/** Resolves when the process has ended, with how and its last words. */
function oneLife(
  workerIndex: number,
  label: string,
  { command, sink }: SuperviseWorkersOptions,
  running: Set<ChildProcess>,
): Promise<string> {
  const child = spawn(command.path, [...command.argsOf(workerIndex)], {
    env: command.env,
    stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
    // A session of its own: Ctrl-C on the terminal is the coordinator's to act on.
    detached: true,
  });
  running.add(child);
  let lastWords = '';
  child.stderr?.setEncoding('utf8').on('data', (text: string) => {
    lastWords = (lastWords + text).slice(-LAST_WORDS_LENGTH_MAX);
  });
  child.on('message', (message) => {
    const said = WorkerMessageSchema.safeParse(message);
    if (!said.success) return;
    if (said.data.kind === 'ready')
      sink({
        kind: 'worker',
        state: 'started',
        detail: `${label} (process ${child.pid ?? 0}) takes jobs from ${said.data.redis}`,
      });
    else if (said.data.kind === 'device')
      sink({ kind: 'notice', message: `${label} computes on ${said.data.line}` });
    else {
      const trouble = said.data.kind === 'warning' ? said.data.message : said.data.reason;
      sink({ kind: 'warning', message: `${label}: ${trouble}` });
    }
  });
  return new Promise((resolve) => {
    const finish = (how: string): void => {
      running.delete(child);
      const words = lastWords.trim();
      resolve(words === '' ? how : `${how}; its last words: ${words}`);
    };
    child.once('error', (error) => finish(error.message));
    child.once('close', (code, signal) => finish(signal ?? `exit code ${code ?? 0}`));
  });
}
