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
 * - `incomparable`: a device had too little memory for the micro-batches of the job, so bits may differ.
 * - `unlike`: three workers gave three results.
 */
type Verdict =
  | { readonly kind: 'open' }
  | { readonly kind: 'agreed'; readonly bits: string; readonly liars: readonly string[] }
  | { readonly kind: 'incomparable' }
  | { readonly kind: 'unlike' };

interface Answer {
  readonly bits: string;
  readonly microBatchRowsMax: number;
}

export class JobAnswers {
  readonly #byWorker = new Map<string, Answer>();

  /** In order of their answers. */
  get workers(): string[] {
    return [...this.#byWorker.keys()];
  }

  /** Whether a worker has given these bits already. */
  has(bits: string): boolean {
    return [...this.#byWorker.values()].some((answer) => answer.bits === bits);
  }

  /** The first answer of a worker counts. */
  add(result: JobResult): void {
    const { worker, microBatchRowsMax } = result;
    if (this.#byWorker.has(worker)) return;
    this.#byWorker.set(worker, { bits: bitsOf(result), microBatchRowsMax });
  }

  verdict(): Verdict {
    const answers = [...this.#byWorker];
    for (const [, { bits }] of answers) {
      const liars = answers.filter(([, answer]) => answer.bits !== bits).map(([worker]) => worker);
      if (answers.length - liars.length >= 2) return { kind: 'agreed', bits, liars };
    }
    const sizes = new Set(answers.map(([, answer]) => answer.microBatchRowsMax));
    if (sizes.size > 1) return { kind: 'incomparable' };
    return { kind: answers.length < ANSWER_COUNT_MAX ? 'open' : 'unlike' };
  }
}

/** All of a result that the job decides. */
export function bitsOf(result: JobResult): string {
  const { output, weightedQueryLoss, weightedSupportLoss, lossesBySize = null } = result;
  const { weightedQueryLossBefore = null } = result;
  return canonicalJson([
    ...[output.sha256, weightedQueryLoss, weightedSupportLoss, result.queryRowCount],
    weightedQueryLossBefore,
    lossesBySize,
  ]);
}
