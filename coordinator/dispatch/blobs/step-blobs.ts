/** The blobs of one step's jobs: inputs are put, restored, released and deleted, outputs are fetched. */

import { QianmoError } from '../../../shared/base/errors.js';
import {
  BlobMissingError,
  type BlobRef,
  type BlobStore,
} from '../../../shared/storage/blob-store.js';
import type { BlobLeases } from './blob-leases.js';

/** The input bytes of a job, as its order has them. */
interface JobInputs {
  readonly dense: Uint8Array;
  readonly rowPack: Uint8Array | null;
  readonly frozen: Uint8Array | null;
}

/** Tries again while the store is away. */
type Patiently = <Answer>(action: () => Promise<Answer>) => Promise<Answer>;

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

  /** Resolves when no deletion is under way. */
  async settled(): Promise<void> {
    await Promise.all(this.#deleting);
  }
}

function inputsOf({ dense, rowPack, frozen }: JobInputs): Uint8Array[] {
  return [dense, ...(rowPack === null ? [] : [rowPack]), ...(frozen === null ? [] : [frozen])];
}
