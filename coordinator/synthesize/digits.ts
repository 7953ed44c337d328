/** CSV bytes of whole numbers, four digits at a time from a table. */

import { uint8At } from '../../shared/base/arrays.js';

const ZERO = 48;
const FOUR_DIGITS = fourDigits();

/** The digits of 0000 to 9999, one after another. */
function fourDigits(): Uint8Array {
  const digits = new Uint8Array(40_000);
  for (let value = 0; value < 10_000; value += 1)
    for (let place = 0, rest = value; place < 4; place += 1, rest = Math.floor(rest / 10))
      digits[value * 4 + 3 - place] = ZERO + (rest % 10);
  return digits;
}

/** Writes the decimal digits of `value`, below 10^8, and returns the offset behind them. */
export function writeUnsigned(bytes: Uint8Array, offset: number, value: number): number {
  const high = (value / 10_000) | 0;
  if (high === 0) return writeTrimmed(bytes, offset, value);
  const next = writeTrimmed(bytes, offset, high);
  writeFour(bytes, next, value - high * 10_000);
  return next + 4;
}

/** Writes exactly eight digits, with leading zeros; `value` below 10^8. */
export function writeEight(bytes: Uint8Array, offset: number, value: number): void {
  const high = (value / 10_000) | 0;
  writeFour(bytes, offset, high);
  writeFour(bytes, offset + 4, value - high * 10_000);
}

/** Writes exactly two digits, with a leading zero; `value` below 100. */
export function writeTwo(bytes: Uint8Array, offset: number, value: number): void {
  bytes[offset] = uint8At(FOUR_DIGITS, value * 4 + 2);
  bytes[offset + 1] = uint8At(FOUR_DIGITS, value * 4 + 3);
}

function writeFour(bytes: Uint8Array, offset: number, value: number): void {
  const at = value * 4;
  bytes[offset] = uint8At(FOUR_DIGITS, at);
  bytes[offset + 1] = uint8At(FOUR_DIGITS, at + 1);
  bytes[offset + 2] = uint8At(FOUR_DIGITS, at + 2);
  bytes[offset + 3] = uint8At(FOUR_DIGITS, at + 3);
}

function writeTrimmed(bytes: Uint8Array, offset: number, value: number): number {
  const at = value * 4;
  let skipped = value >= 1000 ? 0 : value >= 100 ? 1 : value >= 10 ? 2 : 3;
  let next = offset;
  for (; skipped < 4; skipped += 1) bytes[next++] = uint8At(FOUR_DIGITS, at + skipped);
  return next;
}
