/**
 * The key that coordinators and workers of one pool share, so that a job or result that somebody else wrote
 * is told apart. It comes from the environment or from a file that the environment names.
 */

import { createSecretKey, type KeyObject } from 'node:crypto';
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
