/**
 * The rule that closes an outer step. A pure function of the jobs that are admitted, the jobs that
 * are open, and the time. Dispatchers ask it on every turn and act on its answer.
 */

import { ALL_RESULTS, type ClosingConfig } from '../../shared/config/closing-config.js';

interface StepProgress {
  /** Jobs without an admitted result, whether or not they have been sent. */
  readonly openCount: number;
  readonly nowMs: number;
  /** When the outer step began, or its second chance. On the same scale as `nowMs`. */
  readonly startMs: number;
  /** The longest wait for results from `startMs` on. */
  readonly timeoutMs: number;
  /** When the rule's number of results was admitted; null as long as it is not. */
  readonly enoughMs: number | null;
}

/**
 * - `wait`: more results are needed. The answer can change with the next result and at `untilMs`.
 * - `close`: the admitted results are the results of the outer step.
 * - `too-few`: the time is over, and there are fewer results than the rule asks for.
 */
type Closing =
  | { readonly kind: 'wait'; readonly untilMs: number }
  | { readonly kind: 'close' }
  | { readonly kind: 'too-few' };

/** The number of leaves with a result that an outer step must have. */
export function enoughCountOf(rule: ClosingConfig, leafCount: number): number {
  if (rule.kind === 'all') return leafCount;
  const share = rule.kind === 'quorum' ? rule.share : rule.shareMin;
  return Math.max(1, Math.ceil(share * leafCount));
}

export function closingOf(
  { openCount, nowMs, startMs, timeoutMs, enoughMs }: StepProgress,
  rule: ClosingConfig,
): Closing {
  if (openCount === 0) return { kind: 'close' };
  const until = (untilMs: number, then: Closing): Closing =>
    nowMs < untilMs ? { kind: 'wait', untilMs } : then;
  switch (rule.kind) {
    case 'all':
      return until(startMs + timeoutMs, { kind: 'too-few' });
    case 'quorum':
      return enoughMs === null
        ? until(startMs + timeoutMs, { kind: 'too-few' })
        : until(enoughMs + rule.graceMs, { kind: 'close' });
    case 'deadline':
      return until(startMs + Math.min(rule.afterMs, timeoutMs), {
        kind: enoughMs === null ? 'too-few' : 'close',
      });
  }
}

/** The jobs and times of one outer step. */
interface StepTerms {
  readonly leafCount: number;
  readonly startMs: number;
  readonly timeoutMs: number;
}

/** Asks the rule in the course of one outer step, and gives the step a second chance. */
export class StepClosing {
  readonly rule: ClosingConfig;
  readonly enoughCount: number;
  readonly leafCount: number;
  readonly #timeoutMs: number;
  #startMs: number;
  #enoughMs: number | null = null;
  #hasSecondChance = true;

  constructor(rule: ClosingConfig, { leafCount, startMs, timeoutMs }: StepTerms) {
    this.rule = rule;
    this.enoughCount = enoughCountOf(rule, leafCount);
    this.leafCount = leafCount;
    this.#timeoutMs = timeoutMs;
    this.#startMs = startMs;
  }

  /** The time of the outer step runs from now on. */
  begin(nowMs: number): void {
    this.#startMs = nowMs;
  }

  /** Calls to the queue are given up at this time. */
  get deadlineMs(): number {
    return this.#startMs + this.#timeoutMs;
  }

  /** @param isDisputed whether workers disagree on an admitted result: no rule closes a step that may be false. */
  look(admittedLeafCount: number, openCount: number, nowMs: number, isDisputed = false): Closing {
    if (admittedLeafCount >= this.enoughCount) this.#enoughMs ??= nowMs;
    const [startMs, timeoutMs, enoughMs] = [this.#startMs, this.#timeoutMs, this.#enoughMs];
    const rule = isDisputed ? ALL_RESULTS : this.rule;
    return closingOf({ openCount, nowMs, startMs, timeoutMs, enoughMs }, rule);
  }

  /**
   * Returns whether the open jobs may be sent again and waited for as long once more. A step that needs all
   * results has no second chance: its jobs are sent again one by one as they fail.
   */
  takeSecondChance(nowMs: number): boolean {
    if (this.rule.kind === 'all' || !this.#hasSecondChance) return false;
    this.#hasSecondChance = false;
    this.#startMs = nowMs;
    return true;
  }
}
