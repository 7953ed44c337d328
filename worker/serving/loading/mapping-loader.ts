/** Bundles whose arrays are mapped files, made ready by a thread of their own. */

import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { Worker } from 'node:worker_threads';
import { errorOf } from '../../../shared/base/errors.js';
import { errorFromRecord, type FailureRecord } from '../../../shared/base/failure-record.js';
import type { ReadFiles } from '../../../shared/bundle/array-files.js';
import type { BundleManifest } from '../../../shared/bundle/bundle-manifest.js';
import { readBundle } from '../../../shared/bundle/read-bundle.js';
import { pluginArguments } from '../../../shared/plugins/load-plugins.js';
import type { BlobRef } from '../../../shared/storage/blob-store.js';
import type { S3Options } from '../../../shared/storage/s3-object-store.js';
import { loadScoringAddon, type ScoringAddon } from '../kernel-scorer.js';
import type { BundleLoader } from '../server/bundle-keeper.js';
import { ServedBundle } from '../server/served-bundle.js';

export interface LoaderSettings {
  /** The address of the bundles. */
  readonly address: string;
  readonly s3: S3Options;
  readonly addonPath: string;
  /** Where files are kept that are not in a folder already. */
  readonly cacheFolder: string;
  readonly cacheByteCountMax: number;
}

/** A range of addresses that holds files of one bundle after those of another. */
export interface AddressSlot {
  readonly address: number;
  /** Bytes from the address on. */
  readonly capacity: number;
}

/** Files that lie one after the other in a slot. */
export interface MappedRegion {
  readonly files: readonly BlobRef[];
  readonly slot: AddressSlot;
}

/** `loadId` names the bundle that a load has mapped, until it is freed. */
export type LoaderRequest =
  | { readonly kind: 'load'; readonly loadId: number; readonly digest: string }
  | { readonly kind: 'free'; readonly loadId: number }
  /** Ends the thread once all before is done. */
  | { readonly kind: 'end' };

interface LoadedReply {
  readonly kind: 'loaded';
  readonly loadId: number;
  readonly manifest: BundleManifest;
  readonly regions: readonly MappedRegion[];
  /** Slots that the next bundle will have, so that their buffers are made before requests come. */
  readonly reserved: readonly AddressSlot[];
}

export type LoaderReply =
  | LoadedReply
  | { readonly kind: 'failed'; readonly loadId: number; readonly failure: FailureRecord };

export function regionNameOf(files: readonly BlobRef[]): string {
  return files.map(({ sha256 }) => sha256).join(' ');
}

/**
 * The array buffers of one thread over slots, one for each: V8 counts an external buffer as growth, and would collect
 * several times in each swap if every bundle had new ones (99th percentile 83 ms instead of 8.5).
 */
export class SlotBuffers {
  readonly #addon: Pick<ScoringAddon, 'view'>;
  readonly #byAddress = new Map<number, ArrayBuffer>();

  constructor(addon: Pick<ScoringAddon, 'view'>) {
    this.#addon = addon;
  }

  of({ address, capacity }: AddressSlot): ArrayBuffer {
    const buffer = this.#byAddress.get(address) ?? this.#addon.view(address, capacity);
    this.#byAddress.set(address, buffer);
    return buffer;
  }

  /** Reads files where they are mapped. */
  reader(regions: readonly MappedRegion[]): ReadFiles {
    const byName = new Map(regions.map((region) => [regionNameOf(region.files), region]));
    return (files) => {
      if (files.length === 0) return Promise.resolve([]);
      const region = byName.get(regionNameOf(files));
      if (region === undefined) throw new Error('files are read that are not mapped');
      const buffer = this.of(region.slot);
      let start = 0;
      return Promise.resolve(
        files.map(({ byteCount }) => {
          start += byteCount;
          return new Uint8Array(buffer, start - byteCount, byteCount);
        }),
      );
    };
  }
}

interface Waiting {
  readonly resolve: (reply: LoadedReply) => void;
  readonly reject: (error: Error) => void;
}

export class MappingLoader implements BundleLoader {
  readonly #settings: LoaderSettings;
  readonly #addon: ScoringAddon;
  readonly #buffers: SlotBuffers;
  readonly #waiting = new Map<number, Waiting>();
  #thread: Worker | null = null;
  #loadCount = 0;

  /** @throws QianmoError of kind `environment` where the addon is not compiled. */
  constructor(settings: LoaderSettings) {
    this.#settings = settings;
    this.#addon = loadScoringAddon(settings.addonPath);
    this.#buffers = new SlotBuffers(this.#addon);
  }

  async load(digest: string): Promise<ServedBundle> {
    const loadId = this.#loadCount;
    this.#loadCount += 1;
    const thread = (this.#thread ??= this.#startThread());
    const { manifest, regions, reserved } = await new Promise<LoadedReply>((resolve, reject) => {
      this.#waiting.set(loadId, { resolve, reject });
      tell(thread, { kind: 'load', loadId, digest });
    });
    // Another thread does not know the bundle: its memory stays.
    const free = (): void => {
      if (thread === this.#thread) tell(thread, { kind: 'free', loadId });
    };
    try {
      // One in each turn of the event loop, since the garbage collector takes its time for each.
      for (const slot of [...regions.map((region) => region.slot), ...reserved]) {
        this.#buffers.of(slot);
        await new Promise((resolve) => setImmediate(resolve));
      }
      const where = `${this.#settings.address}@${digest}`;
      const loaded = await readBundle(manifest, this.#buffers.reader(regions), where);
      return new ServedBundle({ digest, loaded, addon: this.#addon, free });
    } catch (error) {
      free();
      throw error;
    }
  }

  /** Ends the thread once it has unmapped the bundles that were freed. */
  async close(): Promise<void> {
    const thread = this.#thread;
    if (thread === null) return;
    tell(thread, { kind: 'end' });
    await once(thread, 'exit');
  }

  #startThread(): Worker {
    const thread = new Worker(compiledThread(), {
      workerData: this.#settings,
      argv: pluginArguments(),
    });
    thread.on('message', (reply: LoaderReply) => {
      const waiting = this.#waiting.get(reply.loadId);
      this.#waiting.delete(reply.loadId);
      if (reply.kind === 'loaded') waiting?.resolve(reply);
      else waiting?.reject(errorFromRecord(reply.failure));
    });
    thread.on('error', (error) => this.#end(thread, error));
    thread.on('exit', () => this.#end(thread, new Error('it has exited')));
    return thread;
  }

  #end(thread: Worker, cause: Error): void {
    if (thread !== this.#thread) return;
    this.#thread = null;
    const failure = errorOf('failed', 'the thread that loads bundles ended', {
      found: cause.message,
      cure: 'report it; the bundle in use stays, and the next poll tries again',
      cause,
    });
    for (const { reject } of this.#waiting.values()) reject(failure);
    this.#waiting.clear();
  }
}

function tell(thread: Worker, request: LoaderRequest): void {
  thread.postMessage(request);
}

/** The entry compiled to `dist/`, also when this file runs as TypeScript source. */
function compiledThread(): string {
  const here = import.meta.url;
  const relative = here.endsWith('.ts')
    ? '../../../dist/worker/serving/loading/loader-thread.js'
    : './loader-thread.js';
  return fileURLToPath(new URL(relative, here));
}
