/**
 * The rule that closes an outer step. A pure function of the jobs that are admitted, the jobs that
 * are open, and the time. Dispatchers ask it on every turn and act on its answer.
 */

import { ALL_RESULTS, type ClosingConfig } from '../../shared/config/closing-config.js';
import { QianmoError } from '../../shared/base/errors.js';
import { JOB_BYTE_COUNT_MAX, taskCountOf } from '../../shared/queue/protocol.js';
import { SIGNATURE_BYTE_COUNT } from '../../shared/signing/record-signature.js';
import type { JobDelivery } from './job-delivery.js';
import { NONE_HEALTHY_MS_MAX, type WorkerHealth } from './worker-health.js';

interface StepProgress {
  /** Jobs without an admitted result, whether or not they have been sent. */
  readonly openCount: number;
  readonly nowMs: number;
  /** When the outer step began, or its second chance. On the same scale as `nowMs`. */
  readonly startMs: number;
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

/** The jobs that are still open when a step fails. */
export interface OpenJobs {
  readonly orderCount: number;
  readonly openCount: number;
  readonly first: JobDelivery | undefined;
}

/** @throws QianmoError `usage` when the job, without the terms of its delivery, is larger than the queue takes. */
export function assertFits({ job, where }: Pick<JobDelivery, 'job' | 'where'>): void {
  const { notBy: _notBy, fingerprint: _fingerprint, ...jobAlone } = job;
  const byteCount = Buffer.byteLength(JSON.stringify(jobAlone));
  const byteCountMax = JOB_BYTE_COUNT_MAX - SIGNATURE_BYTE_COUNT;
  if (byteCount <= byteCountMax) return;
  throw new QianmoError({
    kind: 'usage',
    what: `a job of ${taskCountOf(job)} tasks is too large for the queue`,
    where,
    expected: `at most ${byteCountMax} bytes`,
    found: `${byteCount} bytes`,
    cure: 'lower training.microBatchRowsMax, or shorten the sections model and method',
  });
}

export function tooFewResults(
  open: OpenJobs,
  { rule, enoughCount, leafCount }: Pick<StepClosing, 'rule' | 'enoughCount' | 'leafCount'>,
  timeoutMs: number,
  health: WorkerHealth,
): QianmoError {
  const clouded = health.describe();
  const sick = clouded === null ? '' : `; ${clouded}`;
  if (rule.kind !== 'all')
    return new QianmoError({
      kind: 'transient',
      what: 'an outer step did not get enough results in time, although its jobs were sent twice',
      ...whereOf(open),
      expected: `results of ${enoughCount} of ${leafCount} leaves, as training.closing asks`,
      found: `${open.orderCount - open.openCount} of ${open.orderCount} jobs${sick}`,
      cure: 'check that workers run and reach Redis, or change training.closing; then continue with --resume',
    });
  return new QianmoError({
    kind: 'transient',
    what: 'an outer step did not get all its results in time',
    ...whereOf(open),
    expected: `${open.orderCount} results within ${timeoutMs} ms`,
    found: `${open.openCount} jobs still open${sick}`,
    cure: 'check that workers run and reach Redis, then continue with --resume',
  });
}

/** The time of an outer step is over, and two workers disagree on a result of it. Null if none do. */
export function undecidedDispute(
  disputes: ReadonlyMap<JobDelivery, readonly string[]>,
  health: WorkerHealth,
): QianmoError | null {
  const [dispute] = disputes;
  if (dispute === undefined) return null;
  const [{ where, job }, workers] = dispute;
  const clouded = health.describe();
  return new QianmoError({
    kind: 'transient',
    what: `two workers disagree on job ${job.jobIndex}: ${workers.join(', ')}`,
    where,
    expected: 'a third worker that decides in time',
    found: clouded === null ? 'none' : `none; ${clouded}`,
    cure: 'connect a third worker, then continue with --resume',
  });
}

export function noWorkerHealthy(open: OpenJobs, health: WorkerHealth): QianmoError {
  return new QianmoError({
    kind: health.isAnySick ? 'environment' : 'failed',
    what: health.isAnySick
      ? 'no connected worker is healthy'
      : 'every connected worker refuses the jobs of this run',
    ...whereOf(open),
    expected: `a worker that does jobs within ${NONE_HEALTHY_MS_MAX} ms`,
    found: health.describe() ?? '',
    cure: 'correct what the workers found, or start a worker that can do the jobs; then continue with --resume',
  });
}

function whereOf({ first }: OpenJobs): { readonly where?: string } {
  return first === undefined ? {} : { where: first.where };
}
