/**
 * The answers of several workers to one job, and which of them is right. A job decides its result bit for bit, so
 * a worker whose bits differ from those that two others agree on lies or is broken.
 */

import { canonicalJson } from '../../shared/base/canonical-json.js';
import type { JobResult } from '../../shared/queue/protocol.js';

/** More answers decide nothing that three do not. */
export const ANSWER_COUNT_MAX = 3;

/**
 * - `open`: another worker has to say.
 * - `agreed`: two workers gave these bits; the liars gave others.
 * - `unlike`: three workers gave three results.
 */
type Verdict =
  | { readonly kind: 'open' }
  | { readonly kind: 'agreed'; readonly bits: string; readonly liars: readonly string[] }
  | { readonly kind: 'unlike' };

export class JobAnswers {
  readonly #byWorker = new Map<string, string>();

  /** In order of their answers. */
  get workers(): string[] {
    return [...this.#byWorker.keys()];
  }

  /** Whether a worker has given these bits already. */
  has(bits: string): boolean {
    return [...this.#byWorker.values()].includes(bits);
  }

  /** The first answer of a worker counts. */
  add(result: JobResult): void {
    const { worker } = result;
    if (!this.#byWorker.has(worker)) this.#byWorker.set(worker, bitsOf(result));
  }

  verdict(): Verdict {
    const answers = [...this.#byWorker];
    for (const [, bits] of answers) {
      const liars = answers.filter(([, answer]) => answer !== bits).map(([worker]) => worker);
      if (answers.length - liars.length >= 2) return { kind: 'agreed', bits, liars };
    }
    return { kind: answers.length < ANSWER_COUNT_MAX ? 'open' : 'unlike' };
  }
}

/** All of a result that the job decides. */
export function bitsOf({ output, queryRowCount }: JobResult): string {
  return canonicalJson([output.sha256, queryRowCount]);
}
