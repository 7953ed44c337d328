/** Parts of texts, counted in code points as DuckDB counts. */

import type { WholeNumber } from '../values/whole-number.js';
import { failRow } from './bound-expression.js';

const SURROGATE = /[\ud800-\udfff]/;
const POSITION_MAX = 2 ** 32 - 1;
const SPACES =
  ' \u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u202f\u205f\u3000';

const ALL_SPACES = new Set(SPACES);

export function lengthOf(text: string): number {
  return SURROGATE.test(text) ? Array.from(text).length : text.length;
}

/** From `start` to before `end`, both cut to the text. */
function sliceOf(text: string, start: number, end: number): string {
  const from = Math.max(start, 0);
  const to = Math.max(end, from);
  return SURROGATE.test(text) ? Array.from(text).slice(from, to).join('') : text.slice(from, to);
}

/** @throws SqlFailure beyond what DuckDB counts to. */
function positionOf(value: WholeNumber): number {
  return value > POSITION_MAX || value < -POSITION_MAX - 1 ? failRow() : Number(value);
}

/** `substr`: from 1; a negative start counts from the end. `length` is not negative. */
export function substring(text: string, start: WholeNumber, length = Infinity): string {
  const first = positionOf(start);
  const offset = first < 0 ? lengthOf(text) + first : first - 1;
  return sliceOf(text, offset, offset + length);
}

/** The first characters; a negative count leaves out as many at the end. */
export function leftOf(text: string, count: WholeNumber): string {
  const size = count < 0 ? Number(count) : positionOf(count);
  return sliceOf(text, 0, size < 0 ? lengthOf(text) + size : size);
}

export function rightOf(text: string, count: WholeNumber): string {
  const size = Number(count);
  const length = lengthOf(text);
  return sliceOf(text, size < 0 ? -size : length - Math.min(size, length), length);
}

/** From 1; 0 where `part` does not occur. */
export function placeOf(text: string, part: string): number {
  const index = text.indexOf(part);
  return index < 0 ? 0 : lengthOf(text.slice(0, index)) + 1;
}

/** The part at `index`, from 1, or from the end where negative; empty where there is none. */
export function partOf(text: string, separator: string, index: WholeNumber): string {
  const parts = separator === '' ? Array.from(text) : text.split(separator);
  const place = Number(index);
  if (place === 0) return '';
  return parts[place > 0 ? place - 1 : parts.length + place] ?? '';
}

/** Removes characters at the ends; without `characters`, spaces of all kinds. */
export function trimmed(text: string, ends: 'both' | 'start' | 'end', characters = SPACES): string {
  const points = SURROGATE.test(text) || SURROGATE.test(characters) ? Array.from(text) : text;
  const removed = characters === SPACES ? ALL_SPACES : new Set(characters);
  let start = 0;
  let end = points.length;
  if (ends !== 'end') while (start < end && removed.has(points[start] ?? '')) start += 1;
  if (ends !== 'start') while (end > start && removed.has(points[end - 1] ?? '')) end -= 1;
  return typeof points === 'string' ? points.slice(start, end) : points.slice(start, end).join('');
}
