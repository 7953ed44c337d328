/** Cuts an SQL expression into tokens. */

import { OutsideSubset } from './syntax.js';

export interface Token {
  /** A `word` is a bare name or keyword, a `name` one in double quotes. */
  readonly kind: 'word' | 'name' | 'text' | 'number' | 'symbol' | 'end';
  /** Without quotes. */
  readonly text: string;
}

const SPACES = /\s+|--[^\n]*(?:\n|$)/y;
const WORD = /[A-Za-z_\u0080-\uffff][A-Za-z0-9_$\u0080-\uffff]*/y;
const NUMBER = /(?:\d+(?:_\d+)*(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?/y;
const TEXT = /'((?:[^']|'')*)'/y;
const NAME = /"((?:[^"]|"")+)"/y;
const SYMBOL = /<>|!=|<=|>=|==|::|\|\||\/\/|[-+*/%<>=(),]/y;
/** A text with escapes, of bits, or in another alphabet: `e'\n'`. */
const PREFIXED_TEXT = /^[ebxnu]$/i;

/** @throws OutsideSubset where a character begins no token of the subset. */
export function tokensOf(sql: string): Token[] {
  const tokens: Token[] = [];
  let at = 0;
  const match = (pattern: RegExp): RegExpExecArray | null => {
    pattern.lastIndex = at;
    const found = pattern.exec(sql);
    if (found !== null) at += found[0].length;
    return found;
  };
  while (at < sql.length) {
    if (match(SPACES) !== null) continue;
    const token =
      quoted('text', match(TEXT)) ??
      quoted('name', match(NAME)) ??
      plain('number', match(NUMBER)) ??
      plain('word', match(WORD)) ??
      plain('symbol', match(SYMBOL));
    if (token === null) throw new OutsideSubset(`"${sql.slice(at, at + 12)}" is not of the subset`);
    const next = sql.charAt(at);
    if (token.kind === 'number' && /[\w.]/.test(next))
      throw new OutsideSubset(`"${token.text}${next}" is not a number of the subset`);
    if (token.kind === 'word' && next === "'" && PREFIXED_TEXT.test(token.text))
      throw new OutsideSubset('a text with a prefix is not of the subset');
    tokens.push(token);
  }
  return [...tokens, { kind: 'end', text: 'the end' }];
}

function plain(kind: Token['kind'], found: RegExpExecArray | null): Token | null {
  return found === null ? null : { kind, text: found[0] };
}

function quoted(kind: 'text' | 'name', found: RegExpExecArray | null): Token | null {
  if (found === null) return null;
  const quote = kind === 'text' ? "'" : '"';
  return { kind, text: (found[1] ?? '').replaceAll(quote + quote, quote) };
}
