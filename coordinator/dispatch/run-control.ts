/**
 * A coordinator's side of the orders that are given to its run through the queue. Orders arrive with the renewals
 * of the lease, and progress leaves with them.
 */

import type { Clock } from '../../shared/base/clock.js';
import { QianmoError } from '../../shared/base/errors.js';
import {
  encodeOrders,
  NO_ORDERS,
  type RunOrders,
  type UnreadableOrdersError,
} from '../../shared/queue/run-orders.js';
import { type RunEventSink, warningEvent } from '../../shared/events/run-events.js';
import {
  FIXED_BY_END,
  type RunEnd,
  type RunFencedError,
  type RunProgress,
} from '../../shared/storage/lease.js';

/** The orders of a run, as its work sees them. */
export interface RunControl {
  /** The run that is controlled; work under another name must not follow orders about its length. */
  readonly runId: string;
  /** The latest orders. */
  readonly orders: RunOrders;
  /** Asks for the latest orders now. Does nothing while the server is away. */
  refresh(): Promise<void>;
  /** Says how far training is. It is told with the next renewal of the lease. */
  tell(training: RunProgress['training']): void;
}

interface OrdersHeardOptions {
  readonly clock: Clock;
  readonly sink: RunEventSink;
  /** False for work that never trains; true by default. */
  readonly mayTrain?: boolean | undefined;
}

/** How long a pause may go on after the orders that end it, should their wake-up be missed. */
const LOOK_INTERVAL_MS = 60_000;

export class OrdersHeard {
  readonly #clock: Clock;
  readonly #sink: RunEventSink;
  readonly #mayTrain: boolean;
  readonly #cancelled = new AbortController();
  /** Whether a call has ended because the run is cancelled. Until then the run may still finish. */
  #isStopped = false;
  #orders = NO_ORDERS;
  /** The reason why this version cannot read the orders; null if they were read. */
  #unreadable: string | null = null;
  /** Set when another coordinator has the lease, with which orders come. */
  #fenced: RunFencedError | null = null;
  #training: RunProgress['training'] = null;
  /** The calls that a pause holds back; several trials of a sweep may wait at once. */
  #heldBackCount = 0;
  #changed = new AbortController();

  constructor({ clock, sink, mayTrain = true }: OrdersHeardOptions) {
    this.#clock = clock;
    this.#sink = sink;
    this.#mayTrain = mayTrain;
  }

  get orders(): RunOrders {
    return this.#orders;
  }

  /** Aborts when the run is cancelled, with the QianmoError that calls end with. */
  get cancelled(): AbortSignal {
    return this.#cancelled.signal;
  }

  get progress(): RunProgress {
    return {
      state: this.#state(),
      training: this.#trainingAsOrdered(),
      ...(this.#mayTrain ? {} : { hasOuterSteps: false }),
    };
  }

  /** How the run ends, if it ends now. */
  get end(): Omit<RunEnd, 'start'> {
    const training = this.#trainingAsOrdered();
    if (this.#isStopped) return { kind: 'cancelled', training };
    return { kind: training?.lengthFixedBy === FIXED_BY_END ? 'finished' : 'ended', training };
  }

  #state(): RunProgress['state'] {
    if (this.#cancelled.signal.aborted) return 'stopping';
    if (!this.#orders.isPaused) return 'running';
    return this.#heldBackCount > 0 ? 'paused' : 'pausing';
  }

  #trainingAsOrdered(): RunProgress['training'] {
    const training = this.#training;
    if (training === null || training.lengthFixedBy !== null) return training;
    return { ...training, outerSteps: Math.max(training.outerSteps, this.#orders.outerSteps ?? 0) };
  }

  tell(training: RunProgress['training']): void {
    this.#training = training;
  }

  /** Returns whether the orders differ from the last ones, so that the progress should be told at once. */
  hear(orders: RunOrders): boolean {
    this.#unreadable = null;
    if (encodeOrders(orders) === encodeOrders(this.#orders)) return false;
    this.#orders = orders;
    if (orders.isCancelled && !this.#cancelled.signal.aborted) this.#cancelled.abort(cancelled());
    this.#wakeAll();
    return true;
  }

  /** Called with the error that ends a call. */
  callFailed(error: unknown): void {
    if (!this.#cancelled.signal.aborted || error !== this.#cancelled.signal.reason) return;
    if (!this.#isStopped) this.#sink({ kind: 'run-cancelled' });
    this.#isStopped = true;
  }

  /** The orders stay those that were heard last. It is told once, until the record changes. */
  cannotRead({ report }: UnreadableOrdersError): void {
    const { found = '' } = report;
    if (this.#unreadable === found) return;
    this.#unreadable = found;
    const reason = [report.what, found, report.cure].join('; ');
    this.#sink(warningEvent('orders-unreadable', `the run goes on as before: ${reason}`));
  }

  /** No more orders come, so a pause would never end. */
  fence(error: RunFencedError): void {
    this.#fenced = error;
    this.#wakeAll();
  }

  /**
   * Resolves when jobs may go out: at once, or when a pause is over. A pause ends with the signal too, which
   * the caller then finds aborted.
   *
   * @param onHeldBack called at the beginning of a pause, which lasts at least until it resolves.
   * @throws QianmoError `cancelled` when the run is cancelled; RunFencedError if another coordinator takes over the run
   *   during a pause. A failure of `onHeldBack` passes.
   */
  async allowed(signal: AbortSignal, onHeldBack?: () => Promise<void>): Promise<void> {
    if (this.#orders.isPaused && !this.#isOver(signal)) {
      await this.#pausedUntilAllowed(signal, onHeldBack);
      if (this.#fenced !== null) throw this.#fenced;
    }
    this.#cancelled.signal.throwIfAborted();
  }

  async #pausedUntilAllowed(
    signal: AbortSignal,
    onHeldBack: (() => Promise<void>) | undefined,
  ): Promise<void> {
    this.#heldBackCount += 1;
    if (this.#heldBackCount === 1) this.#sink({ kind: 'run-paused' });
    const startMs = this.#clock.monotonicMs();
    const wake = (): void => this.#wakeAll();
    signal.addEventListener('abort', wake, { once: true });
    try {
      await onHeldBack?.();
      while (this.#orders.isPaused && !this.#isOver(signal))
        await this.#clock.sleep(LOOK_INTERVAL_MS, this.#changed.signal);
    } finally {
      signal.removeEventListener('abort', wake);
      this.#heldBackCount -= 1;
    }
    if (this.#heldBackCount > 0 || this.#isOver(signal)) return;
    this.#sink({ kind: 'run-resumed', pausedMs: this.#clock.monotonicMs() - startMs });
  }

  /** Those that must go on waiting do so on another signal: one that has aborted would never let them. */
  #wakeAll(): void {
    const changed = this.#changed;
    this.#changed = new AbortController();
    changed.abort();
  }

  #isOver(signal: AbortSignal): boolean {
    return signal.aborted || this.#cancelled.signal.aborted || this.#fenced !== null;
  }
}

function cancelled(): QianmoError {
  return new QianmoError({
    kind: 'cancelled',
    what: 'the run was cancelled through its queue',
    cure: 'continue with --resume',
  });
}
