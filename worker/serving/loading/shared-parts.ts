/**
 * Arrays that a thread makes anew for bundles, in memory that threads share and that one bundle has after another. A buffer
 * that is handed over counts as growth of the heap of the thread that answers requests, which collects all of it then; a
 * shared one does not, so that nothing but a list of free ones would ever give it back.
 */

import type { MakeArray, NumberArrayType } from '../../../shared/bundle/made-arrays.js';
import { slotCapacityOf } from './address-slots.js';

/** Loads after which a buffer that none of them needed is left to the collector. */
const IDLE_LOADS_MAX = 4;

interface FreeBuffer {
  readonly buffer: SharedArrayBuffer;
  readonly freeSinceLoad: number;
}

type NumberArray = Uint8Array | Int32Array | Uint32Array | Float32Array | Float64Array;

function isNumbers(value: unknown): value is NumberArray {
  return ArrayBuffer.isView(value) && !(value instanceof DataView);
}

export class SharedParts {
  readonly #taken = new Map<number, SharedArrayBuffer[]>();
  #free: FreeBuffer[] = [];
  #loadCount = 0;

  /** Makes arrays for a load that begins, valid until it is given back. */
  makerFor(loadId: number): MakeArray {
    this.#loadCount += 1;
    this.#free = this.#free.filter(
      ({ freeSinceLoad }) => freeSinceLoad >= this.#loadCount - IDLE_LOADS_MAX,
    );
    const taken: SharedArrayBuffer[] = [];
    this.#taken.set(loadId, taken);
    return (Type, length) => {
      const byteCount = length * Type.BYTES_PER_ELEMENT;
      const buffer = this.#take(byteCount);
      taken.push(buffer);
      new Uint8Array(buffer, 0, byteCount).fill(0);
      return new Type(buffer, 0, length);
    };
  }

  giveBack(loadId: number): void {
    for (const buffer of this.#taken.get(loadId) ?? [])
      this.#free.push({ buffer, freeSinceLoad: this.#loadCount });
    this.#taken.delete(loadId);
  }

  #take(byteCount: number): SharedArrayBuffer {
    const capacity = slotCapacityOf(byteCount);
    const place = this.#free.findIndex(({ buffer }) => buffer.byteLength === capacity);
    const [found] = place < 0 ? [] : this.#free.splice(place, 1);
    return found?.buffer ?? new SharedArrayBuffer(capacity);
  }
}

/** The parts, with copies by `make` of the arrays that threads do not share yet. */
export function sharedCopyOf<Parts>(parts: Parts, make: MakeArray): Parts {
  const copyOf = (value: unknown): unknown => {
    if (isNumbers(value)) {
      if (value.buffer instanceof SharedArrayBuffer) return value;
      const copy = make(value.constructor as unknown as NumberArrayType<NumberArray>, value.length);
      copy.set(value);
      return copy;
    }
    if (Array.isArray(value)) return value.map(copyOf);
    if (typeof value !== 'object' || value === null) return value;
    return Object.fromEntries(Object.entries(value).map(([name, part]) => [name, copyOf(part)]));
  };
  // Copies have the shape of the parts.
  return copyOf(parts) as Parts;
}
