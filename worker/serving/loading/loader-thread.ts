/**
 * The thread that makes bundles ready while another answers requests: it fetches, maps, fills, hashes and
 * self-checks them, and unmaps those that nobody reads any more. What it maps is handed over by address.
 */

import { createHash } from 'node:crypto';
import { statSync } from 'node:fs';
import { parentPort, workerData } from 'node:worker_threads';
import { at } from '../../../shared/base/arrays.js';
import { systemClock } from '../../../shared/base/clock.js';
import { type QianmoError, errorOf } from '../../../shared/base/errors.js';
import { failureRecordOf } from '../../../shared/base/failure-record.js';
import { damagedFile } from '../../../shared/bundle/array-files.js';
import type { BundleArray } from '../../../shared/bundle/bundle-manifest.js';
import { readBundleManifest } from '../../../shared/bundle/bundle-store.js';
import { readBundle } from '../../../shared/bundle/read-bundle.js';
import { loadPluginsOfArguments } from '../../../shared/plugins/load-plugins.js';
import type { BlobRef } from '../../../shared/storage/blob-store.js';
import { openObjectStore } from '../../../shared/storage/open-object-store.js';
import { loadScoringAddon, type ScoringAddon } from '../kernel-scorer.js';
import { ServedBundle } from '../server/served-bundle.js';
import { bundleFilesOf, type BundleFiles } from './bundle-files.js';
import {
  regionNameOf,
  SlotBuffers,
  type AddressSlot,
  type LoaderReply,
  type LoaderRequest,
  type LoaderSettings,
  type MappedRegion,
} from './mapping-loader.js';

/** Pages are filled, hashed and unmapped in pieces: a call holds the lock on the memory of the process. */
const PIECE_BYTE_COUNT = 2 ** 20;
/** Between two pieces: hashing at full speed takes memory bandwidth from answers. */
const PAUSE_MS = 1;
/** Slots differ by an eighth at least, so that a bundle that has grown a little finds room. */
const STEPS_PER_DOUBLING = 8;
/** Pages of all machines end where this does. */
const STEP_BYTE_COUNT_MIN = 65_536;

interface OwnedRegion extends MappedRegion {
  /** Device and number of each file on disk. */
  readonly diskFiles: readonly string[];
  holderCount: number;
}

type MappingTry =
  | { readonly region: OwnedRegion }
  /** The place of the damaged file. */
  | { readonly place: number; readonly error: QianmoError };

/** Files that are mapped once however many bundles have them, each compared with its digest before its first use. */
class MappedFiles {
  /** False until the first bundle is loaded: nobody answers requests before. */
  isPaced = false;
  readonly #addon: ScoringAddon;
  readonly #files: BundleFiles;
  readonly #buffers: SlotBuffers;
  readonly #regions = new Map<string, OwnedRegion>();
  /** Slots that hold nothing; the one that was given back first comes first. */
  readonly #free: AddressSlot[] = [];

  constructor(addon: ScoringAddon, files: BundleFiles) {
    this.#addon = addon;
    this.#files = files;
    this.#buffers = new SlotBuffers(addon);
  }

  /** Reserves for the next bundle as much as this one has. */
  reserveFor(regions: readonly MappedRegion[]): AddressSlot[] {
    const slots = regions.map(({ slot }) => this.#slotOf(slot.capacity));
    this.#free.push(...slots);
    return slots;
  }

  reader(regions: readonly MappedRegion[]): ReturnType<SlotBuffers['reader']> {
    return this.#buffers.reader(regions);
  }

  /**
   * Maps all arrays of a bundle. What it returns stays mapped until it is given to `free`.
   *
   * @throws QianmoError of kind `data` if a file is missing or damaged.
   */
  async map(arrays: readonly BundleArray[]): Promise<MappedRegion[]> {
    const groups = new Map(arrays.map(({ files }) => [regionNameOf(files), files]));
    await this.#files.prepare([...groups.values()].flat());
    const mapped: MappedRegion[] = [];
    try {
      for (const [name, files] of groups) {
        if (files.length === 0) continue;
        const region = this.#regions.get(name) ?? (await this.#mapFiles(files));
        region.holderCount += 1;
        this.#regions.set(name, region);
        mapped.push({ files, slot: region.slot });
      }
    } catch (error) {
      await this.free(mapped);
      throw error;
    }
    return mapped;
  }

  /** Gives back what only these holders had, in pieces with pauses between them. */
  async free(regions: readonly MappedRegion[]): Promise<void> {
    for (const { files } of regions) {
      const region = this.#regions.get(regionNameOf(files));
      if (region === undefined) throw new Error('a region is freed that is not mapped');
      region.holderCount -= 1;
      if (region.holderCount > 0) continue;
      this.#regions.delete(regionNameOf(files));
      const { address, capacity } = region.slot;
      for (let start = 0; start < capacity; start += PIECE_BYTE_COUNT) {
        this.#addon.vacate(address + start, Math.min(PIECE_BYTE_COUNT, capacity - start));
        await systemClock.sleep(PAUSE_MS);
      }
      this.#free.push(region.slot);
    }
  }

  async #mapFiles(files: readonly BlobRef[]): Promise<OwnedRegion> {
    const paths: string[] = [];
    for (const file of files) paths.push(await this.#files.pathOf(file));
    for (let isRenewed = false; ; isRenewed = true) {
      const found = await this.#mapIfSound(files, paths);
      if ('region' in found) return found.region;
      const { place, error } = found;
      const renewed = isRenewed ? null : await this.#files.renewed(at(files, place));
      if (renewed === null) throw error;
      paths[place] = renewed;
    }
  }

  /** The region, or the first file that is not what its digest says. */
  async #mapIfSound(files: readonly BlobRef[], paths: readonly string[]): Promise<MappingTry> {
    const damaged = (place: number, found: string): MappingTry => ({
      place,
      error: damagedFile(at(paths, place), at(files, place), found),
    });
    const diskFiles: string[] = [];
    for (const [place, { byteCount }] of files.entries()) {
      const found = statSync(at(paths, place), { throwIfNoEntry: false });
      if (found?.size !== byteCount)
        return damaged(place, found === undefined ? 'no such object' : `${found.size} bytes`);
      diskFiles.push(`${found.dev}:${found.ino}`);
    }
    const slot = this.#mapIntoSlot(files, paths);
    const buffer = this.#buffers.of(slot);
    let start = 0;
    for (const [place, file] of files.entries()) {
      const bytes = new Uint8Array(buffer, start, file.byteCount);
      const known = this.#isMapped(file, at(diskFiles, place)) ? file.sha256 : null;
      const found = await this.#digestOf(slot.address + start, bytes, known);
      start += file.byteCount;
      if (found === file.sha256) continue;
      this.#addon.vacate(slot.address, slot.capacity);
      this.#free.push(slot);
      return damaged(place, `${file.byteCount} bytes with sha256 ${found}`);
    }
    return { region: { files, slot, diskFiles, holderCount: 0 } };
  }

  #mapIntoSlot(files: readonly BlobRef[], paths: readonly string[]): AddressSlot {
    const sizes = files.map(({ byteCount }) => byteCount);
    let slot: AddressSlot | null = null;
    try {
      slot = this.#slotOf(sizes.reduce((sum, size) => sum + size, 0));
      this.#addon.map(slot.address, slot.capacity, paths, sizes);
      return slot;
    } catch (cause) {
      if (slot !== null) this.#free.push(slot);
      throw errorOf('environment', 'a file of the bundle cannot be mapped into memory', {
        where: at(paths, 0),
        cure: 'check the limits on memory (ulimit -v) and on mappings (vm.max_map_count), and the disk',
        cause,
      });
    }
  }

  /** A free slot of eight sizes between a power of two and the next. @throws Error with a system's code if there is no room. */
  #slotOf(byteCount: number): AddressSlot {
    const doubling = 2 ** Math.floor(Math.log2(Math.max(1, byteCount)));
    const step = Math.max(STEP_BYTE_COUNT_MIN, doubling / STEPS_PER_DOUBLING);
    const capacity = Math.max(1, Math.ceil(byteCount / step)) * step;
    const place = this.#free.findIndex((slot) => slot.capacity === capacity);
    const [found] = place < 0 ? [] : this.#free.splice(place, 1);
    return found ?? { address: this.#addon.reserve(capacity), capacity };
  }

  /** Returns whether another array has the same file on disk, which was compared with its digest then. */
  #isMapped({ sha256 }: BlobRef, diskFile: string): boolean {
    return [...this.#regions.values()].some(({ files, diskFiles }) =>
      files.some((file, place) => file.sha256 === sha256 && diskFiles[place] === diskFile),
    );
  }

  /**
   * A file that was truncated meanwhile is found by `populate`; reading it would end the process.
   *
   * @param known the digest of bytes that need not be hashed.
   */
  async #digestOf(address: number, bytes: Uint8Array, known: string | null): Promise<string> {
    const hash = createHash('sha256');
    for (let start = 0; start < bytes.length; start += PIECE_BYTE_COUNT) {
      const piece = bytes.subarray(start, start + PIECE_BYTE_COUNT);
      try {
        this.#addon.populate(address + start, piece.length);
      } catch (error) {
        return `that cannot be read: ${error instanceof Error ? error.message : String(error)}`;
      }
      if (known === null) hash.update(piece);
      if (this.isPaced) await systemClock.sleep(PAUSE_MS);
    }
    return known ?? hash.digest('hex');
  }
}

const BUG = {
  what: 'the thread that loads bundles hit a bug',
  cure: 'report it; the bundle in use stays',
};

class BundleThread {
  readonly #store;
  readonly #addon: ScoringAddon;
  readonly #mapped: MappedFiles;
  readonly #regions = new Map<number, readonly MappedRegion[]>();

  constructor({ address, s3, addonPath, cacheFolder, cacheByteCountMax }: LoaderSettings) {
    this.#addon = loadScoringAddon(addonPath);
    this.#store = openObjectStore(address, s3);
    const cache = { folder: cacheFolder, byteCountMax: cacheByteCountMax, clock: systemClock };
    const files = bundleFilesOf(this.#store, cache);
    this.#mapped = new MappedFiles(this.#addon, files);
  }

  async load(loadId: number, digest: string): Promise<LoaderReply> {
    const where = `${this.#store.address}@${digest}`;
    const { manifest } = await readBundleManifest(this.#store, digest);
    const regions = await this.#mapped.map(manifest.arrays);
    try {
      const loaded = await readBundle(manifest, this.#mapped.reader(regions), where);
      const bundle = new ServedBundle({ digest, loaded, addon: this.#addon });
      bundle.selfCheck(where);
      bundle.retire();
    } catch (error) {
      await this.#mapped.free(regions);
      throw error;
    }
    this.#regions.set(loadId, regions);
    const reserved = this.#mapped.isPaced ? [] : this.#mapped.reserveFor(regions);
    this.#mapped.isPaced = true;
    return { kind: 'loaded', loadId, manifest, regions, reserved };
  }

  async free(loadId: number): Promise<void> {
    const regions = this.#regions.get(loadId) ?? [];
    this.#regions.delete(loadId);
    await this.#mapped.free(regions);
  }
}

if (parentPort !== null) {
  const port = parentPort;
  // `mapping-loader.ts` of the same build writes both.
  const thread = new BundleThread(workerData as LoaderSettings);
  const carryOut = async (request: LoaderRequest): Promise<void> => {
    if (request.kind === 'end') port.close();
    else if (request.kind === 'free') await thread.free(request.loadId);
    else {
      const { loadId, digest } = request;
      const reply = await thread.load(loadId, digest).catch((error: unknown): LoaderReply => ({
        ...{ kind: 'failed', loadId, failure: failureRecordOf(error, BUG) },
      }));
      port.postMessage(reply);
    }
  };
  // One after the other: what a bundle shares with the one before is mapped once.
  let before = loadPluginsOfArguments();
  port.on('message', (request: LoaderRequest) => {
    before = before.then(() => carryOut(request));
  });
}
