/**
 * Ranges of addresses that hold files of one bundle after those of another. The garbage collector counts an
 * array buffer over mapped files as memory that it could win back: if every bundle had new ones, the
 * thread that answers requests would collect several times in each swap.
 */

import type { MappingAddon } from '../mapping-addon.js';

/** A range with room for the files of one region. */
export interface AddressSlot {
  readonly address: number;
  /** Bytes from the address on. */
  readonly capacity: number;
}

/** The array buffers of one thread over slots, made once for each. */
export class SlotBuffers {
  readonly #addon: Pick<MappingAddon, 'view' | 'detach'>;
  readonly #byAddress = new Map<number, ArrayBuffer>();

  constructor(addon: Pick<MappingAddon, 'view' | 'detach'>) {
    this.#addon = addon;
  }

  has({ address }: AddressSlot): boolean {
    return this.#byAddress.has(address);
  }

  of({ address, capacity }: AddressSlot): ArrayBuffer {
    const known = this.#byAddress.get(address);
    if (known !== undefined) return known;
    const buffer = this.#addon.view(address, capacity);
    this.#byAddress.set(address, buffer);
    return buffer;
  }

  /** Their buffers become empty, and so do all views. */
  detach(slots: readonly AddressSlot[]): void {
    for (const { address } of slots) {
      const buffer = this.#byAddress.get(address);
      if (buffer !== undefined) this.#addon.detach(buffer);
      this.#byAddress.delete(address);
    }
  }
}

/** Slots differ by an eighth at least, so that a bundle that has grown a little finds room. */
const STEPS_PER_DOUBLING = 8;
/** Pages of all machines end where this does. */
const STEP_BYTE_COUNT_MIN = 65_536;
/** Loads of bundles after which a slot that none of them needed is given back. */
const IDLE_LOADS_MAX = 4;

interface FreeSlot extends AddressSlot {
  readonly freeSinceLoad: number;
}

/** The slots that a thread has reserved. */
export class AddressSlots {
  readonly #addon: Pick<MappingAddon, 'reserve' | 'unmap'>;
  /** The one that was given back first comes first. */
  #free: FreeSlot[] = [];
  #loadCount = 0;

  constructor(addon: Pick<MappingAddon, 'reserve' | 'unmap'>) {
    this.#addon = addon;
  }

  /** @throws Error with a system's code if there is no room. */
  take(byteCount: number): AddressSlot {
    const capacity = slotCapacityOf(byteCount);
    const place = this.#free.findIndex((slot) => slot.capacity === capacity);
    const [found] = place < 0 ? [] : this.#free.splice(place, 1);
    return { address: found?.address ?? this.#addon.reserve(capacity), capacity };
  }

  /** Takes back a slot that holds nothing any more. */
  giveBack({ address, capacity }: AddressSlot): void {
    this.#free.push({ address, capacity, freeSinceLoad: this.#loadCount });
  }

  /** Counts a load, and takes out the slots that the last ones did not need. */
  unneeded(): AddressSlot[] {
    this.#loadCount += 1;
    const oldest = this.#loadCount - IDLE_LOADS_MAX;
    const unneeded = this.#free.filter(({ freeSinceLoad }) => freeSinceLoad < oldest);
    this.#free = this.#free.filter(({ freeSinceLoad }) => freeSinceLoad >= oldest);
    return unneeded;
  }

  /** Takes out all slots that hold nothing. */
  takeFree(): AddressSlot[] {
    return this.#free.splice(0);
  }

  /** Ends slots that were taken out, once no thread has a buffer over them. */
  end(slots: readonly AddressSlot[]): void {
    for (const { address, capacity } of slots) this.#addon.unmap(address, capacity);
  }
}

/** Eight sizes between a power of two and the next. */
export function slotCapacityOf(byteCount: number): number {
  const doubling = 2 ** Math.floor(Math.log2(Math.max(1, byteCount)));
  const step = Math.max(STEP_BYTE_COUNT_MIN, doubling / STEPS_PER_DOUBLING);
  return Math.max(1, Math.ceil(byteCount / step)) * step;
}
