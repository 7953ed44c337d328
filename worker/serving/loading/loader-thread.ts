/**
 * The thread that makes bundles ready while another answers requests: it fetches, maps, fills, hashes and
 * self-checks them, and unmaps those that nobody reads any more.
 */

import { parentPort, workerData } from 'node:worker_threads';
import { systemClock } from '../../../shared/base/clock.js';
import { failureRecordOf } from '../../../shared/base/failure-record.js';
import { readBundleChain } from '../../../shared/bundle/delta/bundle-chain.js';
import { arraysOf, readMergedParts } from '../../../shared/bundle/delta/read-any-bundle.js';
import type { MergedParts } from '../../../shared/bundle/delta/merged-bundle.js';
import { openObjectStore } from '../../../shared/storage/open-object-store.js';
import { loadScoringAddon } from '../kernel-scorer.js';
import { chosenScorer } from '../server/scorer-choice.js';
import { ServedBundle } from '../server/served-bundle.js';
import { type AddressSlot, slotCapacityOf } from './address-slots.js';
import { bundleFilesOf } from './bundle-files.js';
import type { LoadedReply, LoaderReply, LoaderRequest, LoaderSettings } from './loader-messages.js';
import { MappedFiles, regionReader, type MappedRegion } from './mapped-files.js';
import type { MakeArray, NumberArrayType } from '../../../shared/bundle/made-arrays.js';

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

/** Between two pieces of work where the thread is paced; a piece takes about half of it. */
const PAUSE_MS = 1;

type LoadRequest = Extract<LoaderRequest, { readonly kind: 'load' }>;

const BUG = {
  what: 'the thread that loads bundles hit a bug',
  cure: 'report it; the bundle in use stays',
};

class BundleThread {
  readonly #store;
  readonly #settings: LoaderSettings;
  readonly #addon;
  readonly #mapped: MappedFiles;
  readonly #regions = new Map<number, readonly MappedRegion[]>();
  readonly #shared = new SharedParts();
  #isPaced = false;
  #hasLoaded = false;

  constructor(settings: LoaderSettings) {
    const { address, s3, addonPath, cacheFolder, cacheByteCountMax } = settings;
    this.#settings = settings;
    this.#store = openObjectStore(address, s3);
    this.#addon = loadScoringAddon(addonPath);
    const cache = { folder: cacheFolder, byteCountMax: cacheByteCountMax, clock: systemClock };
    this.#mapped = new MappedFiles({
      addon: this.#addon,
      files: bundleFilesOf(this.#store, cache),
      clock: systemClock,
      betweenPieces: () => (this.#isPaced ? systemClock.sleep(PAUSE_MS) : Promise.resolve()),
    });
  }

  get threadId(): number {
    return this.#addon.threadId();
  }

  async load(loadId: number, digest: string, isPaced: boolean): Promise<LoadedReply> {
    this.#isPaced = isPaced;
    const where = `${this.#store.address}@${digest}`;
    const chain = await readBundleChain(this.#store, digest);
    const regions = await this.#mapped.map(arraysOf(chain));
    const make = this.#shared.makerFor(loadId);
    let parts: MergedParts | null;
    try {
      const read = regionReader(regions, (region) => this.#mapped.bufferOf(region));
      const merged = await readMergedParts(chain, read, where, make);
      parts = merged.parts;
      const choice = chosenScorer(this.#settings.addonPath);
      const bundle = new ServedBundle({ digest, loaded: merged.bundle, choice });
      bundle.selfCheck(where);
      bundle.retire();
    } catch (error) {
      this.#shared.giveBack(loadId);
      await this.#mapped.free(regions);
      throw error;
    }
    this.#regions.set(loadId, regions);
    const reserved = this.#hasLoaded ? [] : this.#mapped.reserveFor(regions);
    this.#hasLoaded = true;
    const shared = parts === null ? null : sharedCopyOf(parts, make);
    return { kind: 'loaded', loadId, chain, regions, reserved, parts: shared };
  }

  async free(loadId: number): Promise<void> {
    const regions = this.#regions.get(loadId) ?? [];
    this.#regions.delete(loadId);
    this.#shared.giveBack(loadId);
    await this.#mapped.free(regions);
  }

  /** Slots that nothing needs: those that hold nothing at the end, those of earlier sizes before. */
  dropped(isEnd: boolean): readonly AddressSlot[] {
    return isEnd ? this.#mapped.freeSlots() : this.#mapped.unneededSlots();
  }

  endSlots(slots: readonly AddressSlot[]): void {
    this.#mapped.endSlots(slots);
  }
}

if (parentPort !== null) {
  const port = parentPort;
  // Of the same build as `mapping-loader.ts`, which writes both.
  const thread = new BundleThread(workerData as LoaderSettings);
  const reply = (message: LoaderReply): void => port.postMessage(message);
  reply({ kind: 'started', threadId: thread.threadId });
  let isEnding = false;
  /** Lists of slots that the other thread has not let go of yet. */
  let droppedListCount = 0;
  const drop = (slots: readonly AddressSlot[]): void => {
    droppedListCount += 1;
    reply({ kind: 'dropped', slots });
  };
  const load = async ({ loadId, digest, isPaced }: LoadRequest): Promise<void> => {
    try {
      reply(await thread.load(loadId, digest, isPaced));
    } catch (error) {
      reply({ kind: 'failed', loadId, failure: failureRecordOf(error, BUG) });
    }
    const slots = thread.dropped(false);
    if (slots.length > 0) drop(slots);
  };
  const carryOut = async (request: LoaderRequest): Promise<void> => {
    if (request.kind === 'load') await load(request);
    else if (request.kind === 'free') await thread.free(request.loadId);
    else if (request.kind === 'end') {
      isEnding = true;
      drop(thread.dropped(true));
    } else {
      thread.endSlots(request.slots);
      droppedListCount -= 1;
      if (isEnding && droppedListCount === 0) port.close();
    }
  };
  // One after the other: what a bundle shares with the one before is mapped once.
  let before = Promise.resolve();
  port.on('message', (request: LoaderRequest) => {
    before = before.then(() => carryOut(request));
  });
}
