/** Schemas whose values come again and again, and are parsed once. */

import { z } from 'zod';
import { LruCache } from '../base/lru-cache.js';

/** Values that differ, for some runs and evaluations that take turns. */
const REMEMBERED_COUNT_MAX = 16;

/**
 * Parses equal values once: a worker meets the same section in every job of a run. What it returns is shared, so
 * nobody may change it.
 */
export function remembered<Output>(schema: z.ZodType<Output>): z.ZodType<Output> {
  const parsedByText = new LruCache<string, { readonly value: Output }>({
    countMax: REMEMBERED_COUNT_MAX,
  });
  return z.unknown().transform((section, context): Output => {
    const text = textOf(section);
    const known = text === null ? undefined : parsedByText.get(text);
    if (known !== undefined) return known.value;
    const parsed = schema.safeParse(section);
    if (parsed.success) {
      if (text !== null) parsedByText.put(text, { value: parsed.data });
      return parsed.data;
    }
    for (const { path, message } of parsed.error.issues)
      context.issues.push({ code: 'custom', path: [...path], message, input: section });
    return z.NEVER;
  });
}

/** Null for a value that cannot be written: none, or one that is nested too deeply. */
function textOf(section: unknown): string | null {
  try {
    const text: unknown = JSON.stringify(section);
    return typeof text === 'string' ? text : null;
  } catch {
    return null;
  }
}
