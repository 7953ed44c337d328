/**
 * Signatures of the records on the queue: HMAC-SHA256 (RFC 2104) over canonical JSON, with the key that coordinators and
 * workers of one pool share. A signature covers every field of the record and its place, so a genuine record is
 * refused anywhere else.
 */

import { createHmac, createSecretKey, timingSafeEqual, type KeyObject } from 'node:crypto';
import { canonicalJson, isRecord } from '../base/canonical-json.js';
import { QianmoError } from '../base/errors.js';
import { textOfNamedFile } from '../base/named-file.js';

/** Holds the key without showing it: neither JSON nor a text of it has its bytes. */
export type SigningKey = KeyObject;

const VARIABLE = 'QIANMO_SIGNING_KEY';
const FILE_VARIABLE = 'QIANMO_SIGNING_KEY_FILE';
/** As many as HMAC-SHA256 has bytes; a hexadecimal key then has 128 bits at least. */
const CHARACTER_COUNT_MIN = 32;
const KEY_FILE = {
  variable: FILE_VARIABLE,
  what: 'the file of the signing key',
  byteCountMax: 4_096,
};

/**
 * Returns null if the environment names no key.
 *
 * @throws QianmoError `usage` for a key that is too short, or is given twice; `environment` for a file that
 *   cannot be read.
 */
export async function signingKeyOf(
  environment: Readonly<Record<string, string | undefined>>,
): Promise<SigningKey | null> {
  const { [VARIABLE]: text = '', [FILE_VARIABLE]: file = '' } = environment;
  if (text !== '' && file !== '')
    throw new QianmoError({
      kind: 'usage',
      what: `both ${VARIABLE} and ${FILE_VARIABLE} are set`,
      cure: 'unset one of them',
    });
  if (file !== '') return keyOf(await textOfNamedFile({ ...KEY_FILE, file }), file);
  return text === '' ? null : keyOf(text, VARIABLE);
}

/** White space around the key is not part of it: files end with a line feed. */
function keyOf(text: string, where: string): SigningKey {
  const key = text.trim();
  if (key.length >= CHARACTER_COUNT_MIN) return createSecretKey(key, 'utf8');
  throw new QianmoError({
    kind: 'usage',
    what: 'the signing key is too short',
    where,
    expected: `at least ${CHARACTER_COUNT_MIN} characters`,
    found: `${key.length} characters`,
    cure: 'make one with: openssl rand -hex 32',
  });
}

/** The meaning of a record, and where it belongs. */
type RecordPlace =
  /** A delivery, which is that of one start, one outer step, one job and one attempt. */
  | { readonly kind: 'job' | 'result'; readonly jobId: string }
  | { readonly kind: 'cancel' | 'lease'; readonly runId: string; readonly start: string };

/** Hexadecimal digits. */
const SIGNATURE_LENGTH = 64;
/** The bytes that a signature adds to the JSON of a record. */
export const SIGNATURE_BYTE_COUNT = SIGNATURE_LENGTH + ',"signature":""'.length;
/** Records are nested less deeply. Strangers may nest theirs so deeply that a walk would end the process. */
const DEPTH_MAX = 32;

/** A record as it travels, separated from its signature. The record may be anything. */
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
