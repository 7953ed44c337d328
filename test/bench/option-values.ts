/** Values that options of benches take: schemas that read the text of an option, and whose message says what is expected. */

import { z } from 'zod';
import { parseRowCount, ROW_COUNT_MAX } from '../../coordinator/synthesize/synthesis-options.js';
import { integer } from '../../coordinator/runs/request-fields.js';
import { packageRoot } from '../../infra/library/package-root.js';

const LARGEST_OTHERWISE = 1_000_000_000;
const SEED_MAX = 2 ** 32 - 1;

/** Paths and names, which may be empty. */
export const text = z.string();

export function wholeNumber(smallest = 1, largest = LARGEST_OTHERWISE): z.ZodType<number, string> {
  return text
    .transform((written) => (written === '' ? NaN : Number(written)))
    .pipe(integer(smallest, largest));
}

export const anySeed = wholeNumber(0, SEED_MAX);

export function amount(largest = LARGEST_OTHERWISE): z.ZodType<number, string> {
  const expected = `expected a number above 0 and at most ${largest}`;
  return text
    .transform((written) => (written.trim() === '' ? NaN : Number(written)))
    .pipe(z.number(expected).positive(expected).max(largest, expected));
}

/** A number of rows as `qianmo synthesize --rows` takes it, which is passed on as it is written. */
export const rowsAsWritten = z
  .string()
  .refine(
    (written) => parseRowCount(written) !== null,
    `expected a whole number from 1 to ${ROW_COUNT_MAX}, as in 250, 760k, 10M or 2G`,
  );

export function oneOf<const Word extends string>(words: readonly Word[]): z.ZodType<Word, string> {
  const expected = `expected one of ${words.join(', ')}`;
  return text.pipe(z.enum(words, expected));
}

export function listOf<Value>(
  element: z.ZodType<Value, string>,
  separator = ',',
): z.ZodType<Value[], string> {
  return text
    .transform((written) => written.split(separator).map((each) => each.trim()))
    .pipe(z.array(element));
}

/** Options that several benches have. */
export const outputOption = {
  value: text,
  default: new URL('infra/results/', packageRoot).pathname,
  about: 'folder of the record and its page',
};
export const pythonOption = {
  value: text,
  about: 'a Python with the peers installed; by default one is created in the cache',
};

export function roundsOption(otherwise: string) {
  const about = 'how often everything is measured, in turns';
  return { value: wholeNumber(1, 1_000), default: otherwise, about };
}
