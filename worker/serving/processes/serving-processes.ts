/**
 * Processes that answer requests on one port, kept alive: one that ends is started again, after a delay
 * that grows while it keeps failing. The parent hands connections out, so that a process that is killed loses
 * its own and no others. It reads no request.
 */

import { fork, type ChildProcess } from 'node:child_process';
import type { Clock } from '../../../shared/base/clock.js';
import { type QianmoError, errorOf } from '../../../shared/base/errors.js';
import { errorFromRecord, type FailureRecord } from '../../../shared/base/failure-record.js';
import { endInTime, superviseProcess } from '../../../shared/base/supervise.js';
import { parseEventLine } from '../../../shared/events/event-lines.js';
import type { RunEventSink, StampedEventSink } from '../../../shared/events/run-events.js';
import type { MetricsSnapshot } from '../../../shared/metrics/metric-registry.js';
import { pluginArguments } from '../../../shared/plugins/load-plugins.js';
import { CONNECTIONS_MAX, DRAIN_MS_MAX } from '../server/server-limits.js';
import { ConnectionHandOut, type HandedOutcome, type Taker } from './connection-hand-out.js';
import type { ProcessesState, StateOrder, StateRequest } from './state-link.js';

/** To a process. */
export type ServingOrder =
  /** `request` is that of `serveRankings`, which parses it. */
  | { readonly kind: 'start'; readonly place: number; readonly request: unknown }
  | { readonly kind: 'counts'; readonly counts: ProcessCounts }
  /** With the socket. */
  | { readonly kind: 'connection'; readonly number: number }
  | { readonly kind: 'state'; readonly state: StateOrder }
  /** Asks for the metrics of the process. */
  | { readonly kind: 'metrics'; readonly question: number }
  | { readonly kind: 'drain' };

/** From a process. */
export type ServingReply =
  /** The first of all: what was sent before would have been lost. */
  | { readonly kind: 'listening' }
  | { readonly kind: 'ready'; readonly bundle: string; readonly scorer: string }
  | { readonly kind: 'connection'; readonly number: number; readonly outcome: HandedOutcome }
  | { readonly kind: 'swapped'; readonly bundle: string }
  | { readonly kind: 'event'; readonly line: string }
  | { readonly kind: 'state'; readonly state: StateRequest }
  | { readonly kind: 'metrics'; readonly question: number; readonly values: MetricsSnapshot }
  | { readonly kind: 'failed'; readonly failure: FailureRecord };

/** The number of processes that are wanted, and of those that answer now. */
interface ProcessCounts {
  readonly wanted: number;
  readonly ready: number;
}

/** Between looks at the channel of a process that has ended, and how many there are. */
const LOOK_MS = 2;
const LOOKS_MAX = 500;
/** A process that is busy for longer is missing from one scrape. */
const METRICS_MS_MAX = 2_000;
/** After it a process that was told to stop is killed. */
const STOP_MS_MAX = DRAIN_MS_MAX + 5_000;

interface ServingProcessesTerms {
  readonly count: number;
  /** The module that each process runs. */
  readonly entry: string;
  readonly environment: Readonly<Record<string, string | undefined>>;
  /** Where requests are taken; port 0 takes a free one. */
  readonly listenAt: { readonly host: string; readonly port: number };
  /** The request of each process by its place, which is one of `serveRankings`. */
  readonly requestOf: (place: number) => unknown;
  /** The state that the processes share; null without one. */
  readonly state: ProcessesState | null;
  readonly clock: Clock;
  readonly sink: RunEventSink;
  /** Takes the events of the processes. */
  readonly onEvent: StampedEventSink;
}

type ReadyReply = Extract<ServingReply, { kind: 'ready' }>;

export class ServingProcesses {
  readonly #terms: ServingProcessesTerms;
  readonly #running = new Map<number, ChildProcess>();
  readonly #ready = new Map<number, ReadyReply>();
  readonly #handOut: ConnectionHandOut;
  readonly #stopping = new AbortController();
  readonly #onMetrics = new Map<number, (pid: number, values: MetricsSnapshot) => void>();
  #questionCount = 0;
  #lives: Promise<void>[] = [];
  /** At which address; null until a process is ready. */
  #listening: Promise<string> | null = null;

  private constructor(terms: ServingProcessesTerms) {
    this.#terms = terms;
    this.#handOut = new ConnectionHandOut(CONNECTIONS_MAX);
  }

  /**
   * Resolves when every process answers.
   *
   * @throws QianmoError the first failure of a process, or that the port is taken, after all have ended.
   */
  static async start(terms: ServingProcessesTerms): Promise<ServingProcesses> {
    const processes = new ServingProcesses(terms);
    const places = Array.from({ length: terms.count }, (_, place) => place);
    const firsts = places.map((place) => processes.#oneLife(place));
    const answering = firsts.map(({ ready }) => ready.then(() => processes.listening()));
    const started = await Promise.allSettled(answering);
    const failed = started.find(({ status }) => status === 'rejected');
    processes.#lives = places.map((place, index) => processes.#keepAlive(place, firsts[index]));
    if (failed?.status === 'rejected') {
      await processes.stop();
      throw failed.reason;
    }
    return processes;
  }

  /** Listens from the first call on, and says at which address. */
  listening(): Promise<string> {
    this.#listening ??= this.#handOut.listen(this.#terms.listenAt);
    return this.#listening;
  }

  /** The reply of the first process that is ready. */
  get first(): ReadyReply {
    const [first] = this.#ready.values();
    if (first !== undefined) return first;
    throw errorOf('transient', 'no process answers at present', {
      cure: 'wait until one is started again',
    });
  }

  /** The number of processes that are wanted, and of those that answer now. */
  get counts(): ProcessCounts {
    return { wanted: this.#terms.count, ready: this.#ready.size };
  }

  /** The ids of the processes that run. */
  get pids(): number[] {
    return [...this.#running.values()].flatMap((child) => child.pid ?? []);
  }

  /** By process id, the metrics of the processes that answer in time. */
  async metrics(): Promise<Map<number, MetricsSnapshot>> {
    this.#questionCount += 1;
    const question = this.#questionCount;
    const answers = new Map<number, MetricsSnapshot>();
    const enough = new AbortController();
    const asked = [...this.#running].filter(([place]) => this.#ready.has(place));
    this.#onMetrics.set(question, (pid, values) => {
      answers.set(pid, values);
      if (answers.size === asked.length) enough.abort('answered');
    });
    for (const [, child] of asked) tell(child, { kind: 'metrics', question });
    if (asked.length > 0) await this.#terms.clock.sleep(METRICS_MS_MAX, enough.signal);
    this.#onMetrics.delete(question);
    return answers;
  }

  /** Has all answer what is under way, and ends them. */
  async stop(): Promise<void> {
    this.#stopping.abort();
    this.#handOut.close();
    for (const child of this.#running.values()) tell(child, { kind: 'drain' });
    const { clock } = this.#terms;
    await endInTime(this.#running, Promise.all(this.#lives), { clock, graceMs: STOP_MS_MAX });
  }

  #keepAlive(place: number, first: Life | undefined): Promise<void> {
    const { clock, sink } = this.#terms;
    let life = first;
    return superviseProcess({
      ...{ clock, stopping: this.#stopping.signal },
      runOnce: async () => {
        const { ready, ended } = life ?? this.#oneLife(place);
        life = undefined;
        // A process that failed before it was ready ends, too.
        const reason = await ready.then(
          () => null,
          (error: unknown) => (error instanceof Error ? error.message : String(error)),
        );
        return { ...(await ended), reason };
      },
      onEnd: (end, restartMs) => {
        sink({ kind: 'server-process-ended', place, ...end, restartMs });
        return true;
      },
    });
  }

  #oneLife(place: number): Life {
    const { entry, requestOf, environment, state } = this.#terms;
    const child = fork(entry, pluginArguments(), {
      env: { ...environment },
      serialization: 'advanced',
    });
    const taker = takerOf(child);
    this.#running.set(place, child);
    const ended = new Promise<ProcessEnd>((resolve) => {
      const end = (exitCode: number | null, signal: string | null): void => {
        this.#running.delete(place);
        this.#ready.delete(place);
        state?.leave(place);
        this.#tellCounts();
        resolve({ exitCode, signal, pid: child.pid ?? 0 });
      };
      child.once('exit', end);
      child.on('error', () => {
        // One that could not be started has no exit.
        if (child.pid === undefined) end(null, null);
      });
    });
    void ended.then(() => this.#leave(child, taker));
    const ready = new Promise<void>((resolve, reject) => {
      // The entry sends nothing else.
      child.on('message', (message) => {
        const reply = message as ServingReply;
        if (reply.kind === 'failed') reject(errorFromRecord(reply.failure));
        else if (reply.kind === 'connection')
          this.#handOut.hear(taker, reply.number, reply.outcome);
        else if (reply.kind === 'state') void state?.hear(place, reply.state);
        else if (reply.kind === 'metrics')
          this.#onMetrics.get(reply.question)?.(child.pid ?? 0, reply.values);
        else if (reply.kind === 'listening') {
          state?.join(place, (order) => tell(child, { kind: 'state', state: order }));
          tell(child, { kind: 'start', place, request: requestOf(place) });
        } else this.#hear(place, reply);
        if (reply.kind !== 'ready') return;
        this.#handOut.join(taker);
        resolve();
      });
      void ended.then(({ exitCode, signal }) => reject(endedEarly(signal ?? `exit ${exitCode}`)));
    });
    return { ready, ended };
  }

  #hear(
    place: number,
    reply: Extract<ServingReply, { kind: 'event' | 'ready' | 'swapped' }>,
  ): void {
    const known = this.#ready.get(place);
    if (reply.kind === 'event') this.#terms.onEvent(parseEventLine(reply.line));
    else if (reply.kind === 'ready') {
      this.#ready.set(place, reply);
      this.#tellCounts();
    } else if (known !== undefined) this.#ready.set(place, { ...known, bundle: reply.bundle });
  }

  /**
   * Leaves the hand-out once all that the process has said is heard. The end of the channel has no event while a socket is under way in
   * it.
   */
  async #leave(child: ChildProcess, taker: Taker): Promise<void> {
    for (let look = 0; child.connected && look < LOOKS_MAX; look += 1)
      await this.#terms.clock.sleep(LOOK_MS);
    this.#handOut.leave(taker);
  }

  #tellCounts(): void {
    const { counts } = this;
    for (const child of this.#running.values()) tell(child, { kind: 'counts', counts });
  }
}

interface ProcessEnd {
  readonly exitCode: number | null;
  readonly signal: string | null;
  readonly pid: number;
}

interface Life {
  /** Rejects if the process ends first. */
  readonly ready: Promise<void>;
  readonly ended: Promise<ProcessEnd>;
}

/** A process that is gone is told nothing; its exit is heard. */
function tell(child: ChildProcess, order: ServingOrder): void {
  if (child.connected) child.send(order, () => undefined);
}

function takerOf(child: ChildProcess): Taker {
  return {
    give: (number, socket, fail) => {
      const order: ServingOrder = { kind: 'connection', number };
      child.send(order, socket, { keepOpen: true }, (error) => {
        if (error !== null) fail();
      });
    },
  };
}

function endedEarly(how: string): QianmoError {
  return errorOf('failed', 'a process of the server ended before it was ready', {
    found: how,
    cure: 'see what it wrote above; the machine may lack memory',
  });
}
