/**
 * The claim on the checkpoints of a run: a lease in the object store, taken before the first job, so that
 * two coordinators are told apart even if they use different Redis servers or none. The holder renews it at
 * intervals. Checkpoints are written under it.
 */

import type { Clock } from '../../shared/base/clock.js';
import { QianmoError } from '../../shared/base/errors.js';
import type { RunEventSink } from '../../shared/events/run-events.js';
import { ObjectLease } from '../../shared/storage/object-lease.js';
import type { ObjectStore } from '../../shared/storage/object-store.js';
import { thisProcess, type ProcessIdentity } from '../../shared/storage/process-identity.js';
import { type LeaseAnswer, type LeaseHolder } from '../../shared/storage/run-lease.js';
import { takeLease } from '../dispatch/take-lease.js';

const BEAT_INTERVAL_MS = 5_000;
/** Longer than a store may take for some writes in a row. */
const CLAIM_SILENCE_MS_MAX = 20_000;

interface ClaimOptions {
  /** The store for the checkpoints of this run. It must honour conditional writes. */
  readonly store: ObjectStore;
  readonly run: string;
  readonly start: string;
  readonly process?: ProcessIdentity;
  readonly clock: Clock;
  readonly sink: RunEventSink;
  readonly signal: AbortSignal;
}

export interface RunClaim {
  readonly epoch: number;
  /** Aborts when another coordinator has taken over the run, or its record was deleted. */
  readonly lost: AbortSignal;
  /** @throws RunFencedError if another coordinator has taken over the run; QianmoError `environment` if its record was deleted. */
  demand(): Promise<void>;
  /** Gives the claim back, unless it is lost. If the store cannot be written, the claim ends by itself. */
  release(): Promise<void>;
}

/**
 * Starts in this process that could not give their claim back. Their process runs on, so the record of a
 * holder alone would say until its silence is long enough that they live.
 */
const leftBehind = new Set<string>();

/** @throws QianmoError `usage` if another coordinator works on the run. */
export async function claimRun(options: ClaimOptions): Promise<RunClaim> {
  const { store, run, start, process = thisProcess(), clock, sink, signal } = options;
  const lease = new ObjectLease(store, run);
  const sinceMs = clock.epochMs();
  const holder = (): LeaseHolder => ({ start, process, sinceMs, beatMs: clock.epochMs() });
  const take = async (over: string | null): Promise<LeaseAnswer> => {
    const answer = await lease.take(holder(), over);
    if (answer.kind === 'taken' || !leftBehind.delete(answer.holder.start)) return answer;
    return lease.take(holder(), answer.mark);
  };
  const epoch = await takeLease(take, {
    ...{ run, where: lease.address, clock, sink, signal },
    ...{ beatIntervalMs: BEAT_INTERVAL_MS, silenceMsMax: CLAIM_SILENCE_MS_MAX },
  });
  return new KeptClaim(lease, { epoch, holder, clock });
}

class KeptClaim implements RunClaim {
  readonly epoch: number;
  readonly #lease: ObjectLease;
  readonly #holder: () => LeaseHolder;
  readonly #clock: Clock;
  readonly #lost = new AbortController();
  readonly #released = new AbortController();
  readonly #kept: Promise<void>;
  /** One call at a time: a version that is read while another is written would look lost. */
  #turn: Promise<unknown> = Promise.resolve();

  constructor(
    lease: ObjectLease,
    { epoch, holder, clock }: { epoch: number; holder: () => LeaseHolder; clock: Clock },
  ) {
    this.epoch = epoch;
    this.#lease = lease;
    this.#holder = holder;
    this.#clock = clock;
    this.#kept = this.#keep();
  }

  get lost(): AbortSignal {
    return this.#lost.signal;
  }

  async demand(): Promise<void> {
    if (!(await this.#inTurn(() => this.#lease.isHeld()))) this.#lost.abort();
    if (this.#lost.signal.aborted) throw this.#lease.loss();
  }

  async release(): Promise<void> {
    this.#released.abort();
    await this.#kept;
    await this.#inTurn(() => this.#lease.release()).catch((error: unknown) => {
      if (!(error instanceof QianmoError)) throw error;
      leftBehind.add(this.#holder().start);
    });
  }

  async #keep(): Promise<void> {
    for (;;) {
      await this.#clock.sleep(BEAT_INTERVAL_MS, this.#released.signal);
      if (this.#released.signal.aborted || this.#lost.signal.aborted) return;
      try {
        if (!(await this.#inTurn(() => this.#lease.renew(this.#holder())))) this.#lost.abort();
      } catch (error) {
        // The store is away: the next beat, or the next checkpoint, tries again.
        if (!(error instanceof QianmoError)) throw error;
      }
    }
  }

  #inTurn<Answer>(ask: () => Promise<Answer>): Promise<Answer> {
    const answer = this.#turn.then(ask);
    this.#turn = answer.catch(() => undefined);
    return answer;
  }
}
