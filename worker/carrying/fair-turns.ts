/**
 * Whose turn it is among several queues, by weights and by the time that their jobs take. Stride scheduling
 * (Waldspurger, 1995): each queue has a pass, which its work moves forward by time / weight, and the queue whose
 * pass is behind comes first.
 */

import { at } from '../../shared/base/arrays.js';

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
