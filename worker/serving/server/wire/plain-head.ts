/**
 * Heads of requests in the plainest form of HTTP/1.1: a POST with a length, each header once and on one line.
 * All others are left to node:http, so that nothing is decided here about what is unusual.
 */

import type { IncomingHttpHeaders } from 'node:http';

export interface PlainHead {
  /** The head as it was sent, to know it again. */
  readonly text: string;
  /** The text before the digits of the length, and behind them. */
  readonly around: readonly [before: string, behind: string];
  readonly url: string;
  /** All but the length of the body. Heads that differ in it alone have the same object. */
  readonly headers: IncomingHttpHeaders;
  /** Bytes of the head with the empty line behind it. */
  readonly byteCount: number;
  readonly bodyByteCount: number;
}

/** A head that has not arrived as a whole, or one that node:http must read. */
type NoHead = 'incomplete' | 'unusual';

const HEAD_BYTE_COUNT_MAX = 8_192;
const METHOD = Buffer.from('POST ');
const HEAD_END = Buffer.from('\r\n\r\n');
/** RFC 9112: the request line, then fields of visible ASCII, none of them folded. */
const HEAD = /^POST (\/[!-~]*) HTTP\/1\.1((?:\r\n[!#$%&'*+.^_`|~0-9A-Za-z-]+:[\t -~]*)+)$/;
const LENGTH_NAME = 'content-length';
const LENGTH = /^\d{1,9}$/;
/** They change how a body or the connection is read, or name what an object has anyway. */
const UNUSUAL = new Set(['transfer-encoding', 'expect', 'upgrade', 'te', 'trailer', '__proto__']);

/** @param known the head that the connection sent before. */
export function plainHeadOf(bytes: Buffer, known: PlainHead | null): PlainHead | NoHead {
  const begun = Math.min(bytes.length, METHOD.length);
  if (bytes.compare(METHOD, 0, begun, 0, begun) !== 0) return 'unusual';
  const end = bytes.subarray(0, HEAD_BYTE_COUNT_MAX).indexOf(HEAD_END);
  if (end < 0) return bytes.length < HEAD_BYTE_COUNT_MAX ? 'incomplete' : 'unusual';
  const text = bytes.toString('latin1', 0, end);
  if (text === known?.text) return known;
  return (known === null ? null : ofOtherLength(text, known)) ?? parsedHead(text) ?? 'unusual';
}

/** Null if the text differs in more from that of the known head. */
function ofOtherLength(text: string, known: PlainHead): PlainHead | null {
  const [before, behind] = known.around;
  if (!text.startsWith(before) || !text.endsWith(behind)) return null;
  const length = text.slice(before.length, text.length - behind.length);
  if (!LENGTH.test(length)) return null;
  const byteCount = text.length + HEAD_END.length;
  const { around, url, headers } = known;
  return { text, around, url, headers, byteCount, bodyByteCount: Number(length) };
}

function parsedHead(text: string): PlainHead | null {
  const [, url, lines = ''] = HEAD.exec(text) ?? [];
  if (url === undefined) return null;
  const headers: Record<string, string> = {};
  let lengthLine = '';
  for (const line of lines.slice(2).split('\r\n')) {
    const nameEnd = line.indexOf(':');
    const name = line.slice(0, nameEnd).toLowerCase();
    if (UNUSUAL.has(name) || Object.hasOwn(headers, name)) return null;
    headers[name] = line.slice(nameEnd + 1).trim();
    if (name === LENGTH_NAME) lengthLine = line;
  }
  const { [LENGTH_NAME]: length = '', ...others } = headers;
  const isKept = (headers['connection'] ?? 'keep-alive').toLowerCase() === 'keep-alive';
  if (!isKept || !LENGTH.test(length) || headers['host'] === undefined) return null;
  const lengthAt =
    text.indexOf(`\r\n${lengthLine}`) + 2 + lengthLine.indexOf(length, lengthLine.indexOf(':'));
  const around = [text.slice(0, lengthAt), text.slice(lengthAt + length.length)] as const;
  const byteCount = text.length + HEAD_END.length;
  return { text, around, url, headers: others, byteCount, bodyByteCount: Number(length) };
}
