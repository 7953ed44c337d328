/** Numbers and truth values as DuckDB writes and reads them in text. */

/** The exponents of ten between which DuckDB writes a number without an exponent. */
const PLAIN_EXPONENT_MIN = -4;
const PLAIN_EXPONENT_MAX = 15;
const FLOAT_DIGITS_MAX = 9;
const DOUBLE_DIGITS_MAX = 17;

/** A DOUBLE as VARCHAR: the shortest digits that read back to it. The sign of NaN is not known. */
export function doubleText(value: number): string {
  if (Number.isInteger(value) && Math.abs(value) < 1e15 && !Object.is(value, -0))
    return `${value}.0`;
  if (!Number.isFinite(value)) return nonFiniteText(value);
  return layOut(value.toExponential(), value);
}

/**
 * A FLOAT as VARCHAR: the shortest digits that read back to it in single precision. DuckDB writes
 * all digits where the shortest decimal is not clear: two are equally near, or it lies just in the
 * middle between two floats.
 */
export function floatText(value: number): string {
  if (!Number.isFinite(value)) return nonFiniteText(value);
  for (let digits = 0; digits < FLOAT_DIGITS_MAX; digits += 1) {
    const nearest = value.toExponential(digits);
    // Below a power of two the floats lie closer: only the decimal above may read back to it.
    const text = readsBack(nearest, value, -NUDGE) ? nearest : nextDecimal(nearest);
    if (!readsBack(text, value, -NUDGE)) continue;
    if (readsBack(text, value, NUDGE) && !isHalfway(value, digits)) return layOut(text, value);
    break;
  }
  return layOut(value.toExponential(DOUBLE_DIGITS_MAX - 1), value);
}

/** Returns whether the decimal, moved outwards by a share of its distance from `value`, reads back to it. */
function readsBack(text: string, value: number, outwards: number): boolean {
  const decimal = Number(text);
  return Math.fround(decimal + (decimal - value) * outwards) === value;
}

/** The decimal of as many digits that is next farther from zero. */
function nextDecimal(scientific: string): string {
  const [mantissa = '', exponent = ''] = scientific.split('e');
  const sign = mantissa.startsWith('-') ? '-' : '';
  const digits = mantissa.replace(/[-.]/g, '');
  return `${sign}${Number(digits) + 1}e${Number(exponent) - digits.length + 1}`;
}

/** A share of the distance that moves a decimal off the middle between two floats. */
const NUDGE = 2 ** -20;
/** Enough to write every float between 1e-7 and 1e38 without rounding. */
const EXACT_DIGITS = 60;

/** Returns whether the value lies in the middle of two decimals with this many digits after the first. */
function isHalfway(value: number, digits: number): boolean {
  const exact = value.toExponential(EXACT_DIGITS);
  const cut = exact.indexOf('.') + 1 + digits;
  return /^50*$/.test(exact.slice(cut, exact.indexOf('e')));
}

function nonFiniteText(value: number): string {
  if (Number.isNaN(value)) return 'nan';
  return value > 0 ? 'inf' : '-inf';
}

/** @param scientific digits and exponent of `value`, as `toExponential` writes them. */
function layOut(scientific: string, value: number): string {
  const sign = value < 0 || Object.is(value, -0) ? '-' : '';
  const [mantissa = '', exponentText = ''] = scientific.split('e');
  const [whole = '', fraction = ''] = mantissa.replace('-', '').split('.');
  const digits = `${whole}${fraction}`.replace(/0+$/, '') || '0';
  const exponent = Number(exponentText) + whole.length - 1;
  if (exponent < PLAIN_EXPONENT_MIN || exponent > PLAIN_EXPONENT_MAX) {
    const rest = digits.slice(1);
    const size = String(Math.abs(exponent)).padStart(2, '0');
    return `${sign}${digits.slice(0, 1)}${rest === '' ? '' : `.${rest}`}e${exponent < 0 ? '-' : '+'}${size}`;
  }
  if (exponent < 0) return `${sign}0.${'0'.repeat(-exponent - 1)}${digits}`;
  const plain = digits.slice(0, exponent + 1).padEnd(exponent + 1, '0');
  return `${sign}${plain}.${digits.slice(exponent + 1) || '0'}`;
}

const DIGITS = String.raw`\d+(?:_\d+)*`;
const EXPONENT = String.raw`(?:[eE][+-]?${DIGITS})?`;
const DOUBLE_TEXT = new RegExp(
  String.raw`^[\t-\r ]*\+?(-?(?:${DIGITS}(?:\.(?:${DIGITS})?)?|\.${DIGITS})${EXPONENT})[\t-\r ]*$`,
);
const PLAIN_NUMBER = /^-?\d+(?:\.\d+)?$/;
const NON_FINITE_TEXT = /^[\t-\r ]*\+?(-?)(nan(?:\([A-Za-z0-9_]*\))?|inf(?:inity)?)[\t-\r ]*$/i;

/** `TRY_CAST(text AS DOUBLE)`: null where the text is not a number. */
export function doubleOfText(text: string): number | null {
  if (PLAIN_NUMBER.test(text)) return Number(text);
  const number = DOUBLE_TEXT.exec(text)?.[1];
  if (number !== undefined) return Number(number.replaceAll('_', ''));
  const found = NON_FINITE_TEXT.exec(text);
  if (found === null) return null;
  if (/^n/i.test(found[2] ?? '')) return NaN;
  return found[1] === '-' ? -Infinity : Infinity;
}

const TRUE_TEXT = /^(?:true|t|yes|y|1)$/i;
const FALSE_TEXT = /^(?:false|f|no|n|0)$/i;

/** `TRY_CAST(text AS BOOLEAN)`. */
export function booleanOfText(text: string): boolean | null {
  if (TRUE_TEXT.test(text)) return true;
  return FALSE_TEXT.test(text) ? false : null;
}

const DECIMAL_DIGITS_MAX = 38;
const EXACT_INTEGER_MAX = 2n ** 53n;

/**
 * The DOUBLE that DuckDB makes of a number written in SQL. Digits with a point and no exponent are
 * a DECIMAL there, and casting that rounds twice: the result may differ from the nearest double.
 */
export function doubleOfSqlLiteral(literal: string): number {
  const parts = /^(-?)(\d*)\.(\d*)$/.exec(literal);
  if (parts === null) return Number(literal);
  const [, sign = '', whole = '', fraction = ''] = parts;
  const digits = `${whole.replace(/^0+/, '')}${fraction}`;
  if (digits.length > DECIMAL_DIGITS_MAX) return Number(literal);
  const size = doubleOfDecimal(BigInt(`0${digits}`), fraction.length);
  return sign === '-' ? -size : size;
}

/** `unscaled / 10^scale` as DuckDB casts a DECIMAL of 0 or more to DOUBLE. */
function doubleOfDecimal(unscaled: bigint, scale: number): number {
  const divisor = Number(`1e${scale}`);
  if (unscaled <= EXACT_INTEGER_MAX || scale === 0) return Number(unscaled) / divisor;
  const power = 10n ** BigInt(scale);
  return Number(unscaled / power) + Number(unscaled % power) / divisor;
}
