/**
 * The executor of a worker, which runs one job at a time. Jobs that wait for it get it in turn, by the weights of their
 * queues (`FairTurns`).
 */

import { at } from '../../shared/base/arrays.js';
import type { Clock } from '../../shared/base/clock.js';
import { z } from 'zod';

/** How long the executor waits for a job of a queue whose turn it may be. */
const ARRIVAL_WAIT_MS = 20;

export interface ExecutorTurn {
  /** Resolves when the job has the executor. */
  readonly granted: Promise<void>;
  readonly isGranted: boolean;
  /** Gives the executor up, or the wait for it. Only the first call counts. */
  end(): void;
}

interface WaitingTurn {
  readonly place: number;
  readonly grant: () => void;
}

export class ExecutorTurns {
  readonly #turns: FairTurns;
  readonly #clock: Clock;
  readonly #waiting: WaitingTurn[] = [];
  /** By queue, whether it seems to have no job. */
  readonly #isEmpty: boolean[];
  #isBusy = false;
  #isExpecting = false;

  /** @param weights of the queues, above 0 */
  constructor(weights: readonly number[], clock: Clock) {
    this.#turns = new FairTurns(weights);
    this.#clock = clock;
    this.#isEmpty = weights.map(() => true);
  }

  /** @param place that of the queue of the job */
  request(place: number): ExecutorTurn {
    let [isGranted, isOver, startMs, chargedMs] = [false, false, 0, 0];
    let resolve = (): void => undefined;
    const granted = new Promise<void>((resolveIt) => (resolve = resolveIt));
    const grant = (): void => {
      [isGranted, startMs] = [true, this.#clock.monotonicMs()];
      chargedMs = this.#turns.begin(place);
      resolve();
    };
    const waiting: WaitingTurn = { place, grant };
    this.#waiting.push(waiting);
    this.#isEmpty[place] = false;
    this.#grantNext();
    return {
      granted,
      get isGranted() {
        return isGranted;
      },
      end: () => {
        if (isOver) return;
        isOver = true;
        if (!isGranted) {
          this.#waiting.splice(this.#waiting.indexOf(waiting), 1);
          return;
        }
        this.#turns.end(place, chargedMs, this.#clock.monotonicMs() - startMs);
        this.#isBusy = false;
        this.#grantNext();
      },
    };
  }

  #grantNext(): void {
    if (this.#isBusy || this.#isExpecting || this.#waiting.length === 0) return;
    if (this.#expected().length > 0) {
      void this.#expect();
      return;
    }
    for (const [place, isEmpty] of this.#isEmpty.entries())
      if (isEmpty) this.#turns.foundEmpty(place);
    const order = this.#turns.order();
    const [next] = [...this.#waiting].sort(
      (a, b) => order.indexOf(a.place) - order.indexOf(b.place),
    );
    if (next === undefined) return;
    this.#waiting.splice(this.#waiting.indexOf(next), 1);
    this.#isBusy = true;
    next.grant();
  }

  /** Queues whose next job is about to arrive, or which are empty. */
  #expected(): number[] {
    const isWaiting = new Set(this.#waiting.map(({ place }) => place));
    return [...this.#isEmpty.keys()].filter(
      (place) => !at(this.#isEmpty, place) && !isWaiting.has(place),
    );
  }

  async #expect(): Promise<void> {
    this.#isExpecting = true;
    await this.#clock.sleep(ARRIVAL_WAIT_MS);
    this.#isExpecting = false;
    for (const place of this.#expected()) this.#isEmpty[place] = true;
    this.#grantNext();
  }
}

/**
 * Work that a queue may catch up on after it was empty, per unit of weight. It makes up for the pauses between outer
 * steps; a queue that was empty for longer has lost its turns.
 */
const CATCH_UP_MS = 5_000;

interface Turn {
  readonly weight: number;
  passMs: number;
  isEmpty: boolean;
  /** How long its last job took: what the next one is expected to take. */
  expectedMs: number;
}

/**
 * Whose turn it is among several queues, by weights and by the time that their jobs take. Stride scheduling
 * (Waldspurger, 1995): each queue has a pass, which its work moves forward by time / weight, and the queue whose
 * pass is behind comes first.
 */
export class FairTurns {
  readonly #turns: readonly Turn[];

  /** @param weights above 0 */
  constructor(weights: readonly number[]) {
    this.#turns = weights.map((weight) => ({ weight, passMs: 0, isEmpty: false, expectedMs: 0 }));
  }

  /** The places of the queues, the one whose turn it is first. */
  order(): number[] {
    return this.#turns
      .map(({ passMs }, place) => ({ passMs, place }))
      .sort((a, b) => a.passMs - b.passMs || a.place - b.place)
      .map(({ place }) => place);
  }

  /** Notes that a queue had no job when it was asked. */
  foundEmpty(place: number): void {
    at(this.#turns, place).isEmpty = true;
  }

  /** Notes that a job of this queue begins. Returns the time that is charged for it beforehand. */
  begin(place: number): number {
    const turn = at(this.#turns, place);
    if (turn.isEmpty) {
      const others = this.#turns.filter(({ isEmpty }) => !isEmpty).map(({ passMs }) => passMs);
      if (others.length > 0)
        turn.passMs = Math.max(turn.passMs, Math.min(...others) - CATCH_UP_MS / turn.weight);
      turn.isEmpty = false;
    }
    turn.passMs += turn.expectedMs / turn.weight;
    return turn.expectedMs;
  }

  /** Notes how long a job has taken; nothing if it was handed back. */
  end(place: number, chargedMs: number, tookMs: number): void {
    const turn = at(this.#turns, place);
    turn.passMs += (tookMs - chargedMs) / turn.weight;
    if (tookMs > 0) turn.expectedMs = tookMs;
  }
}

const WEIGHT_MAX = 1_000_000;

/** Prefixes of queues with their weights, as `{a}=3,{b}=1`. A prefix without a weight has 1. */
export const PrefixSharesSchema = z.string().transform((text, context) => {
  const shares = text.split(',').map((share) => {
    const [prefix = '', weight = '1', ...more] = share.trim().split('=');
    return { prefix, weight: more.length > 0 || weight === '' ? Number.NaN : Number(weight) };
  });
  const isDistinct = new Set(shares.map(({ prefix }) => prefix)).size === shares.length;
  const isValid = shares.every(
    ({ prefix, weight }) => prefix !== '' && weight > 0 && weight <= WEIGHT_MAX,
  );
  if (isDistinct && isValid) return shares;
  context.addIssue({
    code: 'custom',
    message: `expected a prefix, or several different ones with weights above 0 and at most ${WEIGHT_MAX}, as {a}=3,{b}=1`,
  });
  return z.NEVER;
});
