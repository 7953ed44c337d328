/**
 * Signatures of the records on the queue: HMAC-SHA256 (RFC 2104) over canonical JSON. A signature covers
 * every field of the record and its place, so a genuine record is refused anywhere else.
 */

import { createHmac, timingSafeEqual } from 'node:crypto';
import { canonicalJson, isRecord } from '../base/canonical-json.js';
import type { SigningKey } from './signing-key.js';

/** The meaning of a record, and where it belongs. */
type RecordPlace =
  /** A delivery, which is that of one start, one outer step, one job and one attempt. */
  | { readonly kind: 'job' | 'result'; readonly jobId: string }
  | { readonly kind: 'orders' | 'lease'; readonly runId: string; readonly start: string };

/** Hexadecimal digits. */
const SIGNATURE_LENGTH = 64;
/** The bytes that a signature adds to the JSON of a record. */
export const SIGNATURE_BYTE_COUNT = SIGNATURE_LENGTH + ',"signature":""'.length;
/** Records are nested less deeply. Strangers may nest theirs so deeply that a walk would end the process. */
const DEPTH_MAX = 32;

/** A record as it travels, parted from its signature. The record may be anything. */
export interface PartedRecord {
  readonly record: unknown;
  /** Null if there is none. */
  readonly signature: string | null;
}

export function signatureOf(record: unknown, place: RecordPlace, key: SigningKey): string {
  const text = canonicalJson({ ...place, record });
  return createHmac('sha256', key).update(text).digest('hex');
}

export function partedRecord(data: unknown): PartedRecord {
  if (!isRecord(data)) return { record: data, signature: null };
  const { signature = null, ...record } = data;
  if (signature === null) return { record, signature };
  return { record, signature: typeof signature === 'string' ? signature : '' };
}

export function isGenuine(
  { record, signature }: PartedRecord,
  place: RecordPlace,
  key: SigningKey,
): boolean {
  if (signature?.length !== SIGNATURE_LENGTH || isDeeperThan(record, DEPTH_MAX)) return false;
  const expected = Buffer.from(signatureOf(record, place, key), 'latin1');
  const found = Buffer.from(signature, 'latin1');
  return timingSafeEqual(expected, found);
}

function isDeeperThan(value: unknown, depthMax: number): boolean {
  if (typeof value !== 'object' || value === null) return false;
  if (depthMax === 0) return true;
  return Object.values(value).some((part) => isDeeperThan(part, depthMax - 1));
}
