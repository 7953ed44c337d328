/**
 * Whole numbers of up to 64 bits without an allocation for the common ones: a `number` within
 * 2^53, else a `bigint`. Equal values always have the same form, so `===` and `<` hold.
 */

export type WholeNumber = number | bigint;

export function wholeNumberOf(value: bigint): WholeNumber {
  const size = Number(value);
  return Number.isSafeInteger(size) ? size : value;
}

export function sumOf(a: WholeNumber, b: WholeNumber): WholeNumber {
  if (typeof a === 'number' && typeof b === 'number') {
    const sum = a + b;
    if (Number.isSafeInteger(sum)) return sum;
  }
  return wholeNumberOf(BigInt(a) + BigInt(b));
}

export function differenceOf(a: WholeNumber, b: WholeNumber): WholeNumber {
  if (typeof a === 'number' && typeof b === 'number') {
    const difference = a - b;
    if (Number.isSafeInteger(difference)) return difference;
  }
  return wholeNumberOf(BigInt(a) - BigInt(b));
}

export function productOf(a: WholeNumber, b: WholeNumber): WholeNumber {
  if (typeof a === 'number' && typeof b === 'number') {
    const product = a * b;
    // The sum with 0 turns -0 into 0: there is one zero among whole numbers.
    if (Number.isSafeInteger(product)) return product + 0;
  }
  return wholeNumberOf(BigInt(a) * BigInt(b));
}

/** Rounded towards zero. `b` is not 0. */
export function quotientOf(a: WholeNumber, b: WholeNumber): WholeNumber {
  if (typeof a === 'number' && typeof b === 'number') return (a - (a % b)) / b + 0;
  return wholeNumberOf(BigInt(a) / BigInt(b));
}

/** Has the sign of `a`. `b` is not 0. */
export function remainderOf(a: WholeNumber, b: WholeNumber): WholeNumber {
  if (typeof a === 'number' && typeof b === 'number') return (a % b) + 0;
  return wholeNumberOf(BigInt(a) % BigInt(b));
}

/** Rounded down. `divisor` is above 0. */
export function floorQuotientOf(a: WholeNumber, divisor: number): WholeNumber {
  const remainder = remainderOf(a, divisor);
  return quotientOf(remainder < 0 ? differenceOf(a, divisor) : a, divisor);
}

/** From 0 to below `divisor`, which is above 0. */
export function floorRemainderOf(a: WholeNumber, divisor: number): number {
  const remainder = Number(remainderOf(a, divisor));
  return remainder < 0 ? remainder + divisor : remainder;
}
