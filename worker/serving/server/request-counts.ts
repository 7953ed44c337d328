/** Counts of a server since it started, by what became of requests. */

import type { RefusalReason } from './refused-request.js';

export class RequestCounts {
  #answered = 0;
  #abandoned = 0;
  readonly #refused = new Map<RefusalReason, number>();

  answer(): void {
    this.#answered += 1;
  }

  /** The client closed its connection before it had an answer. */
  abandon(): void {
    this.#abandoned += 1;
  }

  refuse(reason: RefusalReason): void {
    this.#refused.set(reason, (this.#refused.get(reason) ?? 0) + 1);
  }

  report(): object {
    return {
      answered: this.#answered,
      abandoned: this.#abandoned,
      refused: Object.fromEntries(this.#refused),
    };
  }
}
