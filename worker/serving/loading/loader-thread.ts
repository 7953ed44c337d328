/**
 * The thread that makes bundles ready while another answers requests: it fetches, maps, fills, hashes and
 * self-checks them, and unmaps those that nobody reads any more.
 */

import { parentPort, workerData } from 'node:worker_threads';
import { systemClock } from '../../../shared/base/clock.js';
import { failureRecordOf } from '../../../shared/base/failure-record.js';
import { readBundleManifest } from '../../../shared/bundle/bundle-store.js';
import { readBundle } from '../../../shared/bundle/read-bundle.js';
import { openObjectStore } from '../../../shared/storage/open-object-store.js';
import { loadScoringAddon } from '../kernel-scorer.js';
import { chosenScorer } from '../server/scorer-choice.js';
import { ServedBundle } from '../server/served-bundle.js';
import type { AddressSlot } from './address-slots.js';
import { bundleFilesOf } from './bundle-files.js';
import type { LoadedReply, LoaderReply, LoaderRequest, LoaderSettings } from './loader-messages.js';
import { MappedFiles, regionReader, type MappedRegion } from './mapped-files.js';

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
    const { manifest } = await readBundleManifest(this.#store, digest);
    const regions = await this.#mapped.map(manifest.arrays);
    try {
      const read = regionReader(regions, (region) => this.#mapped.bufferOf(region));
      const loaded = await readBundle(manifest, read, where);
      const choice = chosenScorer(this.#settings.addonPath);
      const bundle = new ServedBundle({ digest, loaded, choice });
      bundle.selfCheck(where);
      bundle.retire();
    } catch (error) {
      await this.#mapped.free(regions);
      throw error;
    }
    this.#regions.set(loadId, regions);
    const reserved = this.#hasLoaded ? [] : this.#mapped.reserveFor(regions);
    this.#hasLoaded = true;
    return { kind: 'loaded', loadId, manifest, regions, reserved };
  }

  async free(loadId: number): Promise<void> {
    const regions = this.#regions.get(loadId) ?? [];
    this.#regions.delete(loadId);
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
