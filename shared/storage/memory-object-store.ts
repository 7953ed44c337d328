/** Objects in the memory of this process, for tests and simulations. */

import { systemClock, type Clock } from '../base/clock.js';
import {
  type ListedObject,
  type ObjectStore,
  type PutCondition,
  type StoredObject,
  assertObjectKey,
  refuseLarger,
} from './object-store.js';

/** Runs the work at once. Where it throws, the promise is rejected. */
export function promised<Answer>(work: () => Answer): Promise<Answer> {
  return new Promise((resolve) => {
    resolve(work());
  });
}

export class MemoryObjectStore implements ObjectStore {
  readonly address: string;
  readonly #clock: Pick<Clock, 'epochMs'>;
  readonly #objects = new Map<string, StoredObject & ListedObject>();
  #versionCount = 0;

  constructor(name = 'store', clock: Pick<Clock, 'epochMs'> = systemClock) {
    this.#clock = clock;
    this.address = `memory://${name}`;
  }

  get(key: string, byteCountMax = Infinity): Promise<StoredObject | null> {
    return promised(() => {
      assertObjectKey(key);
      const object = this.#objects.get(key);
      refuseLarger(object?.bytes.byteLength ?? 0, byteCountMax, `${this.address}/${key}`);
      if (object === undefined) return null;
      return { bytes: new Uint8Array(object.bytes), etag: object.etag };
    });
  }

  put(key: string, bytes: Uint8Array, condition: PutCondition): Promise<string | null> {
    return promised(() => {
      assertObjectKey(key);
      const etag = this.#objects.get(key)?.etag;
      if (condition.kind === 'absent' && etag !== undefined) return null;
      if (condition.kind === 'unchanged' && etag !== condition.etag) return null;
      this.#versionCount += 1;
      const written = `version-${this.#versionCount}`;
      const modifiedMs = this.#clock.epochMs();
      this.#objects.set(key, {
        ...{ key, bytes: new Uint8Array(bytes), etag: written },
        ...{ modifiedMs, byteCount: bytes.byteLength },
      });
      return written;
    });
  }

  list(prefix: string, countMax?: number): Promise<string[]> {
    const keys = [...this.#objects.keys()].filter((key) => key.startsWith(prefix)).sort();
    return Promise.resolve(keys.slice(0, countMax));
  }

  async listWithTimes(prefix: string): Promise<ListedObject[]> {
    return (await this.list(prefix)).flatMap((key) => {
      const object = this.#objects.get(key);
      if (object === undefined) return [];
      const { modifiedMs, byteCount } = object;
      return [{ key, modifiedMs, byteCount }];
    });
  }

  delete(key: string): Promise<void> {
    this.#objects.delete(key);
    return Promise.resolve();
  }
}
