/** Bundles whose arrays are mapped files, made ready by a thread of their own. */

import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { Worker } from 'node:worker_threads';
import type { Clock } from '../../../shared/base/clock.js';
import { QianmoError } from '../../../shared/base/errors.js';
import { errorFromRecord } from '../../../shared/base/failure-record.js';
import { readBundle } from '../../../shared/bundle/read-bundle.js';
import { loadScoringAddon } from '../kernel-scorer.js';
import type { MappingAddon } from '../mapping-addon.js';
import type { BundleLoader } from '../server/bundle-keeper.js';
import { chosenScorer, type ScorerChoice } from '../server/scorer-choice.js';
import { ServedBundle } from '../server/served-bundle.js';
import { SlotBuffers, type AddressSlot } from './address-slots.js';
import type { LoadedReply, LoaderReply, LoaderRequest, LoaderSettings } from './loader-messages.js';
import { regionReader } from './mapped-files.js';

/** A machine that is never idle must get its bundle too. */
const RESTING_MS_MAX = 20_000;

interface Waiting {
  readonly resolve: (reply: LoadedReply) => void;
  readonly reject: (error: Error) => void;
}

export class MappingLoader implements BundleLoader {
  readonly arrays = 'mapped';
  readonly #settings: LoaderSettings;
  readonly #clock: Clock;
  readonly #addon: MappingAddon;
  readonly #choice: ScorerChoice;
  readonly #buffers: SlotBuffers;
  readonly #waiting = new Map<number, Waiting>();
  #thread: Worker | null = null;
  #threadId = 0;
  #loadCount = 0;

  /** @throws QianmoError of kind `environment` where the addon is not compiled. */
  constructor(settings: LoaderSettings, clock: Clock) {
    this.#settings = settings;
    this.#clock = clock;
    this.#addon = loadScoringAddon(settings.addonPath);
    this.#choice = chosenScorer(settings.addonPath);
    this.#buffers = new SlotBuffers(this.#addon);
  }

  async load(digest: string): Promise<ServedBundle> {
    const loadId = this.#loadCount;
    this.#loadCount += 1;
    const { manifest, regions, reserved } = await this.#resting(
      (isPaced) =>
        new Promise<LoadedReply>((resolve, reject) => {
          this.#waiting.set(loadId, { resolve, reject });
          this.#tell({ kind: 'load', loadId, digest, isPaced });
        }),
    );
    const thread = this.#thread;
    // Another thread does not know the bundle: its memory stays.
    const free = (): void => {
      if (thread === this.#thread) this.#tell({ kind: 'free', loadId });
    };
    const where = `${this.#settings.address}@${digest}`;
    try {
      await this.#makeBuffers([...regions.map(({ slot }) => slot), ...reserved]);
      const read = regionReader(regions, ({ slot }) => this.#buffers.of(slot));
      const loaded = await readBundle(manifest, read, where);
      return new ServedBundle({ digest, loaded, choice: this.#choice, free });
    } catch (error) {
      free();
      throw error;
    }
  }

  /** One in each turn of the event loop, since the garbage collector takes its time for each. */
  async #makeBuffers(slots: readonly AddressSlot[]): Promise<void> {
    for (const slot of slots) {
      if (this.#buffers.has(slot)) continue;
      this.#buffers.of(slot);
      await new Promise((resolve) => setImmediate(resolve));
    }
  }

  /** The thread gives way to whoever answers requests; for the first bundle there is nobody. */
  async #resting<Result>(work: (isPaced: boolean) => Promise<Result>): Promise<Result> {
    const isFirst = this.#threadId === 0;
    const isResting = !isFirst && this.#addon.rest(this.#threadId, true);
    const done = new AbortController();
    const wakeUp = (): void => {
      if (isResting && this.#thread !== null) this.#addon.rest(this.#threadId, false);
    };
    if (isResting) void this.#clock.sleep(RESTING_MS_MAX, done.signal).then(wakeUp);
    try {
      return await work(!isFirst);
    } finally {
      done.abort();
    }
  }

  /** Ends the thread once it has unmapped the bundles that were freed. */
  async close(): Promise<void> {
    const thread = this.#thread;
    if (thread === null) return;
    this.#tell({ kind: 'end' });
    await once(thread, 'exit');
  }

  #tell(request: LoaderRequest): void {
    this.#thread ??= this.#started();
    this.#thread.postMessage(request);
  }

  #started(): Worker {
    const thread = new Worker(compiledThread(), { workerData: this.#settings });
    thread.on('message', (reply: LoaderReply) => this.#settle(reply));
    thread.on('error', (error) => this.#end(thread, error));
    thread.on('exit', () => this.#end(thread, new Error('it has exited')));
    return thread;
  }

  #settle(reply: LoaderReply): void {
    if (reply.kind === 'started') {
      this.#threadId = reply.threadId;
      return;
    }
    if (reply.kind === 'dropped') {
      this.#buffers.detach(reply.slots);
      this.#tell({ kind: 'end-slots', slots: reply.slots });
      return;
    }
    const waiting = this.#waiting.get(reply.loadId);
    this.#waiting.delete(reply.loadId);
    if (reply.kind === 'loaded') waiting?.resolve(reply);
    else waiting?.reject(errorFromRecord(reply.failure));
  }

  #end(thread: Worker, cause: Error): void {
    if (thread !== this.#thread) return;
    this.#thread = null;
    this.#threadId = 0;
    for (const { reject } of this.#waiting.values())
      reject(
        new QianmoError({
          kind: 'failed',
          what: 'the thread that loads bundles ended',
          found: cause.message,
          cure: 'report it; the bundle in use stays, and the next poll tries again',
          cause,
        }),
      );
    this.#waiting.clear();
  }
}

/** The entry compiled to `dist/`, also when this file runs as TypeScript source. */
function compiledThread(): string {
  const here = import.meta.url;
  const relative = here.endsWith('.ts')
    ? '../../../dist/worker/serving/loading/loader-thread.js'
    : './loader-thread.js';
  return fileURLToPath(new URL(relative, here));
}
