/**
 * JSON values as the text that `prepare` finds in a JSON Lines log: `json_extract_string` of
 * `JSON.stringify(row)`. Values that JSON cannot hold get the text that DuckDB gives them.
 */

import { doubleText } from './number-text.js';

const SHORT_ESCAPES: Readonly<Record<string, string>> = {
  '"': '\\"',
  '\\': '\\\\',
  '\b': '\\b',
  '\f': '\\f',
  '\n': '\\n',
  '\r': '\\r',
  '\t': '\\t',
};
/** JavaScript writes an integer below this with all its digits. */
const PLAIN_INTEGER_END = 1e21;

/** @returns null for null. */
export function textOfJsonValue(value: unknown): string | null {
  if (value === null) return null;
  switch (typeof value) {
    case 'string':
      return value;
    case 'number':
      return textOfJsonNumber(value);
    case 'boolean':
    case 'bigint':
      return String(value);
    default:
      return value instanceof Date ? dateText(value) : nestedJsonText(value);
  }
}

function textOfJsonNumber(value: number): string {
  if (Number.isSafeInteger(value)) return `${value}`;
  if (!Number.isFinite(value)) return doubleText(value);
  return String(value).replace('+', '');
}

/** The members of a list in a row as DuckDB's `from_json` gives them; null members are kept. */
export function textOfListMember(member: unknown): string | null {
  if (typeof member !== 'number' || Number.isSafeInteger(member)) return textOfJsonValue(member);
  return Number.isInteger(member) && Math.abs(member) < PLAIN_INTEGER_END
    ? String(member)
    : doubleText(member);
}

function dateText(date: Date): string {
  return Number.isNaN(date.getTime()) ? 'null' : date.toISOString();
}

function nestedJsonText(value: unknown): string {
  if (typeof value === 'string') return jsonStringText(value);
  if (Array.isArray(value)) return `[${value.map(nestedJsonText).join(',')}]`;
  if (value instanceof Date) return jsonStringText(dateText(value));
  if (typeof value === 'undefined' || typeof value === 'function' || typeof value === 'symbol')
    return 'null';
  if (typeof value !== 'object' || value === null) return textOfJsonValue(value) ?? 'null';
  const entries = Object.entries(value).filter(([, member]) => member !== undefined);
  return `{${entries.map(([key, member]) => `${jsonStringText(key)}:${nestedJsonText(member)}`).join(',')}}`;
}

export function jsonStringText(text: string): string {
  // eslint-disable-next-line no-control-regex -- control characters are what JSON escapes
  const escaped = text.replace(/["\\\u0000-\u001f]/g, (character) => {
    const code = character.charCodeAt(0).toString(16).toUpperCase().padStart(4, '0');
    return SHORT_ESCAPES[character] ?? `\\u${code}`;
  });
  return `"${escaped}"`;
}

const LONE_SURROGATE = /\p{Surrogate}/gu;

/** The text with U+FFFD for each lone surrogate, as it is written in UTF-8. */
export function wellFormed(text: string): string {
  return text.replace(LONE_SURROGATE, '\ufffd');
}
