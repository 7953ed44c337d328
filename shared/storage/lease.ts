/**
 * A lease: the right of one process to work on something. Each time a lease is taken, it gets a larger epoch. A process
 * with a smaller one is fenced off: the queue and the object store refuse it, also if it was suspended meanwhile
 * and does not know. A holder renews its lease at intervals.
 *
 * A lease is kept in Redis (`queue/redis-run-lease.ts`) or, as here, as one small object. Every change is a conditional
 * write on the version that was read, so that of two processes one succeeds. The object stays when the lease
 * is released, because its epoch must grow.
 */

import { z } from 'zod';
import type { Clock } from '../base/clock.js';
import { QianmoError, errorOf } from '../base/errors.js';
import type { ObjectStore, PutCondition, StoredObject } from './object-store.js';
import {
  livenessOf,
  ProcessIdentitySchema,
  thisProcess,
  type ProcessIdentity,
} from './process-identity.js';

/** How far a run is, as its coordinator tells with each sign of life. */
const RunProgressSchema = z.strictObject({
  /** `stopping`: it has been cancelled. `finishing`: training is over, and no cancellation takes effect any more. */
  state: z.enum(['running', 'stopping', 'finishing']),
  /** Null until training begins. */
  training: z
    .strictObject({
      outerStep: z.int().nonnegative(),
      outerSteps: z.int().nonnegative(),
    })
    .nullable(),
});
export type RunProgress = z.infer<typeof RunProgressSchema>;

export const LeaseHolderSchema = z.strictObject({
  /** Sets this start of the coordinator apart from any other. */
  start: z.string().min(1),
  process: ProcessIdentitySchema,
  /** When it started, by the clock of its machine, in milliseconds since the Unix epoch. */
  sinceMs: z.number(),
  /** When it last said that it lives, by the same clock. */
  beatMs: z.number(),
  progress: RunProgressSchema.optional(),
  /** Shows that it has a signing key and follows signed cancellations only; absent where it follows any. */
  keyProof: z.string().optional(),
});
export type LeaseHolder = z.infer<typeof LeaseHolderSchema>;

/** How a coordinator gave its lease back. It is kept for a while, for those who cancelled it. */
export const RunEndSchema = z.strictObject({
  start: z.string().min(1),
  /** `cancelled`: a command stopped the run. `finished`: its training was over. `ended`: it ended otherwise. */
  kind: z.enum(['cancelled', 'finished', 'ended']),
  training: RunProgressSchema.shape.training,
});
export type RunEnd = z.infer<typeof RunEndSchema>;

/** Says for an error why a record cannot be read. */
export function foundInRecord(cause: unknown): string {
  return cause instanceof z.ZodError ? z.prettifyError(cause) : 'text that is not JSON';
}

export type LeaseAnswer =
  | { readonly kind: 'taken'; readonly epoch: number }
  | {
      readonly kind: 'held';
      readonly holder: LeaseHolder;
      /** Changes whenever the holder says that it lives. */
      readonly mark: string;
      /** The run of the holder; the run that asks if absent. */
      readonly run?: string;
    };

/** The run is in the hands of another coordinator, which took the lease later. */
export class RunFencedError extends QianmoError {
  constructor(where: string) {
    super({
      kind: 'taken',
      what: 'another coordinator has taken over this run',
      where,
      expected: 'one coordinator at a time',
      found:
        'a lease with a later epoch: this process said nothing for too long (suspended, or cut off)',
      cure: 'leave the run to the other coordinator; this one has stopped and changed nothing of it',
    });
  }
}

const POLL_INTERVAL_MS = 250;

export interface LeaseTerms {
  /** A holder says at least this often that it lives. */
  readonly beatIntervalMs: number;
  /** A holder that says nothing for this long is dead. */
  readonly silenceMsMax: number;
  readonly clock: Clock;
  readonly signal?: AbortSignal | undefined;
  /** Called before a holder that cannot be seen from here is waited for. */
  readonly onWait: (holder: LeaseHolder) => void;
  /** @param heldRun the run of the holder; absent if it is the one that asks. */
  readonly busyError: (holder: LeaseHolder, heldRun?: string) => QianmoError;
}

/**
 * Takes a lease, wherever it is kept. A live holder makes this fail; a dead one is waited for until its lease expires, or
 * not at all if its process is seen to have ended.
 *
 * @param take asks once; it is given the mark of a holder that is known to be dead.
 * @throws the busy error, or QianmoError `interrupted` when the signal aborts.
 */
export async function takeLease(
  take: (over: string | null) => Promise<LeaseAnswer>,
  { beatIntervalMs, silenceMsMax, clock, signal, onWait, busyError }: LeaseTerms,
): Promise<number> {
  let over: string | null = null;
  let watched: { readonly mark: string; readonly untilMs: number } | null = null;
  for (;;) {
    const answer = await take(over);
    if (answer.kind === 'taken') return answer.epoch;
    const { holder, mark, run: heldRun } = answer;
    const liveness = livenessOf(holder.process);
    // The clock of a process that is visible here is that of this machine.
    const saidSoJustNow = clock.epochMs() - holder.beatMs < 2 * beatIntervalMs;
    const hasBeaten = watched !== null && watched.mark !== mark;
    if (hasBeaten || (liveness === 'runs' && saidSoJustNow)) throw busyError(holder, heldRun);
    if (watched === null && liveness !== 'ended') onWait(holder);
    watched ??= { mark, untilMs: clock.monotonicMs() + silenceMsMax };
    const isDead = liveness === 'ended' || clock.monotonicMs() >= watched.untilMs;
    if (isDead) over = mark;
    else await clock.sleep(POLL_INTERVAL_MS, signal);
    if (signal?.aborted === true)
      throw new QianmoError({ kind: 'interrupted', what: 'stopped on request' });
  }
}

interface LeaseOptions extends LeaseTerms {
  /** It must honour conditional writes. */
  readonly store: ObjectStore;
  readonly key: string;
  /** The run that asks. */
  readonly run: string;
  readonly start: string;
  readonly process?: ProcessIdentity | undefined;
}

export interface HeldLease {
  readonly epoch: number;
  /** Aborts when another process has taken the lease, or its record was deleted. */
  readonly lost: AbortSignal;
  /** @throws RunFencedError if another process has taken the lease; QianmoError `environment` if its record was deleted. */
  demand(): Promise<void>;
  /** Demands the lease, unless it was held for certain that recently. */
  demandSince(ageMsMax: number): Promise<void>;
  /** Gives the lease back, unless it is lost. If the store cannot be written, the lease expires. */
  release(): Promise<void>;
}

/**
 * Starts in this process that could not give their claim back. Their process runs on, so the record of a
 * holder alone would say until its silence is long enough that they live.
 */
const leftBehind = new Set<string>();

/** @throws as `takeLease`. */
export async function holdLease(options: LeaseOptions): Promise<HeldLease> {
  const { start, process = thisProcess(), clock } = options;
  const lease = new ObjectLease(options);
  const sinceMs = clock.epochMs();
  const holder = (): LeaseHolder => ({ start, process, sinceMs, beatMs: clock.epochMs() });
  const take = async (over: string | null): Promise<LeaseAnswer> => {
    const answer = await lease.take(holder(), over);
    if (answer.kind === 'taken' || !leftBehind.delete(answer.holder.start)) return answer;
    return lease.take(holder(), answer.mark);
  };
  const epoch = await takeLease(take, options);
  return new KeptLease(lease, { epoch, holder, options });
}

class KeptLease implements HeldLease {
  readonly epoch: number;
  readonly #lease: ObjectLease;
  readonly #holder: () => LeaseHolder;
  readonly #options: LeaseOptions;
  readonly #lost = new AbortController();
  readonly #released = new AbortController();
  readonly #kept: Promise<void>;
  /** When the lease was held for certain. */
  #provenMs: number;
  /** One call at a time: a version that is read while another is written would look lost. */
  #turn: Promise<unknown> = Promise.resolve();

  constructor(
    lease: ObjectLease,
    terms: { epoch: number; holder: () => LeaseHolder; options: LeaseOptions },
  ) {
    this.epoch = terms.epoch;
    this.#lease = lease;
    this.#holder = terms.holder;
    this.#options = terms.options;
    this.#provenMs = terms.options.clock.monotonicMs();
    this.#kept = this.#keep();
  }

  get lost(): AbortSignal {
    return this.#lost.signal;
  }

  async demandSince(ageMsMax: number): Promise<void> {
    if (this.#options.clock.monotonicMs() - this.#provenMs > ageMsMax) await this.demand();
  }

  async demand(): Promise<void> {
    const startMs = this.#options.clock.monotonicMs();
    if (!(await this.#inTurn(() => this.#lease.isHeld()))) this.#lost.abort();
    if (this.#lost.signal.aborted) throw this.#lease.loss();
    this.#provenMs = startMs;
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
    const { clock, beatIntervalMs } = this.#options;
    for (;;) {
      await clock.sleep(beatIntervalMs, this.#released.signal);
      if (this.#released.signal.aborted || this.#lost.signal.aborted) return;
      const startMs = clock.monotonicMs();
      try {
        if (!(await this.#inTurn(() => this.#lease.renew(this.#holder())))) this.#lost.abort();
        else this.#provenMs = startMs;
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

const LEASE_BYTE_COUNT_MAX = 64 * 1024;

const LeaseRecordSchema = z.strictObject({
  formatVersion: z.literal(1),
  run: z.string().min(1),
  epoch: z.int().positive(),
  /** Null after the holder has released the lease. */
  holder: LeaseHolderSchema.nullable(),
});
type LeaseRecord = z.infer<typeof LeaseRecordSchema>;

export class ObjectLease {
  readonly address: string;
  readonly #store: ObjectStore;
  readonly #key: string;
  readonly #run: string;
  /** Set once the record was found to be gone. */
  #isDeleted = false;
  #held: { etag: string; epoch: number; start: string } | null = null;

  constructor({ store, key, run }: Pick<LeaseOptions, 'store' | 'key' | 'run'>) {
    this.#store = store;
    this.#key = key;
    this.#run = run;
    this.address = `${store.address}/${key}`;
  }

  /** @param over the mark of a holder that is known to be dead. */
  async take(holder: LeaseHolder, over: string | null): Promise<LeaseAnswer> {
    for (;;) {
      const found = await this.#store.get(this.#key, LEASE_BYTE_COUNT_MAX);
      const record = found === null ? null : this.#recordOf(found);
      const other = record?.holder ?? null;
      if (found !== null && other !== null && other.start !== holder.start && found.etag !== over)
        return { kind: 'held', holder: other, mark: found.etag, run: record?.run ?? this.#run };
      const epoch = (record?.epoch ?? 0) + 1;
      const etag = await this.#put({ epoch, holder }, found?.etag ?? null);
      if (etag === null) continue;
      this.#held = { etag, epoch, start: holder.start };
      return { kind: 'taken', epoch };
    }
  }

  /** Says that the holder lives. Returns false when the lease is lost. */
  async renew(holder: LeaseHolder): Promise<boolean> {
    return this.#rewritten(holder);
  }

  /** True while the object is what this holder wrote last. */
  async isHeld(): Promise<boolean> {
    return this.#held !== null && (await this.#isStillOwn());
  }

  /** The error of a lease that is lost. */
  loss(): QianmoError {
    if (!this.#isDeleted) return new RunFencedError(this.address);
    return errorOf('environment', 'the output of this run was deleted or moved while it ran', {
      where: this.address,
      expected: 'the claim that this coordinator wrote there',
      found: 'nothing',
      cure: 'restore the output and continue with --resume, or start again; leave it alone while a run works on it',
    });
  }

  /** Does nothing if the lease is lost. */
  async release(): Promise<void> {
    await this.#rewritten(null);
    this.#held = null;
  }

  /** Returns false if the lease is lost. */
  async #rewritten(holder: LeaseHolder | null): Promise<boolean> {
    while (this.#held !== null) {
      const { epoch, etag } = this.#held;
      const written = await this.#put({ epoch, holder }, etag);
      if (written !== null) {
        this.#held.etag = written;
        return true;
      }
      if (!(await this.#isStillOwn())) this.#held = null;
    }
    return false;
  }

  /** A write whose answer was lost has made another version of what this holder wrote. */
  async #isStillOwn(): Promise<boolean> {
    const found = await this.#store.get(this.#key, LEASE_BYTE_COUNT_MAX);
    this.#isDeleted = found === null;
    if (found === null || this.#held === null) return false;
    if (found.etag === this.#held.etag) return true;
    const { epoch, holder } = this.#recordOf(found);
    if (epoch !== this.#held.epoch || holder?.start !== this.#held.start) return false;
    this.#held.etag = found.etag;
    return true;
  }

  /** @param etag the version to replace; null if there must be none. */
  #put(change: Pick<LeaseRecord, 'epoch' | 'holder'>, etag: string | null): Promise<string | null> {
    const record: LeaseRecord = { formatVersion: 1, run: this.#run, ...change };
    const condition: PutCondition =
      etag === null ? { kind: 'absent' } : { kind: 'unchanged', etag };
    const bytes = Buffer.from(`${JSON.stringify(record, null, 2)}\n`);
    return this.#store.put(this.#key, bytes, condition);
  }

  #recordOf({ bytes }: StoredObject): LeaseRecord {
    const text = Buffer.from(bytes).toString('utf8');
    try {
      return LeaseRecordSchema.parse(JSON.parse(text));
    } catch (cause) {
      throw new QianmoError({
        kind: 'environment',
        what: 'the record of the coordinator that works on this run cannot be read',
        where: this.address,
        expected: 'a record of this version of qianmo',
        found: foundInRecord(cause),
        cure: 'use the version of qianmo that wrote it, or make sure that no coordinator of this run is running and delete this object',
      });
    }
  }
}
