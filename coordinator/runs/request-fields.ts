/**
 * Fields of requests. Each is described once, for the help of the command and for the reference. A description begins
 * with the word that stands for the value: `<count> the number of workers`.
 */

import { z } from 'zod';

/** How the command line offers a field, where its name and its schema do not say it. */
export interface FieldSettings {
  /** The name of the option, if it is not that of the field. */
  readonly option?: string;
  /** The environment variable that is read if the option is not given. */
  readonly variable?: string;
  /** The field that it cannot be combined with. */
  readonly conflicts?: string;
}

export const fieldSettings = z.registry<FieldSettings>();

export function describeField<Schema extends z.ZodType>(
  schema: Schema,
  description: string,
  settings: FieldSettings = {},
): Schema {
  const field = schema.describe(description);
  fieldSettings.add(field, settings);
  return field;
}

export function text(description: string, settings?: FieldSettings): z.ZodString {
  return describeField(z.string().min(1, 'expected a value'), description, settings);
}

export function flag(description: string, settings?: FieldSettings): z.ZodDefault<z.ZodBoolean> {
  return describeField(z.boolean(), description, settings).default(false);
}

export function texts(description: string, settings?: FieldSettings): z.ZodArray<z.ZodString> {
  const list = z.array(z.string().min(1, 'expected a value')).min(1, 'expected a value');
  return describeField(list, description, settings);
}

export function oneOf<const Words extends readonly [string, ...string[]]>(
  words: Words,
  description: string,
): z.ZodEnum<z.core.util.ToEnum<Words[number]>> {
  return describeField(z.enum(words, `expected one of ${words.join(', ')}`), description);
}

/** How a command prints its result. */
export const FORMAT = oneOf(['table', 'json'], '<format> how results are printed').default('table');

export function integer(
  smallest: number,
  largest: number,
  description = '',
  settings?: FieldSettings,
): z.ZodInt {
  const upTo = Number.isSafeInteger(largest) ? ` to ${largest}` : '';
  const expected = `expected a whole number from ${smallest}${upTo}`;
  const field = z.int(expected).min(smallest, expected).max(largest, expected);
  return describeField(field, description, settings);
}

interface Bounds {
  readonly from?: number;
  readonly above?: number;
  readonly upTo?: number;
  readonly below?: number;
}

export function decimal(bounds: Bounds, description: string): z.ZodNumber {
  const { from = -Infinity, above = -Infinity, upTo = Infinity, below = Infinity } = bounds;
  const lower = from > -Infinity ? `from ${from}` : `above ${above}`;
  const upper = [
    ...(upTo < Infinity ? [from > -Infinity ? ` to ${upTo}` : ` and at most ${upTo}`] : []),
    ...(below < Infinity ? [` and below ${below}`] : []),
  ];
  const expected = `expected a number ${[lower, ...upper].join('')}`;
  const field = z.number(expected).gte(from, expected).gt(above, expected);
  return describeField(field.lte(upTo, expected).lt(below, expected), description);
}
