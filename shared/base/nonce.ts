/**
 * The only source of unseeded randomness: names that no other process or start has. A nonce is
 * passed in where it is used, so that a simulation can choose it; no result depends on it.
 */

import { randomBytes } from 'node:crypto';

const NONCE_BYTE_COUNT = 8;

/** 16 hexadecimal digits. */
export function freshNonce(): string {
  return randomBytes(NONCE_BYTE_COUNT).toString('hex');
}
