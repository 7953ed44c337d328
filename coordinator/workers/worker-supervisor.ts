/**
 * Starts local worker processes, of one or several workers each, restarts those that end, and lets none outlive it: `stop` ends them
 * in bounded time, and a worker whose supervisor was killed sees its channel close and exits. Passes
 * on their events. Knows nothing of jobs: a dead worker's job comes back through the queue.
 */

import { spawn, type ChildProcess } from 'node:child_process';
import type { Clock } from '../../shared/base/clock.js';
import { QianmoError } from '../../shared/base/errors.js';
import { parseEventLine } from '../../shared/events/event-lines.js';
import {
  toldBy,
  type EventSource,
  type RunEventOf,
  type RunEventSink,
  type StampedEvent,
  noticeEvent,
  warningEvent,
} from '../../shared/events/run-events.js';

/** The workers of one process. */
export interface WorkerCrew {
  /** Counted from 0 over the workers of all processes. */
  readonly firstIndex: number;
  readonly count: number;
}

export interface WorkerCommand {
  readonly path: string;
  /** The workers of one process; 1 if absent. The last process may have fewer. */
  readonly workersPerProcess?: number;
  /** The arguments of a process; the same at every restart. */
  readonly argsOf: (crew: WorkerCrew) => readonly string[];
  readonly env: Readonly<Record<string, string | undefined>>;
  /** The processes that start at once; all if absent. The others follow when a worker is ready. */
  readonly firstCount?: number;
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

const RESTART_DELAY_MS_MIN = 200;
const RESTART_DELAY_MS_MAX = 10_000;
/** A worker that lived this long restarts without the delay of earlier failures. */
const HEALTHY_MS = 30_000;
/** A worker that was asked to stop is killed after this time; it hands its job back within 5 s. */
const STOP_TIMEOUT_MS = 7_000;
/** A run of weeks must not end by what has gone wrong once a day. */
const RESTART_FORGOTTEN_MS = 60_000;
const LAST_WORDS_LENGTH_MAX = 4_000;
/** Workers that wait for others to be ready start at last after this time. */
const OTHERS_READY_MS_MAX = 5_000;

export function superviseWorkers(options: SuperviseWorkersOptions): SupervisedWorkers {
  const stopping = new AbortController();
  const running = new Set<ChildProcess>();
  const restarts = new RestartBudget(options);
  const othersReady = new AbortController();
  stopping.signal.addEventListener('abort', () => othersReady.abort());
  const crews = crewsOf(options);
  const lives = crews.map(async (crew, index) => {
    if (index >= (options.command.firstCount ?? crews.length))
      await options.clock.sleep(OTHERS_READY_MS_MAX, othersReady.signal);
    const shared = { stopping: stopping.signal, running, restarts };
    await keepAlive(
      crew,
      withReadiness(options, () => othersReady.abort()),
      shared,
    );
  });
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

function crewsOf({ count, command }: SuperviseWorkersOptions): WorkerCrew[] {
  const { workersPerProcess: most = 1 } = command;
  return Array.from({ length: Math.ceil(count / most) }, (_, index) => {
    const firstIndex = index * most;
    return { firstIndex, count: Math.min(most, count - firstIndex) };
  });
}

/** Tells, beside the sink, that a worker is ready or has ended. */
function withReadiness(
  options: SuperviseWorkersOptions,
  onReady: () => void,
): SuperviseWorkersOptions {
  return {
    ...options,
    sink: (event, source) => {
      if (event.kind === 'worker-ready' || event.kind === 'worker-exited') onReady();
      options.sink(event, source);
    },
  };
}

interface Supervision {
  readonly stopping: AbortSignal;
  readonly running: Set<ChildProcess>;
  /** Shared by all workers. */
  readonly restarts: RestartBudget;
}

/** Counts restarts and forgets them over time. */
class RestartBudget {
  readonly #max: number;
  readonly #clock: Clock;
  #count = 0;
  #countedMs: number;

  constructor({ restartsMax, clock }: Pick<SuperviseWorkersOptions, 'restartsMax' | 'clock'>) {
    this.#max = restartsMax;
    this.#clock = clock;
    this.#countedMs = clock.monotonicMs();
  }

  /** Returns false if the restarts are used up. */
  take(): boolean {
    const nowMs = this.#clock.monotonicMs();
    const forgotten = (nowMs - this.#countedMs) / RESTART_FORGOTTEN_MS;
    this.#countedMs = nowMs;
    this.#count = Math.max(0, this.#count - forgotten);
    if (this.#count + 1 > this.#max) return false;
    this.#count += 1;
    return true;
  }
}

/** Runs one process again and again, until stopped or out of restarts. What happens to it happens to each of its workers. */
async function keepAlive(
  crew: WorkerCrew,
  options: SuperviseWorkersOptions,
  { stopping, running, restarts }: Supervision,
): Promise<void> {
  const { clock, restartsMax } = options;
  const sinks = Array.from({ length: crew.count }, (_, place) =>
    toldBy({ workerIndex: crew.firstIndex + place }, options.sink),
  );
  const tellAll: RunEventSink = (event) => {
    for (const sink of sinks) sink(event);
  };
  const isStopping = (): boolean => stopping.aborted;
  let failuresInRow = 0;
  while (!isStopping()) {
    const bornMs = clock.monotonicMs();
    const end = await oneLife(options.command, crew, sinks, running);
    if (isStopping()) return;
    failuresInRow = clock.monotonicMs() - bornMs > HEALTHY_MS ? 1 : failuresInRow + 1;
    for (const [place, sink] of sinks.entries()) sink(end.event, end.sourceOf(place));
    if (!restarts.take()) {
      tellAll(
        warningEvent('worker-given-up', `not started again: ${restartsMax} restarts are used up`),
      );
      return;
    }
    const delayMs = Math.min(RESTART_DELAY_MS_MIN * 2 ** (failuresInRow - 1), RESTART_DELAY_MS_MAX);
    await clock.sleep(delayMs, stopping);
    if (!isStopping()) tellAll(noticeEvent('worker-restarted', 'started again'));
  }
}

interface LifeEnd {
  readonly event: RunEventOf<'worker-exited'>;
  /** The name of a worker of the process, if it sent an event. */
  readonly sourceOf: (place: number) => EventSource;
}

function spawned({ path, argsOf, env }: WorkerCommand, crew: WorkerCrew): ChildProcess {
  return spawn(path, [...argsOf(crew)], {
    env,
    stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
    // A separate session, because the coordinator handles Ctrl-C on the terminal.
    detached: true,
  });
}

/** Resolves when the process has ended. Passes on its events until then. */
function oneLife(
  command: WorkerCommand,
  crew: WorkerCrew,
  sinks: readonly RunEventSink[],
  running: Set<ChildProcess>,
): Promise<LifeEnd> {
  const child = spawned(command, crew);
  running.add(child);
  let lastWords = '';
  child.stderr?.setEncoding('utf8').on('data', (text: string) => {
    lastWords = (lastWords + text).slice(-LAST_WORDS_LENGTH_MAX);
  });
  const channel = eventsFromChannel(crew, sinks);
  child.on('message', (message) => channel.receive(message));
  return new Promise((resolve) => {
    const finish = (end: Pick<LifeEnd['event'], 'exitCode' | 'signal' | 'reason'>): void => {
      running.delete(child);
      const pid = child.pid ?? 0;
      resolve({
        event: { kind: 'worker-exited', pid, ...end, lastWords: lastWords.trim() },
        sourceOf: channel.sourceOf,
      });
    };
    child.once('error', ({ message }) => finish({ exitCode: null, signal: null, reason: message }));
    child.once('close', (exitCode, signal) => finish({ exitCode, signal, reason: null }));
  });
}

/** Receives the events of one process as lines. Reports the first message that is not an event. */
function eventsFromChannel(
  { firstIndex }: WorkerCrew,
  sinks: readonly RunEventSink[],
): {
  receive(message: unknown): void;
  readonly sourceOf: LifeEnd['sourceOf'];
} {
  const names = new Map<number, string>();
  let isMisunderstood = false;
  return {
    receive: (message) => {
      try {
        const told = parseEventLine(typeof message === 'string' ? message : 'no text');
        // Workers of a process that has several are counted there.
        const place = Math.min(told.workerIndex ?? 0, sinks.length - 1);
        if (told.worker !== undefined) names.set(place, told.worker);
        const event: StampedEvent = { ...told, workerIndex: firstIndex + place };
        sinks[place]?.(event);
      } catch (error) {
        if (!(error instanceof QianmoError)) throw error;
        if (isMisunderstood) return;
        isMisunderstood = true;
        const reason = error.report.found ?? error.message;
        const text = `sent a message that is not an event: ${reason}`;
        sinks[0]?.(warningEvent('worker-misunderstood', text));
      }
    },
    sourceOf: (place) => ({ worker: names.get(place) }),
  };
}
