/** Objects in the memory of this process, for tests and simulations. */

import {
  type ObjectStore,
  type PutCondition,
  type StoredObject,
  assertObjectKey,
} from './object-store.js';

export class MemoryObjectStore implements ObjectStore {
  readonly address: string;
  readonly #objects = new Map<string, StoredObject>();
  #versionCount = 0;

  constructor(name = 'store') {
    this.address = `memory://${name}`;
  }

  // The methods are async, so that every failure is a rejection.
  // eslint-disable-next-line @typescript-eslint/require-await
  async get(key: string): Promise<StoredObject | null> {
    assertObjectKey(key);
    const object = this.#objects.get(key);
    return object === undefined ? null : { ...object, bytes: new Uint8Array(object.bytes) };
  }

  // eslint-disable-next-line @typescript-eslint/require-await
  async put(key: string, bytes: Uint8Array, condition: PutCondition): Promise<string | null> {
    assertObjectKey(key);
    const etag = this.#objects.get(key)?.etag;
    if (condition.kind === 'absent' && etag !== undefined) return null;
    if (condition.kind === 'unchanged' && etag !== condition.etag) return null;
    this.#versionCount += 1;
    const written = `version-${this.#versionCount}`;
    this.#objects.set(key, { bytes: new Uint8Array(bytes), etag: written });
    return written;
  }

  list(prefix: string): Promise<string[]> {
    return Promise.resolve([...this.#objects.keys()].filter((k) => k.startsWith(prefix)).sort());
  }

  delete(key: string): Promise<void> {
    this.#objects.delete(key);
    return Promise.resolve();
  }
}
