/**
 * A lease kept as one small object. Every change is a conditional write on the version that was read, so
 * that of two coordinators one succeeds. The object stays when the lease is released: its epoch must grow.
 */

import { z } from 'zod';
import { QianmoError } from '../base/errors.js';
import type { ObjectStore, PutCondition, StoredObject } from './object-store.js';
import {
  foundInRecord,
  LeaseHolderSchema,
  RunFencedError,
  type LeaseAnswer,
  type LeaseHolder,
} from './run-lease.js';

const LEASE_KEY = 'coordinator.json';
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
  readonly #run: string;
  /** Set once the record was found to be gone. */
  #isDeleted = false;
  #held: { etag: string; epoch: number; start: string } | null = null;

  constructor(store: ObjectStore, run: string) {
    this.#store = store;
    this.#run = run;
    this.address = `${store.address}/${LEASE_KEY}`;
  }

  /** @param over the mark of a holder that is known to be dead. */
  async take(holder: LeaseHolder, over: string | null): Promise<LeaseAnswer> {
    for (;;) {
      const found = await this.#store.get(LEASE_KEY, LEASE_BYTE_COUNT_MAX);
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

  /** Whether the object is still what this holder wrote last. */
  async isHeld(): Promise<boolean> {
    return this.#held !== null && (await this.#isStillOwn());
  }

  /** The error of a lease that is lost. */
  loss(): QianmoError {
    if (!this.#isDeleted) return new RunFencedError(this.address);
    return new QianmoError({
      kind: 'environment',
      what: 'the output of this run was deleted or moved while it ran',
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
    const found = await this.#store.get(LEASE_KEY, LEASE_BYTE_COUNT_MAX);
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
    return this.#store.put(LEASE_KEY, bytes, condition);
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
        found: foundInRecord(text, cause),
        cure: 'use the version of qianmo that wrote it, or make sure that no coordinator of this run is running and delete this object',
      });
    }
  }
}
