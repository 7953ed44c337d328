/**
 * Records of text logs as bytes. Those that stay are written as they were, so the log is, byte for byte, one that never had
 * the others. What is no row stays, too.
 */

import { createReadStream } from 'node:fs';
import type { Readable } from 'node:stream';
import { createGunzip } from 'node:zlib';
import { QianmoError } from '../../shared/base/errors.js';
import { LINE_BYTE_COUNT_MAX } from '../logs/long-lines.js';

/** Rows to forget: those whose text in a column is the value. */
export interface Forgotten {
  readonly column: string;
  readonly value: string;
  /** The column names adgroups. */
  readonly isAdgroup: boolean;
}

export type RowTest = (record: Buffer) => boolean;

const LINE_END = 0x0a;
const QUOTE = 0x22;

/** Knows whether the text behind the bytes so far is within quotes, which open at the start of a field alone. */
class Quotes {
  #isOpen = false;
  readonly #separator: number;

  constructor(separator: string) {
    this.#separator = separator.charCodeAt(0);
  }

  isOpenAfter(line: Buffer): boolean {
    if (!line.includes(QUOTE)) return this.#isOpen;
    let mayOpen = !this.#isOpen;
    for (const byte of line)
      if (byte === QUOTE && this.#isOpen) {
        this.#isOpen = false;
        // A second quote at once is one of the text.
        mayOpen = true;
      } else if (!this.#isOpen) {
        this.#isOpen = byte === QUOTE && mayOpen;
        mayOpen = byte === this.#separator;
      }
    return this.#isOpen;
  }
}

/** The bytes of a file of this machine, decompressed. */
export function bytesOf(path: string, isGzip: boolean): Readable {
  const stream = createReadStream(path);
  if (!isGzip) return stream;
  const whole = createGunzip();
  stream.on('error', (error) => whole.destroy(error));
  return stream.pipe(whole);
}

/**
 * The records with their line ends.
 *
 * @param separator of a delimited file, whose quoted texts may hold line ends; null for a record in each line
 */
export async function* recordsOf(
  source: AsyncIterable<Buffer>,
  separator: string | null,
  name: string,
): AsyncGenerator<Buffer> {
  const quotes = separator === null ? null : new Quotes(separator);
  let held: Buffer = Buffer.alloc(0);
  let readCount = 0;
  for await (const chunk of source) {
    held = held.length === 0 ? chunk : Buffer.concat([held, chunk]);
    let start = 0;
    for (;;) {
      const end = held.indexOf(LINE_END, readCount) + 1;
      if (end === 0) break;
      const isOpen = quotes?.isOpenAfter(held.subarray(readCount, end)) ?? false;
      readCount = end;
      if (isOpen) continue;
      yield held.subarray(start, end);
      start = end;
    }
    held = held.subarray(start);
    readCount -= start;
    if (held.length > LINE_BYTE_COUNT_MAX) throw endlessRecord(name);
  }
  if (held.length > 0) yield held;
}

function endlessRecord(name: string): QianmoError {
  return new QianmoError({
    kind: 'data',
    what: 'a row of a log does not end',
    where: name,
    expected: `rows of at most ${LINE_BYTE_COUNT_MAX} bytes`,
    cure: 'close the quote that is open, or write the log again with LF at the ends of rows',
  });
}

/** @param names of all columns, in their order */
export function delimitedTest(
  { column, value }: Forgotten,
  names: readonly string[],
  separator: string,
): RowTest {
  const place = names.indexOf(column);
  const mayHold = testOfBytes(value, '"');
  const field = new RegExp(`(?:"((?:[^"]|"")*)"|([^\\${separator}]*))(\\${separator}|$)`, 'y');
  return (record) => {
    if (!mayHold(record)) return false;
    const fields: string[] = [];
    field.lastIndex = 0;
    const text = record.toString('utf8').replace(/\r?\n$/, '');
    for (let next = field.exec(text); next !== null; next = field.exec(text)) {
      fields.push(next[1]?.replaceAll('""', '"') ?? next[2] ?? '');
      if (next[3] === '') break;
    }
    return fields.length === names.length && fields[place] === value;
  };
}

/** Texts of JSON and its numbers, which are compared as they are written: ids may have more digits than a double. */
const TOKEN = /"(?:[^"\\]|\\.)*"|-?\d[\d.eE+-]*/g;

export function jsonTest({ column, value }: Forgotten): RowTest {
  const mayHold = testOfBytes(value, '\\');
  return (record) => {
    if (!mayHold(record) && !record.includes('\\')) return false;
    try {
      const texts = record.toString('utf8').replace(TOKEN, (t) => (t[0] === '"' ? t : `"${t}"`));
      const row: unknown = JSON.parse(texts);
      if (typeof row !== 'object' || row === null || !Object.hasOwn(row, column)) return false;
      const found: unknown = Reflect.get(row, column);
      return typeof found !== 'object' && String(found) === value;
    } catch {
      return false;
    }
  };
}

/** False for records that cannot hold the value, which are most. */
function testOfBytes(value: string, escaped: string): RowTest {
  if (value.includes(escaped)) return () => true;
  const bytes = Buffer.from(value);
  return (record) => record.includes(bytes);
}
