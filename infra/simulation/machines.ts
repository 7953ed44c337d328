/**
 * Simulated machines in virtual time, with clocks that agree with no other, and the processes on them. Time stands
 * still while any code can run, then moves to the next sleeper, so hours pass in milliseconds and a simulation is the
 * same every time.
 */

import type { Clock } from '../../shared/base/clock.js';
import type { RandomStream } from '../../shared/base/random.js';
import type { ProcessIdentity } from '../../shared/storage/process-identity.js';

interface Sleeper {
  readonly wakeMs: number;
  readonly wake: () => void;
  isAwake: boolean;
}

export class VirtualTime {
  #nowMs = 0;
  /** The next to wake is last. */
  readonly #sleepers: Sleeper[] = [];

  get nowMs(): number {
    return this.#nowMs;
  }

  /** Resolves after the duration, or when the signal aborts. */
  sleep(durationMs: number, signal?: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      if (signal?.aborted === true) return resolve();
      const wake = (): void => {
        sleeper.isAwake = true;
        signal?.removeEventListener('abort', wake);
        resolve();
      };
      const sleeper = this.#asleep(durationMs, wake);
      signal?.addEventListener('abort', wake, { once: true });
    });
  }

  /** Calls the action at the time; at once if it has passed. */
  at(atMs: number, action: () => void): void {
    this.#asleep(atMs - this.#nowMs, action);
  }

  /**
   * Runs the work and moves time until it ends.
   *
   * @param afterEach called whenever nothing more can happen without time passing; it may throw.
   * @throws Error when the work waits for something that no sleeper can provide.
   */
  async run<Outcome>(work: () => Promise<Outcome>, afterEach: () => void): Promise<Outcome> {
    const over = new AbortController();
    const outcome = work().finally(() => over.abort());
    outcome.catch(() => undefined);
    for (;;) {
      // Resolves when everything that can run without time passing has run.
      await new Promise((resolve) => void setImmediate(resolve));
      afterEach();
      if (over.signal.aborted) return outcome;
      this.#wakeNext();
    }
  }

  #asleep(durationMs: number, wake: () => void): Sleeper {
    const wakeMs = this.#nowMs + Math.max(0, durationMs);
    const sleeper = { wakeMs, wake, isAwake: false };
    let [first, end] = [0, this.#sleepers.length];
    while (first < end) {
      const middle = (first + end) >> 1;
      if ((this.#sleepers[middle]?.wakeMs ?? 0) > wakeMs) first = middle + 1;
      else end = middle;
    }
    this.#sleepers.splice(first, 0, sleeper);
    return sleeper;
  }

  #wakeNext(): void {
    for (;;) {
      const next = this.#sleepers.pop();
      if (next === undefined)
        throw new Error('no sleeper is left, and the work of the simulation has not ended');
      if (next.isAwake) continue;
      this.#nowMs = Math.max(this.#nowMs, next.wakeMs);
      next.wake();
      return;
    }
  }
}

const EPOCH_MS = Date.UTC(2026, 0, 1);
const WALL_SKEW_MS_MAX = 3_600_000;
const ORIGIN_MS_MAX = 1_000_000;
const DRIFT_MAX = 0.001;
const LATENCY_MS_MAX = 6;

/** Each is another promise: one for all would hold all that ever waited for it. */
const never = (): Promise<never> => new Promise(() => undefined);

/** A computer: its clocks, and its link to the network. Processes on it come and go. */
export class Machine {
  readonly name: string;
  readonly time: VirtualTime;
  readonly stream: RandomStream;
  /** How far its wall clock is from that of the simulation. */
  #wallSkewMs: number;
  readonly #originMs: number;
  readonly #rate: number;
  /** Bounds how long a message travels. */
  latencyMsMax = LATENCY_MS_MAX;
  /** Until when no message reaches it or leaves it. */
  cutOffUntilMs = 0;
  /** The number of replies that will be lost, after their commands were carried out. */
  repliesToLose = 0;
  /** The number of its results that somebody will change on the server. */
  resultsToForge = 0;
  /** How often its connections to the server have gone silent. Later ones work. */
  silenceCount = 0;
  /** The number of wake-ups that will be lost. */
  eventsToLose = 0;

  constructor(name: string, time: VirtualTime, stream: RandomStream) {
    this.name = name;
    this.time = time;
    this.stream = stream;
    this.#wallSkewMs = (2 * stream.uniform() - 1) * WALL_SKEW_MS_MAX;
    this.#originMs = stream.below(ORIGIN_MS_MAX);
    this.#rate = 1 + (2 * stream.uniform() - 1) * DRIFT_MAX;
  }

  epochMs(): number {
    return Math.round(EPOCH_MS + this.#wallSkewMs + this.time.nowMs * this.#rate);
  }

  monotonicMs(): number {
    return this.#originMs + this.time.nowMs * this.#rate;
  }

  /** Sleeps by the clock of this machine. */
  sleep(durationMs: number, signal?: AbortSignal): Promise<void> {
    return this.time.sleep(durationMs / this.#rate, signal);
  }

  setClock(byMs: number): void {
    this.#wallSkewMs += byMs;
  }

  isCutOff(): boolean {
    return this.time.nowMs < this.cutOffUntilMs;
  }

  /** Resolves when a message has travelled from or to this machine. */
  travelled(): Promise<void> {
    return this.time.sleep(this.stream.uniform() * this.latencyMsMax);
  }
}

export class SimulatedProcess {
  readonly name: string;
  readonly machine: Machine;
  #isOver = false;
  #resumed: Promise<void> | null = null;
  #resume: () => void = () => undefined;
  #tellEnd: () => void = () => undefined;
  readonly #onEnd: (() => void)[] = [];
  /** Resolves with null when the process was killed. */
  readonly killed: Promise<null>;

  constructor(name: string, machine: Machine) {
    this.name = name;
    this.machine = machine;
    this.killed = new Promise((resolve) => {
      this.#tellEnd = () => resolve(null);
    });
  }

  get isOver(): boolean {
    return this.#isOver;
  }

  get isSuspended(): boolean {
    return this.#resumed !== null;
  }

  identity(): ProcessIdentity {
    const { name: host } = this.machine;
    return { host, pid: 1, boot: null, pidNamespace: null, startTicks: null };
  }

  clock(): Clock {
    const { machine } = this;
    return {
      epochMs: () => machine.epochMs(),
      monotonicMs: () => machine.monotonicMs(),
      sleep: (durationMs, signal) => this.lived(() => machine.sleep(durationMs, signal)),
    };
  }

  /** The operating system closes the connections of a process that ended. */
  onEnd(close: () => void): void {
    this.#onEnd.push(close);
  }

  kill(): void {
    if (this.#isOver) return;
    this.#isOver = true;
    for (const close of this.#onEnd) close();
    this.#tellEnd();
  }

  suspend(): void {
    this.#resumed ??= new Promise((resolve) => {
      this.#resume = resolve;
    });
  }

  resume(): void {
    this.#resumed = null;
    this.#resume();
  }

  /** Makes a request of the process, and returns its outcome when the process can take it. */
  async lived<Answer>(ask: () => Promise<Answer>): Promise<Answer> {
    if (this.#isOver) return never();
    try {
      const answer = await ask();
      await this.alive();
      return answer;
    } catch (error) {
      await this.alive();
      throw error;
    }
  }

  /** Resolves when the process runs; never if it has ended. */
  async alive(): Promise<void> {
    while (this.#resumed !== null) await this.#resumed;
    if (this.#isOver) await never();
  }
}
