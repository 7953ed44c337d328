/** The schema of a list of numbers that checks good lists in one loop. */

import { z } from 'zod';

/**
 * The same as the schema, which calls another one for each number: a worker spends a tenth of its time on that. Lists that it
 * takes are returned as they are. What is not good is left to the schema, which says where and why.
 *
 * @param isGood true only for numbers that the schema takes.
 */
export function quickNumberList(
  schema: z.ZodType<number[]>,
  isGood: (number: number) => boolean,
): z.ZodType<number[]> {
  return z.unknown().transform((list, context): number[] => {
    if (isListOf(list, isGood)) return list;
    const parsed = schema.safeParse(list);
    if (parsed.success) return parsed.data;
    for (const { path, message } of parsed.error.issues)
      context.issues.push({ code: 'custom', path: [...path], message, input: list });
    return z.NEVER;
  });
}

/** False for an empty list, which not every schema takes. */
function isListOf(list: unknown, isGood: (number: number) => boolean): list is number[] {
  if (!Array.isArray(list) || list.length === 0) return false;
  for (let place = 0; place < list.length; place += 1) {
    const value: unknown = list[place];
    if (typeof value !== 'number' || !isGood(value)) return false;
  }
  return true;
}

/** Not negative, and finite. */
export function isWeight(number: number): boolean {
  return number >= 0 && number < Number.POSITIVE_INFINITY;
}

export function isIndex(number: number): boolean {
  return Number.isSafeInteger(number) && number >= 0;
}
