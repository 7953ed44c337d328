/**
 * The executor of a worker, which runs one job at a time. Jobs that wait for it get it in turn, by the weights of their
 * queues (`fair-turns.ts`).
 */

import { at } from '../../shared/base/arrays.js';
import type { Clock } from '../../shared/base/clock.js';
import { FairTurns } from './fair-turns.js';

/** How long the executor waits for a job of a queue whose turn it may be. */
const ARRIVAL_WAIT_MS = 20;

/** A job that waits for the executor, or has it. */
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
    const progress = { isGranted: false, isOver: false, startMs: 0, chargedMs: 0 };
    let resolve = (): void => undefined;
    const granted = new Promise<void>((resolveIt) => {
      resolve = resolveIt;
    });
    const waiting: WaitingTurn = {
      place,
      grant: () => {
        const chargedMs = this.#turns.begin(place);
        const startMs = this.#clock.monotonicMs();
        Object.assign(progress, { isGranted: true, startMs, chargedMs });
        resolve();
      },
    };
    this.#waiting.push(waiting);
    this.#isEmpty[place] = false;
    this.#grantNext();
    return {
      granted,
      get isGranted() {
        return progress.isGranted;
      },
      end: () => {
        if (progress.isOver) return;
        progress.isOver = true;
        if (!progress.isGranted) {
          this.#waiting.splice(this.#waiting.indexOf(waiting), 1);
          return;
        }
        const tookMs = this.#clock.monotonicMs() - progress.startMs;
        this.#turns.end(place, progress.chargedMs, tookMs);
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
    const rankOf = ({ place }: WaitingTurn): number => order.indexOf(place);
    const [next] = [...this.#waiting].sort((a, b) => rankOf(a) - rankOf(b));
    if (next === undefined) return;
    this.#waiting.splice(this.#waiting.indexOf(next), 1);
    this.#isBusy = true;
    next.grant();
  }

  /** Queues whose next job is about to arrive, or which are empty. */
  #expected(): number[] {
    const places = this.#isEmpty.map((_, place) => place);
    return places.filter(
      (place) =>
        !at(this.#isEmpty, place) && this.#waiting.every((waiting) => waiting.place !== place),
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
