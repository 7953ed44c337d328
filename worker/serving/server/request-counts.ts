/** Counts of a server since it started, by what became of requests. */

import type { RefusalReason } from './refused-request.js';

interface BundleCounts {
  answered: number;
  refused: number;
}

/** Outcomes of requests since the server was started. */
export interface RequestReport {
  readonly waiting: number;
  readonly answered: number;
  readonly abandoned: number;
  readonly refused: Readonly<Partial<Record<RefusalReason, number>>>;
  readonly byBundle: Readonly<Record<string, Readonly<BundleCounts>>>;
}

/** Bundles that are counted by themselves, the last that answered. */
const BUNDLES_MAX = 16;

export class RequestCounts {
  #answered = 0;
  #abandoned = 0;
  readonly #refused = new Map<RefusalReason, number>();
  readonly #byBundle = new Map<string, BundleCounts>();

  /** @param bundle the digest of the one that answered. */
  answer(bundle: string): void {
    this.#answered += 1;
    this.#of(bundle).answered += 1;
  }

  /** A bundle was asked and gave no answer. The reason is counted by `refuse`. */
  refuseBy(bundle: string): void {
    this.#of(bundle).refused += 1;
  }

  /** The client closed its connection before it had an answer. */
  abandon(): void {
    this.#abandoned += 1;
  }

  refuse(reason: RefusalReason): void {
    this.#refused.set(reason, (this.#refused.get(reason) ?? 0) + 1);
  }

  report(): Omit<RequestReport, 'waiting'> {
    return {
      answered: this.#answered,
      abandoned: this.#abandoned,
      refused: Object.fromEntries(this.#refused),
      byBundle: Object.fromEntries(this.#byBundle),
    };
  }

  #of(bundle: string): BundleCounts {
    const known = this.#byBundle.get(bundle);
    if (known !== undefined) return known;
    const [oldest] = this.#byBundle.keys();
    if (oldest !== undefined && this.#byBundle.size >= BUNDLES_MAX) this.#byBundle.delete(oldest);
    const fresh = { answered: 0, refused: 0 };
    this.#byBundle.set(bundle, fresh);
    return fresh;
  }
}
