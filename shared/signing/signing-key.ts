/**
 * The key that coordinators and workers of one pool share, so that a job or result that somebody else wrote
 * is told apart. It comes from the environment or from a file that the environment names.
 */

import { createSecretKey, type KeyObject } from 'node:crypto';
import { open } from 'node:fs/promises';
import { QianmoError } from '../base/errors.js';

/** Holds the key without showing it: neither JSON nor a text of it has its bytes. */
export type SigningKey = KeyObject;

const VARIABLE = 'QIANMO_SIGNING_KEY';
const FILE_VARIABLE = 'QIANMO_SIGNING_KEY_FILE';
/** As many as HMAC-SHA256 has bytes; a hexadecimal key then has 128 bits at least. */
const CHARACTER_COUNT_MIN = 32;
const FILE_BYTE_COUNT_MAX = 4_096;

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
  if (file !== '') return keyOf(await textOf(file), file);
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

async function textOf(file: string): Promise<string> {
  const bytes = Buffer.alloc(FILE_BYTE_COUNT_MAX + 1);
  let byteCount: number;
  try {
    const handle = await open(file, 'r');
    try {
      byteCount = (await handle.read(bytes, 0, bytes.length, 0)).bytesRead;
    } finally {
      await handle.close();
    }
  } catch (cause) {
    throw new QianmoError({
      kind: 'environment',
      what: 'the file of the signing key cannot be read',
      where: file,
      found: cause instanceof Error ? cause.message : String(cause),
      cure: `correct ${FILE_VARIABLE}`,
      cause,
    });
  }
  if (byteCount <= FILE_BYTE_COUNT_MAX) return bytes.toString('utf8', 0, byteCount);
  throw new QianmoError({
    kind: 'usage',
    what: 'the file of the signing key is too large',
    where: file,
    expected: `at most ${FILE_BYTE_COUNT_MAX} bytes`,
    cure: `correct ${FILE_VARIABLE}`,
  });
}
