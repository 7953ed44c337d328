/**
 * Texts read as whole numbers, as `CAST(text AS BIGINT)` reads them: with a fraction, which is rounded,
 * an exponent, or in hexadecimal or binary digits.
 */

import { wholeNumberOf, type WholeNumber } from '../values/whole-number.js';

const PLAIN = /^-?\d{1,15}$/;
const SPACES = String.raw`[\t-\r ]*`;
const DIGITS = String.raw`\d+(?:_\d+)*`;
/** `1.5`, `1.`, `.5`; nothing at all is 0 where a sign and a space stand around it. */
const DECIMAL = String.raw`(?:(${DIGITS})(?:\.(${DIGITS})?)?|\.(${DIGITS}))`;
const NUMBER = new RegExp(String.raw`^${SPACES}([+-]?)${DECIMAL}(?:[eE](.+)|${SPACES})$`, 's');
const SIGN_ALONE = new RegExp(String.raw`^${SPACES}[+-][\t-\r ]+$`);
/** Without digits it is 0, where a space follows. */
const EXPONENT = new RegExp(String.raw`^([+-]?)(?:(${DIGITS})\.?${SPACES}|[\t-\r ]+)$`);
const BASED = new RegExp(
  String.raw`^${SPACES}0(?:[xX]([0-9a-fA-F]+(?:_[0-9a-fA-F]+)*)|[bB]([01]+(?:_[01]+)*))${SPACES}$`,
);
const BIGINT_MAX = 2n ** 63n - 1n;
const EXPONENT_MAX = 32_767;
/** More digits of a fraction than this are dropped. */
const FRACTION_MAX = BIGINT_MAX / 10n;

/** @returns null where the text is not a number. */
export function wholeNumberOfText(text: string): WholeNumber | null {
  if (PLAIN.test(text)) return Number(text) + 0;
  const based = BASED.exec(text);
  if (based !== null) return basedNumber(based[1], based[2]);
  if (SIGN_ALONE.test(text)) return 0;
  const found = NUMBER.exec(text);
  if (found === null) return null;
  const [, sign, whole = '', fraction = found[4] ?? '', , exponentText] = found;
  const size = BigInt(digitsOf(whole) || '0');
  if (size > BIGINT_MAX + (sign === '-' ? 1n : 0n)) return null;
  const read = { size, fraction: fractionOf(digitsOf(fraction)) };
  const exponent = exponentText === undefined ? 0 : exponentOf(exponentText);
  if (exponent === null) return null;
  const scaled = exponentText === undefined ? read : withExponent(read, exponent);
  if (scaled === null) return null;
  const rounded = roundedUp(scaled) ? scaled.size + 1n : scaled.size;
  return wholeNumberOf(sign === '-' ? -rounded : rounded);
}

function digitsOf(text: string): string {
  return text.replaceAll('_', '');
}

function basedNumber(hexadecimal: string | undefined, binary: string | undefined): WholeNumber {
  return wholeNumberOf(
    BigInt(
      hexadecimal === undefined ? `0b${digitsOf(binary ?? '0')}` : `0x${digitsOf(hexadecimal)}`,
    ),
  );
}

interface Fraction {
  readonly digits: bigint;
  readonly count: number;
}

interface Decimal {
  readonly size: bigint;
  readonly fraction: Fraction;
}

function fractionOf(text: string): Fraction {
  let digits = 0n;
  let count = 0;
  for (const digit of text) {
    if (digits > FRACTION_MAX) break;
    digits = digits * 10n + BigInt(digit);
    count += 1;
  }
  return { digits, count };
}

/** A point may end it. */
function exponentOf(text: string): number | null {
  const found = EXPONENT.exec(text);
  if (found === null) return null;
  const [, sign, whole = ''] = found;
  const size = Number(digitsOf(whole));
  if (size > EXPONENT_MAX) return null;
  return sign === '-' ? -size : size;
}

function withExponent({ size, fraction }: Decimal, exponent: number): Decimal | null {
  return exponent < 0
    ? shiftedRight(size, fraction, exponent)
    : shiftedLeft(size, fraction, exponent);
}

function shiftedRight(start: bigint, fraction: Fraction, exponent: number): Decimal {
  let size = start;
  let { digits } = fraction;
  let left = -exponent;
  for (; left > 0 && size !== 0n; left -= 1) {
    digits = size % 10n;
    size /= 10n;
  }
  return { size, fraction: { digits: left > 0 ? 0n : digits, count: 1 } };
}

function shiftedLeft(start: bigint, fraction: Fraction, exponent: number): Decimal | null {
  let size = start;
  for (let left = exponent; left > 0 && size !== 0n; left -= 1) {
    size *= 10n;
    if (size > BIGINT_MAX) return null;
  }
  const { digits, count } = fraction;
  if (digits === 0n) return { size, fraction };
  const rest = count - exponent;
  const power = 10n ** BigInt(Math.abs(rest));
  const whole = rest > 0 ? digits / power : digits * power;
  if (size + whole > BIGINT_MAX || whole > BIGINT_MAX) return null;
  return { size: size + whole, fraction: { digits: rest > 0 ? digits % power : 0n, count: rest } };
}

/** Returns whether the first digit of the fraction is 5 or more. */
function roundedUp({ fraction: { digits, count } }: Decimal): boolean {
  let first = digits;
  let left = count;
  while (first > 10n) {
    first /= 10n;
    left -= 1;
  }
  return left === 1 && first >= 5n;
}
