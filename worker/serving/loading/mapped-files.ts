/**
 * Files of bundles in the memory of this process, mapped once however many bundles have them, and each
 * compared with its digest before its first byte is used. A thread beside the one that answers requests
 * owns them; what it maps is handed over by address.
 */

import { createHash } from 'node:crypto';
import { statSync } from 'node:fs';
import { at } from '../../../shared/base/arrays.js';
import type { Clock } from '../../../shared/base/clock.js';
import { QianmoError } from '../../../shared/base/errors.js';
import { systemCodeOf } from '../../../shared/base/system-errors.js';
import { damagedFile, type ReadFiles } from '../../../shared/bundle/array-files.js';
import type { BundleArray } from '../../../shared/bundle/bundle-manifest.js';
import type { BlobRef } from '../../../shared/storage/blob-store.js';
import type { MappingAddon } from '../mapping-addon.js';
import { AddressSlots, SlotBuffers, type AddressSlot } from './address-slots.js';
import type { BundleFiles } from './bundle-files.js';

/** Files that lie one after the other in memory. */
export interface MappedRegion {
  readonly files: readonly BlobRef[];
  readonly slot: AddressSlot;
}

/** Pages are filled, hashed and unmapped in pieces: a call holds the lock on the memory of the process. */
const PIECE_BYTE_COUNT = 2 ** 20;
/** Between two pieces that are unmapped. */
const UNMAPPING_PAUSE_MS = 1;

interface OwnedRegion extends MappedRegion {
  /** The files on disk that are mapped, by `diskFileOf`. */
  readonly diskFiles: readonly (string | null)[];
  holderCount: number;
}

type MappingTry =
  | { readonly region: OwnedRegion }
  /** The place of the damaged file. */
  | { readonly place: number; readonly error: QianmoError };

interface MappedFilesParts {
  readonly addon: MappingAddon;
  readonly files: BundleFiles;
  readonly clock: Clock;
  /** Awaited between pieces of work. */
  readonly betweenPieces: () => Promise<void>;
}

export class MappedFiles {
  readonly #parts: MappedFilesParts;
  readonly #regions = new Map<string, OwnedRegion>();
  readonly #slots: AddressSlots;
  /** The buffers of this thread. */
  readonly #buffers: SlotBuffers;

  constructor(parts: MappedFilesParts) {
    this.#parts = parts;
    this.#slots = new AddressSlots(parts.addon);
    this.#buffers = new SlotBuffers(parts.addon);
  }

  /** Reserves for the next bundle as much as this one has. */
  reserveFor(regions: readonly MappedRegion[]): AddressSlot[] {
    const slots = regions.map(({ slot }) => this.#slots.take(slot.capacity));
    for (const slot of slots) this.#slots.giveBack(slot);
    return slots;
  }

  /** Takes out the slots that the last bundles did not need. */
  unneededSlots(): AddressSlot[] {
    return this.#slots.unneeded();
  }

  /** Takes out all slots that hold nothing. */
  freeSlots(): AddressSlot[] {
    return this.#slots.takeFree();
  }

  /** Ends slots that were taken out, once no other thread has a buffer over them. */
  endSlots(slots: readonly AddressSlot[]): void {
    this.#buffers.detach(slots);
    this.#slots.end(slots);
  }

  /**
   * Maps all arrays of a bundle. What it returns stays mapped until it is given to `free`.
   *
   * @throws QianmoError of kind `data` if a file is missing or damaged.
   */
  async map(arrays: readonly BundleArray[]): Promise<MappedRegion[]> {
    const groups = groupsOf(arrays.map(({ files }) => files));
    await this.#parts.files.prepare(groups.flat());
    const mapped: MappedRegion[] = [];
    try {
      for (const group of groups) mapped.push(await this.#hold(group));
    } catch (error) {
      await this.free(mapped);
      throw error;
    }
    return mapped;
  }

  /** Gives back what only these holders had, in pieces with pauses between them. */
  async free(regions: readonly MappedRegion[]): Promise<void> {
    const { addon, clock } = this.#parts;
    for (const { files } of regions) {
      const region = this.#regions.get(nameOf(files));
      if (region === undefined) throw new Error('a region is freed that is not mapped');
      region.holderCount -= 1;
      if (region.holderCount > 0) continue;
      this.#regions.delete(nameOf(files));
      const { address, capacity } = region.slot;
      for (let start = 0; start < capacity; start += PIECE_BYTE_COUNT) {
        addon.vacate(address + start, Math.min(PIECE_BYTE_COUNT, capacity - start));
        await clock.sleep(UNMAPPING_PAUSE_MS);
      }
      this.#slots.giveBack(region.slot);
    }
  }

  /** A region's bytes, for this thread. */
  bufferOf({ files, slot }: MappedRegion): ArrayBuffer {
    if (!this.#regions.has(nameOf(files))) throw new Error('a file is read that is not mapped');
    return this.#buffers.of(slot);
  }

  async #hold(files: readonly BlobRef[]): Promise<MappedRegion> {
    const known = this.#regions.get(nameOf(files));
    const region = known ?? (await this.#mapped(files));
    region.holderCount += 1;
    this.#regions.set(nameOf(files), region);
    return { files, slot: region.slot };
  }

  async #mapped(files: readonly BlobRef[]): Promise<OwnedRegion> {
    const { files: places } = this.#parts;
    const paths: string[] = [];
    for (const file of files) paths.push(await places.pathOf(file));
    for (let isRenewed = false; ; isRenewed = true) {
      const found = await this.#mappedSound(files, paths);
      if ('region' in found) return found.region;
      const { place, error } = found;
      const renewed = isRenewed ? null : await places.renewed(at(files, place));
      if (renewed === null) throw error;
      paths[place] = renewed;
    }
  }

  /** The region, or the first file that is not what its digest says. */
  async #mappedSound(files: readonly BlobRef[], paths: readonly string[]): Promise<MappingTry> {
    const { addon } = this.#parts;
    const damaged = (place: number, found: string): MappingTry => ({
      place,
      error: damagedFile(at(paths, place), at(files, place), found),
    });
    const sizes = files.map(({ byteCount }) => byteCount);
    const slot = this.#slotFor(sizes, at(paths, 0));
    const { address, capacity } = slot;
    try {
      addon.map(address, capacity, paths, sizes);
    } catch (error) {
      this.#slots.giveBack(slot);
      const failure = mappingFailure(error, at(paths, 0));
      if (failure !== null) throw failure;
      const place = files.findIndex((file, index) => sizeOf(at(paths, index)) !== file.byteCount);
      const size = sizeOf(at(paths, Math.max(0, place)));
      return damaged(Math.max(0, place), size === null ? 'no such object' : `${size} bytes`);
    }
    const diskFiles = paths.map(diskFileOf);
    const buffer = this.#buffers.of(slot);
    let start = 0;
    for (const [place, file] of files.entries()) {
      const bytes = new Uint8Array(buffer, start, file.byteCount);
      const known = this.#isMapped(file, at(diskFiles, place)) ? file.sha256 : null;
      const found = await this.#digestOf(address + start, bytes, known);
      start += file.byteCount;
      if (found === file.sha256) continue;
      addon.vacate(address, capacity);
      this.#slots.giveBack(slot);
      return damaged(place, `${file.byteCount} bytes with sha256 ${found}`);
    }
    return { region: { files, slot, diskFiles, holderCount: 0 } };
  }

  /** Whether another array has the same file on disk, which was compared with its digest then. */
  #isMapped({ sha256 }: BlobRef, diskFile: string | null): boolean {
    if (diskFile === null) return false;
    return [...this.#regions.values()].some(({ files, diskFiles }) =>
      files.some((file, place) => file.sha256 === sha256 && diskFiles[place] === diskFile),
    );
  }

  #slotFor(sizes: readonly number[], where: string): AddressSlot {
    try {
      return this.#slots.take(sizes.reduce((sum, size) => sum + size, 0));
    } catch (error) {
      throw unmappable(error, where);
    }
  }

  /**
   * A file that was truncated meanwhile is found by `populate`; reading it would end the process.
   *
   * @param known the digest of bytes that need not be hashed.
   */
  async #digestOf(address: number, bytes: Uint8Array, known: string | null): Promise<string> {
    const { addon, betweenPieces } = this.#parts;
    const hash = createHash('sha256');
    for (let start = 0; start < bytes.length; start += PIECE_BYTE_COUNT) {
      const piece = bytes.subarray(start, start + PIECE_BYTE_COUNT);
      try {
        addon.populate(address + start, piece.length);
      } catch (error) {
        return `that cannot be read: ${error instanceof Error ? error.message : String(error)}`;
      }
      if (known === null) hash.update(piece);
      await betweenPieces();
    }
    return known ?? hash.digest('hex');
  }
}

/** Files that lie one after the other: those of one array. A list of files that several arrays have is mapped once. */
function groupsOf(arrays: readonly (readonly BlobRef[])[]): (readonly BlobRef[])[] {
  const groups = new Map(arrays.map((files) => [nameOf(files), files]));
  return [...groups.values()].filter((files) => files.length > 0);
}

function sizeOf(path: string): number | null {
  return statSync(path, { throwIfNoEntry: false })?.size ?? null;
}

/** The device and the number of a file; null if it is gone. */
function diskFileOf(path: string): string | null {
  const found = statSync(path, { throwIfNoEntry: false });
  return found === undefined ? null : `${found.dev}:${found.ino}`;
}

function nameOf(files: readonly BlobRef[]): string {
  return files.map(({ sha256 }) => sha256).join(' ');
}

/** Null if it is the file that is wrong. */
function mappingFailure(error: unknown, where: string): QianmoError | null {
  const code = systemCodeOf(error) ?? '';
  return code === 'ENOENT' || code === 'ESIZE' ? null : unmappable(error, where);
}

function unmappable(error: unknown, where: string): QianmoError {
  return new QianmoError({
    kind: 'environment',
    what: 'a file of the bundle cannot be mapped into memory',
    where,
    cure: 'check the limits on memory (ulimit -v) and on mappings (vm.max_map_count), and the disk',
    cause: error,
  });
}

/** Reads files where they are mapped. */
export function regionReader(
  regions: readonly MappedRegion[],
  bufferOf: (region: MappedRegion) => ArrayBuffer,
): ReadFiles {
  const byName = new Map(regions.map((region) => [nameOf(region.files), region]));
  return (files) => {
    if (files.length === 0) return Promise.resolve([]);
    const region = byName.get(nameOf(files));
    if (region === undefined) throw new Error('files are read that are not mapped');
    const buffer = bufferOf(region);
    let start = 0;
    return Promise.resolve(
      files.map(({ byteCount }) => {
        start += byteCount;
        return new Uint8Array(buffer, start - byteCount, byteCount);
      }),
    );
  };
}
