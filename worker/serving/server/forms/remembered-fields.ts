/**
 * Fields of requests that differ in their context and seed alone: the others are checked once, and remembered by their
 * text. A schema takes longer for them than for all that a request needs beside its scores, and so does putting objects together.
 */

import type { z } from 'zod';
import { LruCache } from '../../../../shared/base/lru-cache.js';
import { isContext, isSeed, type RankingBody } from '../ranking-body.js';

const REMEMBERED_MAX = 256;
/** In characters of JSON. Longer ones are lists of values, which differ from request to request. */
const REMEMBERED_LENGTH_MAX = 2_048;
const NO_CONTEXT: RankingBody['context'] = {};
/** No JSON has it. */
const VARIED = '\u0000';

interface Fields {
  readonly context: RankingBody['context'];
  readonly seed?: number | undefined;
}

export interface RememberedRequest<Kept> {
  readonly context: RankingBody['context'];
  readonly seed: number | null;
  /** Made of the other fields, and shared by all requests that have them, so that nobody may change it. */
  readonly kept: Kept;
}

/**
 * Returns a function from the text of an object to what the schema makes of it. Null for texts that are not JSON or
 * that the schema does not accept.
 *
 * @param keptOf what is remembered of the fields; it must not depend on the context or the seed.
 */
export function rememberingParser<Parsed extends Fields, Kept>(
  schema: z.ZodType<Parsed>,
  keptOf: (parsed: Parsed) => Kept,
): (text: string) => RememberedRequest<Kept> | null {
  const remembered = new LruCache<string, Kept>({ countMax: REMEMBERED_MAX });
  const parsedWhole = (text: string, key: string | null): RememberedRequest<Kept> | null => {
    const outcome = schema.safeParse(contentOf(text));
    if (!outcome.success) return null;
    const kept = keptOf(outcome.data);
    if (key !== null && key.length <= REMEMBERED_LENGTH_MAX) remembered.put(key, kept);
    const { context, seed = null } = outcome.data;
    return { context, seed, kept };
  };
  let last: AroundContext<Kept> | null = null;
  const parsedPieces = (text: string): RememberedRequest<Kept> | null => {
    const varied = variedSpans(text);
    if (varied === null) return parsedWhole(text, null);
    const key = keyOf(text, varied);
    const kept = remembered.get(key);
    if (kept === undefined) return parsedWhole(text, key);
    const { context, seed } = varied;
    const found = { context: NO_CONTEXT, seed: null as number | null, kept };
    if (context !== null) {
      const value = contentOf(text.slice(context.start, context.end));
      if (!isContext(value)) return null;
      found.context = value;
      if (seed === null)
        last = { before: text.slice(0, context.start), behind: text.slice(context.end), kept };
    }
    if (seed !== null) {
      const value = contentOf(text.slice(seed.start, seed.end));
      if (!isSeed(value)) return null;
      found.seed = value;
    }
    return found;
  };
  return (text) => (last === null ? null : ofOtherContext(text, last)) ?? parsedPieces(text);
}

/** The last text without a seed that was known, around its context: a client sends the same again, most often. */
interface AroundContext<Kept> {
  readonly before: string;
  readonly behind: string;
  readonly kept: Kept;
}

/** Null if the text differs in more than its context: one value of JSON is all that lies there. */
function ofOtherContext<Kept>(
  text: string,
  { before, behind, kept }: AroundContext<Kept>,
): RememberedRequest<Kept> | null {
  const end = text.length - behind.length;
  if (end < before.length || !text.startsWith(before) || !text.endsWith(behind)) return null;
  const context = contentOf(text.slice(before.length, end));
  return isContext(context) ? { context, seed: null, kept } : null;
}

/** Undefined for a text that is not JSON. */
function contentOf(text: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch {
    return undefined;
  }
}

interface Span {
  readonly start: number;
  readonly end: number;
}

/** The values of the two members that differ; null for one that is not there. */
interface VariedSpans {
  readonly context: Span | null;
  readonly seed: Span | null;
}

/** The text with a mark in place of the two values: what is remembered is JSON, so that whatever has the same key is. */
function keyOf(text: string, { context, seed }: VariedSpans): string {
  const [first, second] =
    context !== null && seed !== null && seed.start < context.start
      ? [seed, context]
      : [context ?? seed, context === null ? null : seed];
  if (first === null) return text;
  const begun = text.slice(0, first.start) + VARIED;
  if (second === null) return begun + text.slice(first.end);
  return begun + text.slice(first.end, second.start) + VARIED + text.slice(second.end);
}

const CODES = { quote: 0x22, comma: 0x2c, colon: 0x3a } as const;
const OPENING = { bracket: 0x5b, brace: 0x7b } as const;
const CLOSING = { bracket: 0x5d, brace: 0x7d } as const;

/**
 * Brackets are counted, and no more is decided of what lies between them. Null for a text with escapes, and for one that has a
 * member twice.
 */
function variedSpans(text: string): VariedSpans | null {
  if (text.includes('\\')) return null;
  const found: { context: Span | null; seed: Span | null } = { context: null, seed: null };
  let depth = 0;
  let name = '';
  let start = -1;
  for (let place = 0; place < text.length; place += 1) {
    const code = text.charCodeAt(place);
    if (code === CODES.quote) {
      const end = text.indexOf('"', place + 1);
      if (end < 0) return null;
      if (depth === 1 && start < 0) name = text.slice(place + 1, end);
      place = end;
    } else if (code === OPENING.brace || code === OPENING.bracket) depth += 1;
    else if (depth === 1 && code === CODES.colon) start = place + 1;
    else if (code === CODES.comma || code === CLOSING.brace || code === CLOSING.bracket) {
      if (depth === 1 && (name === 'context' || name === 'seed')) {
        if (start < 0 || found[name] !== null) return null;
        found[name] = { start, end: place };
      }
      if (depth === 1) [name, start] = ['', -1];
      if (code !== CODES.comma) depth -= 1;
    }
  }
  return found;
}
