/**
 * The simulated object store of the checkpoints, and the connection of a process to it. Requests travel for a while, fail, and are
 * carried out without an answer; objects are cut off or changed; a coordinator dies between two requests.
 */

import { MemoryObjectStore } from '../../shared/storage/memory-object-store.js';
import {
  StoreUnavailableError,
  type ListedObject,
  type ObjectStore,
  type PutCondition,
} from '../../shared/storage/object-store.js';
import type { Machine, SimulatedProcess } from './machines.js';
import { damaged } from './simulated-server.js';

/** Told of each change of the store, after it. */
export type StoreWatch = (change: {
  readonly by: SimulatedProcess;
  readonly name: 'put' | 'delete' | 'read';
  readonly key: string;
  /** Of a put. */
  readonly bytes?: Uint8Array;
}) => void;

export class SimulatedStore {
  readonly objects: MemoryObjectStore;
  /** Until when every request fails. */
  awayUntilMs = 0;
  /** The number of puts that will be carried out without an answer. */
  answersToLose = 0;
  /** The process that does the n-th put from now dies before it, or right after it. */
  deathAtPut: { count: number; readonly isAfter: boolean } | null = null;
  /** The keys of all objects. */
  readonly keys = new Set<string>();
  /** The keys of objects that a fault has changed. */
  readonly damagedKeys = new Set<string>();

  constructor(machine: Machine) {
    this.objects = new MemoryObjectStore('simulation', { epochMs: () => machine.epochMs() });
  }

  /** @param draw below 1: which of the blobs. */
  async damageOne(draw: number, isCutOff: boolean): Promise<void> {
    const keys = await this.objects.list('blobs/');
    const key = keys[Math.floor(draw * keys.length)];
    const found = key === undefined ? null : await this.objects.get(key);
    if (key === undefined || found === null) return;
    this.damagedKeys.add(key);
    await this.objects.put(key, damaged(found.bytes, isCutOff), { kind: 'always' });
  }
}

export class StoreLink implements ObjectStore {
  readonly #process: SimulatedProcess;
  readonly #store: SimulatedStore;
  readonly #watch: StoreWatch;

  constructor(process: SimulatedProcess, store: SimulatedStore, watch: StoreWatch) {
    this.#process = process;
    this.#store = store;
    this.#watch = watch;
  }

  get address(): string {
    return this.#store.objects.address;
  }

  get(key: string, byteCountMax?: number) {
    return this.#asked(async () => {
      const found = await this.#store.objects.get(key, byteCountMax);
      this.#watch({ by: this.#process, name: 'read', key });
      return found;
    });
  }

  put(key: string, bytes: Uint8Array, condition: PutCondition): Promise<string | null> {
    return this.#asked(async () => {
      if (this.#isDeath(false)) this.#process.kill();
      if (this.#process.isOver) return null;
      const etag = await this.#store.objects.put(key, bytes, condition);
      if (etag !== null) this.#store.damagedKeys.delete(key);
      this.#store.keys.add(key);
      if (etag !== null) this.#watch({ by: this.#process, name: 'put', key, bytes });
      if (this.#isDeath(true)) this.#process.kill();
      if (this.#store.answersToLose > 0) {
        this.#store.answersToLose -= 1;
        throw this.#failure();
      }
      return etag;
    });
  }

  list(prefix: string, countMax?: number): Promise<string[]> {
    return this.#asked(() => this.#store.objects.list(prefix, countMax));
  }

  listWithTimes(prefix: string): Promise<ListedObject[]> {
    return this.#asked(() => this.#store.objects.listWithTimes(prefix));
  }

  delete(key: string): Promise<void> {
    return this.#asked(async () => {
      await this.#store.objects.delete(key);
      this.#store.keys.delete(key);
      this.#watch({ by: this.#process, name: 'delete', key });
    });
  }

  #failure(): StoreUnavailableError {
    const what = 'the simulated store did not answer';
    return new StoreUnavailableError({ what, where: this.address });
  }

  #isDeath(isAfter: boolean): boolean {
    const death = this.#store.deathAtPut;
    if (death === null || death.isAfter !== isAfter) return false;
    death.count -= 1;
    if (death.count > 0) return false;
    this.#store.deathAtPut = null;
    return true;
  }

  #asked<Answer>(ask: () => Promise<Answer>): Promise<Answer> {
    const { machine } = this.#process;
    return this.#process.lived(async () => {
      await machine.travelled();
      if (machine.time.nowMs < this.#store.awayUntilMs) throw this.#failure();
      const answer = await ask();
      await machine.travelled();
      return answer;
    });
  }
}
