/**
 * Members of a JSON array in text, as DuckDB's `CAST(from_json(text, '["VARCHAR"]') AS VARCHAR[])`
 * gives them. DuckDB reads more than JSON: NaN, infinities, and commas before a closing bracket.
 */

import { jsonStringText } from './values/json-text.js';
import { doubleText } from './values/number-text.js';

const SPACES = /[ \t\n\r]*/y;
const NUMBER = /-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?/y;
const NON_FINITE = /-?(?:nan|inf(?:inity)?)/iy;
const WORD = /true|false|null/y;
// eslint-disable-next-line no-control-regex -- JSON strings hold no control characters
const STRING = /"(?:[^"\\\u0000-\u001f]|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*"/y;
const LONE_SURROGATE = /\p{Surrogate}/u;

/** A value of the array: its text as a VARCHAR, and within another value. */
interface JsonValue {
  readonly text: string | null;
  readonly nested: string;
}

/** @returns null where the text is no JSON array that DuckDB reads. */
export function membersOfJsonList(text: string): (string | null)[] | null {
  const reader = new JsonReader(text);
  const members = reader.list();
  return members !== null && reader.isAtEnd() ? members.map((member) => member.text) : null;
}

class JsonReader {
  private at = 0;

  constructor(private readonly text: string) {}

  isAtEnd(): boolean {
    this.skipSpaces();
    return this.at === this.text.length;
  }

  list(): JsonValue[] | null {
    return this.sequence('[', ']', () => this.value());
  }

  private value(): JsonValue | null {
    this.skipSpaces();
    switch (this.text.charAt(this.at)) {
      case '"':
        return this.string();
      case '[':
        return nestedValue(this.list(), '[', ']');
      case '{':
        return nestedValue(
          this.sequence('{', '}', () => this.entry()),
          '{',
          '}',
        );
      default:
        return this.scalar();
    }
  }

  /** Values between brackets, each followed by a comma or the end; one comma may precede the end. */
  private sequence(open: string, close: string, item: () => JsonValue | null): JsonValue[] | null {
    if (!this.takes(open)) return null;
    const items: JsonValue[] = [];
    while (!this.takes(close)) {
      const found = item();
      if (found === null) return null;
      items.push(found);
      if (this.takes(',')) continue;
      return this.takes(close) ? items : null;
    }
    return items;
  }

  private entry(): JsonValue | null {
    this.skipSpaces();
    const key = this.string();
    if (key === null || !this.takes(':')) return null;
    const value = this.value();
    return value === null ? null : { text: null, nested: `${key.nested}:${value.nested}` };
  }

  private string(): JsonValue | null {
    const found = this.match(STRING);
    if (found === null) return null;
    const text = JSON.parse(found) as string;
    return LONE_SURROGATE.test(text) ? null : { text, nested: jsonStringText(text) };
  }

  private scalar(): JsonValue | null {
    const word = this.match(WORD);
    if (word !== null) return { text: word === 'null' ? null : word, nested: word };
    const nonFinite = this.match(NON_FINITE);
    if (nonFinite !== null) return { text: nonFinite, nested: nonFinite };
    const number = this.match(NUMBER);
    return number === null ? null : numberValue(number);
  }

  private takes(character: string): boolean {
    this.skipSpaces();
    if (this.text.charAt(this.at) !== character) return false;
    this.at += 1;
    return true;
  }

  private skipSpaces(): void {
    this.match(SPACES);
  }

  private match(pattern: RegExp): string | null {
    pattern.lastIndex = this.at;
    const found = pattern.exec(this.text)?.[0];
    if (found === undefined) return null;
    this.at += found.length;
    return found;
  }
}

function nestedValue(items: JsonValue[] | null, open: string, close: string): JsonValue | null {
  if (items === null) return null;
  const text = `${open}${items.map(({ nested }) => nested).join(',')}${close}`;
  return { text, nested: text };
}

/** Whole numbers keep their digits; others are printed anew unless they are too large to read. */
function numberValue(token: string): JsonValue {
  const value = Number(token);
  if (/^-?\d+$/.test(token)) {
    const text = token === '-0' ? '0' : token;
    return { text, nested: text };
  }
  if (!Number.isFinite(value)) return { text: token, nested: token };
  return { text: doubleText(value), nested: realJsonText(value) };
}

/** A number with a point or an exponent, as it is printed within a JSON value. */
function realJsonText(value: number): string {
  const text = Object.is(value, -0) ? '-0' : String(value).replace('+', '');
  return /[.e]/.test(text) ? text : `${text}.0`;
}
