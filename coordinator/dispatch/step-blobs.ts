/** The blobs of one step's jobs: inputs are put, restored, released and deleted, outputs are fetched. */

import { QianmoError } from '../../shared/base/errors.js';
import type { Patiently } from './queue-patience.js';
import {
  BlobMissingError,
  type BlobRef,
  blobRefOf,
  type BlobStore,
} from '../../shared/storage/blob-store.js';
import { LruCache } from '../../shared/base/lru-cache.js';

interface JobInputs {
  readonly dense: Uint8Array;
  readonly rowPack: Uint8Array | null;
  readonly frozen: Uint8Array | null;
}

/** The memory that outputs take which are fetched at once. */
const FETCHED_BYTE_COUNT_MAX = 64 * 1024 * 1024;
/** The number of outputs that are fetched at once: as many as the memory allows, within these bounds. */
const OUTPUTS_AT_ONCE = { min: 8, max: 128 };

export class StepBlobs {
  readonly #blobs: BlobStore;
  readonly #leases: BlobLeases;
  readonly #patiently: Patiently;
  readonly #deleting = new Set<Promise<void>>();
  /** The largest output so far; null before the first. */
  #outputByteCountMax: number | null = null;

  constructor(
    { blobs, leases }: { readonly blobs: BlobStore; readonly leases: BlobLeases },
    patiently: Patiently,
  ) {
    this.#blobs = blobs;
    this.#leases = leases;
    this.#patiently = patiently;
  }

  /** Registers the order as a user of its inputs. Resolves when all of them are stored. */
  async put(order: JobInputs): Promise<void> {
    const stored = inputsOf(order).map((bytes) =>
      this.#leases.lease(bytes) ? this.#put(bytes) : this.#putByOther(bytes),
    );
    if (order.frozen !== null) this.delete(this.#leases.hold(order.frozen));
    await Promise.all(stored);
  }

  #put(bytes: Uint8Array): Promise<unknown> {
    const ref = this.#leases.refOf(bytes);
    const put = this.#patiently(() => this.#blobs.put(bytes, ref));
    this.#leases.notePut(bytes, put);
    return put;
  }

  /** Another job puts the bytes, or has put them. Its call may end before they are stored. */
  async #putByOther(bytes: Uint8Array): Promise<void> {
    try {
      await this.#leases.putOf(bytes);
    } catch {
      await this.#put(bytes);
    }
  }

  /** Puts inputs again that were lost. Their users stay registered. */
  async restore(order: JobInputs): Promise<void> {
    for (const bytes of inputsOf(order)) {
      const ref = this.#leases.refOf(bytes);
      await this.#patiently(async () => {
        if (!(await this.#blobs.has(ref))) await this.#blobs.put(bytes, ref);
      });
    }
  }

  /**
   * How many outputs to fetch at once. Each takes the latency of the server, so a fixed number would bound the
   * results of a second.
   */
  get outputsAtOnce(): number {
    if (this.#outputByteCountMax === null) return OUTPUTS_AT_ONCE.min;
    const fitting = Math.floor(FETCHED_BYTE_COUNT_MAX / Math.max(1, this.#outputByteCountMax));
    return Math.min(OUTPUTS_AT_ONCE.max, Math.max(OUTPUTS_AT_ONCE.min, fitting));
  }

  /**
   * Returns null for a missing output, and no bytes for one that differs from its reference, or that no worker can have put
   * for its size.
   */
  async output(ref: BlobRef): Promise<Uint8Array | null> {
    this.#outputByteCountMax = Math.max(this.#outputByteCountMax ?? 0, ref.byteCount);
    try {
      return await this.#patiently(() => this.#blobs.get(ref));
    } catch (error) {
      if (error instanceof BlobMissingError) return null;
      const isForged = error instanceof QianmoError && ['data', 'usage'].includes(error.kind);
      if (isForged) return new Uint8Array(0);
      throw error;
    }
  }

  /** Releases the inputs of a job. Returns those without a user. */
  released(order: JobInputs): BlobRef[] {
    return inputsOf(order).flatMap((bytes) => this.#leases.release(bytes));
  }

  /**
   * Deletes blobs without waiting, and only once: a blob that is deleted late may be an input again.
   * Their lifetime removes what is left.
   */
  delete(refs: readonly BlobRef[]): void {
    for (const ref of refs) {
      const deleting = this.#blobs.delete(ref).catch(() => undefined);
      this.#deleting.add(deleting);
      void deleting.then(() => this.#deleting.delete(deleting));
    }
  }

  async settled(): Promise<void> {
    await Promise.all(this.#deleting);
  }
}

function inputsOf({ dense, rowPack, frozen }: JobInputs): Uint8Array[] {
  return [dense, ...(rowPack === null ? [] : [rowPack]), ...(frozen === null ? [] : [frozen])];
}

/**
 * The number of frozen blobs that may be held at once with few trainings; otherwise it is that of the trainings. A dispatcher can
 * outlive a run, as in a sweep.
 */
const HELD_COUNT_MIN = 2;

/**
 * Tracks which input blobs are in use, and says which of them to delete. It does not wait for a store,
 * so that a call that is repeated after an outage counts no user twice. Jobs may share a blob (the dense variables of an outer step,
 * equal row packs), so a blob is deleted when its last user releases it. Frozen inputs, which all
 * jobs of a run share, are held between outer steps.
 */
export class BlobLeases {
  readonly #userCountBySha256 = new Map<string, number>();
  readonly #held: LruCache<Uint8Array, Uint8Array>;
  /** Each array is hashed once, however many jobs use it. */
  readonly #refByBytes = new WeakMap<Uint8Array, BlobRef>();
  /** The puts under way, by digest. */
  readonly #puts = new Map<string, Promise<void>>();

  /** @param trainingsAtOnce how many trainings share the leases, each with frozen inputs of its own. */
  constructor(trainingsAtOnce = 1) {
    this.#held = new LruCache({ countMax: Math.max(HELD_COUNT_MIN, trainingsAtOnce) });
  }

  refOf(bytes: Uint8Array): BlobRef {
    const known = this.#refByBytes.get(bytes);
    if (known !== undefined) return known;
    const ref = blobRefOf(bytes);
    this.#refByBytes.set(bytes, ref);
    return ref;
  }

  /** Registers a user. Returns true for the first one, which must put the bytes. */
  lease(bytes: Uint8Array): boolean {
    return this.leaseRef(this.refOf(bytes));
  }

  /** Registers a user of a blob that a worker has put. */
  leaseRef({ sha256 }: BlobRef): boolean {
    const userCount = this.#userCountBySha256.get(sha256) ?? 0;
    this.#userCountBySha256.set(sha256, userCount + 1);
    return userCount === 0;
  }

  /** Lets later users wait for the put of the first one. */
  notePut(bytes: Uint8Array, put: Promise<unknown>): void {
    const { sha256 } = this.refOf(bytes);
    const noted = put.then(
      () => void this.#puts.delete(sha256),
      (error: unknown) => {
        this.#puts.delete(sha256);
        throw error;
      },
    );
    noted.catch(() => undefined);
    this.#puts.set(sha256, noted);
  }

  /** The put of the bytes that is under way, if there is one. */
  putOf(bytes: Uint8Array): Promise<void> | undefined {
    return this.#puts.get(this.refOf(bytes).sha256);
  }

  /**
   * Registers one more user of bytes that a job uses, until `releaseHeld`, or until newer ones are held.
   *
   * @returns the older blobs without a user, which the caller deletes.
   */
  hold(bytes: Uint8Array): readonly BlobRef[] {
    if (this.#held.get(bytes) !== undefined) return [];
    this.lease(bytes);
    return this.#held.put(bytes, bytes).flatMap((evicted) => this.release(evicted));
  }

  /** Returns the blobs without a user, which the caller deletes. */
  releaseHeld(): BlobRef[] {
    return [...this.#held.clear()].flatMap((bytes) => this.release(bytes));
  }

  isLeased(ref: BlobRef): boolean {
    return this.#userCountBySha256.has(ref.sha256);
  }

  /** Removes a user. Returns the blob if it was the last one; the caller deletes it. */
  release(bytes: Uint8Array): BlobRef[] {
    return this.releaseRef(this.refOf(bytes));
  }

  releaseRef(ref: BlobRef): BlobRef[] {
    const userCount = this.#userCountBySha256.get(ref.sha256) ?? 0;
    if (userCount > 1) {
      this.#userCountBySha256.set(ref.sha256, userCount - 1);
      return [];
    }
    this.#userCountBySha256.delete(ref.sha256);
    return [ref];
  }
}
