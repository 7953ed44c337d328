/**
 * Fields of requests that differ in their context and seed alone: the others are checked once, and remembered. A
 * schema takes longer for them than for all that a request needs beside its scores.
 */

import type { z } from 'zod';
import { LruCache } from '../../../../shared/base/lru-cache.js';
import { isContext, isSeed, type RankingBody } from '../ranking-body.js';

const REMEMBERED_MAX = 256;
/** In characters of JSON. Longer ones are lists of values, which differ from request to request. */
const REMEMBERED_LENGTH_MAX = 2_048;

interface Fields {
  readonly context: RankingBody['context'];
  readonly seed?: number | undefined;
}

/**
 * Returns a function from the content of a request to what the schema makes of it. Null for contents that
 * it does not accept. What it returns is shared, so that nobody may change it.
 */
export function rememberingParser<Parsed extends Fields>(
  schema: z.ZodType<Parsed>,
): (content: object) => Parsed | null {
  const remembered = new LruCache<string, Parsed>({ countMax: REMEMBERED_MAX });
  return (content: { readonly context?: unknown; readonly seed?: unknown }) => {
    const { context, seed, ...others } = content;
    if ((context !== undefined && !isContext(context)) || (seed !== undefined && !isSeed(seed)))
      return null;
    const text = JSON.stringify(others);
    let parsed = remembered.get(text);
    if (parsed === undefined) {
      const outcome = schema.safeParse(others);
      if (!outcome.success) return null;
      parsed = outcome.data;
      if (text.length <= REMEMBERED_LENGTH_MAX) remembered.put(text, parsed);
    }
    return {
      ...parsed,
      ...(context === undefined ? {} : { context }),
      ...(seed === undefined ? {} : { seed }),
    };
  };
}
