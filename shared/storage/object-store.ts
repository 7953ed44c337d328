/**
 * Durable objects by key with conditional writes: a folder or an S3 bucket.
 * The unit of atomicity is one object; there is no rename. One conformance suite
 * (test/conformance) runs on every implementation.
 */

import { randomUUID } from 'node:crypto';
import { QianmoError, type FailureReport, errorOf } from '../base/errors.js';

export interface StoredObject {
  readonly bytes: Uint8Array;
  /** An opaque name of this version of the object. */
  readonly etag: string;
}

export type PutCondition =
  | { readonly kind: 'always' }
  /** Only when no object has the key. */
  | { readonly kind: 'absent' }
  /** Only while the object is still this version. */
  | { readonly kind: 'unchanged'; readonly etag: string };

/** `at-flush`: the object may be gone after a power failure, until `flush` has resolved. */
export type Durability = 'now' | 'at-flush';

export interface ListedObject {
  readonly key: string;
  /** Milliseconds since the Unix epoch by the clock of the store. */
  readonly modifiedMs: number;
  readonly byteCount: number;
}

export interface ObjectStore {
  /** The address for messages: `file:///...` or `s3://bucket/prefix`. */
  readonly address: string;
  /**
   * Null if there is no such object.
   *
   * @param byteCountMax a larger object is not read.
   * @throws QianmoError of kind `data` if the object is larger.
   */
  get(key: string, byteCountMax?: number): Promise<StoredObject | null>;
  /** The etag written, or null when the condition did not hold and nothing was written. */
  put(
    key: string,
    bytes: Uint8Array,
    condition: PutCondition,
    durability?: Durability,
  ): Promise<string | null>;
  /** Makes durable what was put `at-flush`. Absent where every put is durable at once. */
  flush?(): Promise<void>;
  /**
   * Keys that start with `prefix`, ascending.
   *
   * @param countMax no more are looked for: the first ones
   */
  list(prefix: string, countMax?: number): Promise<string[]>;
  /** Lists objects with their sizes and the times at which they were last put. */
  listWithTimes(prefix: string): Promise<ListedObject[]>;
  /** Deleting an object that does not exist is not an error. */
  delete(key: string): Promise<void>;
}

/** The store does not answer, or fails. The same call may succeed later. */
export class StoreUnavailableError extends QianmoError {
  constructor(report: Omit<FailureReport, 'kind'>) {
    super({ kind: 'transient', ...report });
  }
}

/** @throws QianmoError of kind `data` if an object is larger than its reader expects. */
export function refuseLarger(byteCount: number, byteCountMax: number, where: string): void {
  if (byteCount <= byteCountMax) return;
  throw errorOf('data', 'an object is larger than it can be', {
    where,
    expected: `at most ${byteCountMax} bytes`,
    found: `${byteCount} bytes`,
    cure: 'the object was overwritten: restore it from a copy',
  });
}

/** A part of a key, limited to characters that mean the same in a folder and in a bucket. */
const SEGMENT = /^[A-Za-z0-9_][A-Za-z0-9._=-]*$/;
const KEY_LENGTH_MAX = 200;

export function isObjectKey(text: string): boolean {
  return text.length <= KEY_LENGTH_MAX && text.split('/').every((part) => SEGMENT.test(part));
}

/** Keys come from this program and never from a user, so a wrong key is a bug. */
export function assertObjectKey(key: string): void {
  if (!isObjectKey(key)) throw new Error(`"${key}" is not a key of an object store`);
}

/**
 * Tests whether a store honours conditional writes, by writing and deleting one small object. Some S3-compatible
 * stores accept the conditions and ignore them, and then two coordinators can overwrite each other.
 *
 * @throws QianmoError what the store itself throws. The small object is then removed too, if possible.
 */
export async function probeConditionalWrites(store: ObjectStore): Promise<boolean> {
  const key = `probe-${randomUUID()}`;
  let areHonoured: boolean;
  try {
    areHonoured = await areConditionsHonoured(store, key);
  } catch (cause) {
    await store.delete(key).catch(() => undefined);
    if (!(cause instanceof QianmoError)) throw cause;
    // The name of the small object means nothing to a reader.
    const where = cause.report.where?.replace(`/${key}`, '') ?? store.address;
    throw new QianmoError({ ...cause.report, where });
  }
  await store.delete(key);
  return areHonoured;
}

async function areConditionsHonoured(store: ObjectStore, key: string): Promise<boolean> {
  const contentOf = (text: string): Uint8Array => Buffer.from(text);
  const first = await store.put(key, contentOf('first'), { kind: 'absent' });
  if (first === null) return false;
  if ((await store.put(key, contentOf('second'), { kind: 'absent' })) !== null) return false;
  const third = await store.put(key, contentOf('third'), { kind: 'unchanged', etag: first });
  if (third === null) return false;
  const stale = { kind: 'unchanged', etag: first } as const;
  if ((await store.put(key, contentOf('fourth'), stale)) !== null) return false;
  const found = await store.get(key);
  return found !== null && Buffer.from(found.bytes).toString() === 'third';
}

/** An address below another. */
export function joinAddress(address: string, child: string): string {
  return `${address.replace(/\/+$/, '')}/${child}`;
}
