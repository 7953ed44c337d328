/**
 * Connections while their requests are plain: a POST of HTTP/1.1 with a length, each header once and on one line, one
 * request after the other and without delay. At the first other one a connection is handed over to node:http, whose objects
 * cost 50 us a request, with the bytes of that request, and stays there.
 */

import { STATUS_CODES, type IncomingHttpHeaders } from 'node:http';
import type { Socket } from 'node:net';
import type { Clock } from '../../../shared/base/clock.js';
import type { Answer } from './endpoint.js';

export interface PlainHead {
  readonly url: string;
  /** All but the length of the body. Heads that differ in it alone have the same object. */
  readonly headers: IncomingHttpHeaders;
  /** Bytes of the head with the empty line behind it. */
  readonly byteCount: number;
  readonly bodyByteCount: number;
  /** The text without the line of the length, to know the head again. */
  readonly text: string;
}

const HEAD_BYTE_COUNT_MAX = 8_192;
const METHOD = Buffer.from('POST ');
const HEAD_END = Buffer.from('\r\n\r\n');
/** RFC 9112: the request line, then fields of visible ASCII, none of them folded. */
const HEAD = /^POST (\/[!-~]*) HTTP\/1\.1((?:\r\n[!#$%&'*+.^_`|~0-9A-Za-z-]+:[\t -~]*)+)$/;
const LENGTH_LINE = /\r\ncontent-length:[\t ]*(\d{1,9})[\t ]*(?=\r\n|$)/i;
/** Headers that change how a body or the connection is read, or name what an object has anyway; a second length. */
const UNUSUAL = /^(content-length|transfer-encoding|expect|upgrade|te|trailer|__proto__)$/;

/** @param known the head that the connection sent before. */
export function plainHeadOf(
  bytes: Buffer,
  known: PlainHead | null,
): PlainHead | 'incomplete' | 'unusual' {
  const begun = Math.min(bytes.length, METHOD.length);
  if (bytes.compare(METHOD, 0, begun, 0, begun) !== 0) return 'unusual';
  const end = bytes.subarray(0, HEAD_BYTE_COUNT_MAX).indexOf(HEAD_END);
  if (end < 0) return bytes.length < HEAD_BYTE_COUNT_MAX ? 'incomplete' : 'unusual';
  const whole = bytes.toString('latin1', 0, end);
  const length = LENGTH_LINE.exec(whole);
  if (length === null) return 'unusual';
  const text = whole.slice(0, length.index) + whole.slice(length.index + length[0].length);
  const read = text === known?.text ? known : headersOf(text);
  if (read === null) return 'unusual';
  const { url, headers } = read;
  const byteCount = end + HEAD_END.length;
  return { url, headers, byteCount, bodyByteCount: Number(length[1]), text };
}

function headersOf(text: string): Pick<PlainHead, 'url' | 'headers'> | null {
  const [, url, lines = ''] = HEAD.exec(text) ?? [];
  if (url === undefined) return null;
  const headers: Record<string, string> = {};
  for (const line of lines.slice(2).split('\r\n')) {
    const nameEnd = line.indexOf(':');
    const name = line.slice(0, nameEnd).toLowerCase();
    if (UNUSUAL.test(name) || Object.hasOwn(headers, name)) return null;
    headers[name] = line.slice(nameEnd + 1).trim();
  }
  const isKept = (headers['connection'] ?? 'keep-alive').toLowerCase() === 'keep-alive';
  return isKept && headers['host'] !== undefined ? { url, headers } : null;
}

/** A request that waits for its answer, whoever has read it from its connection. */
export interface Exchange {
  /** True if the client has an answer, or has left. */
  readonly isOver: boolean;
  /** Sends nothing where it is over. Headers are those beside the type and the length of the content. */
  send(status: number, answer: Answer, headers?: Readonly<Record<string, string>>): void;
}

/** A request with its body, whose bytes are valid until `release` is called. */
interface PlainRequest<Accepted> {
  readonly accepted: Accepted;
  readonly body: Buffer;
  readonly arrivalMs: number;
  readonly exchange: Exchange;
  readonly release: () => void;
}

interface PlainConnectionParts<Accepted> {
  readonly clock: Clock;
  /** Takes up so many bytes of a body that comes; false if there is no room. */
  readonly reserve: (byteCount: number) => boolean;
  readonly giveBack: (byteCount: number) => void;
  readonly freeMemory: (bytes: Uint8Array) => void;
  /** Null for a request that node:http must read. */
  readonly accept: (head: PlainHead) => Accepted | null;
  readonly carryOut: (request: PlainRequest<Accepted>) => void;
  /** `status` is null where the client left before it had an answer. */
  readonly ended: (request: PlainRequest<Accepted>, status: number | null) => void;
  readonly handOver: (socket: Socket) => void;
  readonly keepAliveMs: number;
  readonly isDraining: () => boolean;
}

/** Larger bodies come in many pieces, and are node:http's. */
const BODY_BYTE_COUNT_MAX = 256 * 1024;
/** Between two looks at the connections; what has begun and not come as a whole by then is node:http's. */
const CHECKING_MS = 500;

class PlainConnection<Accepted> implements Exchange {
  readonly #socket: Socket;
  readonly #server: PlainConnections<Accepted>;
  readonly #parts: PlainConnectionParts<Accepted>;
  #sinceMs: number;
  /** Bytes of the request that comes. */
  #chunks: Buffer[] = [];
  #byteCount = 0;
  /** The head of the request that comes, once its body is awaited. */
  #head: PlainHead | null = null;
  /** The last head, and what was made of it. */
  #known: readonly [PlainHead, Accepted] | null = null;
  /** The request that waits for its answer. */
  #request: PlainRequest<Accepted> | null = null;
  #isSent = false;

  constructor(
    socket: Socket,
    server: PlainConnections<Accepted>,
    parts: PlainConnectionParts<Accepted>,
  ) {
    this.#socket = socket;
    this.#server = server;
    this.#parts = parts;
    this.#sinceMs = parts.clock.monotonicMs();
    socket.on('data', this.#take).on('end', this.#halfClosed);
    socket.on('close', this.#closed).on('error', this.destroy);
  }

  get isOver(): boolean {
    return this.#request === null || this.#isSent || this.#socket.destroyed;
  }

  /** Leaves a request that is slow to node:http, and closes a connection that was idle for long enough. */
  check(nowMs: number): void {
    const waitedMs = nowMs - this.#sinceMs;
    if (this.#request !== null) return;
    if (this.#chunks.length > 0 && waitedMs > CHECKING_MS) this.#handOver();
    else if (waitedMs > this.#parts.keepAliveMs) this.destroy();
  }

  /** Closes the connection unless a request is under way, which is answered as the last one. */
  drain(): void {
    if (this.#request !== null) return;
    if (this.#chunks.length > 0) this.#handOver();
    else this.destroy();
  }

  readonly destroy = (): void => {
    this.#socket.destroy();
  };

  send(
    status: number,
    { mediaType, content }: Answer,
    others: Readonly<Record<string, string>> = {},
  ): void {
    const request = this.#request;
    if (this.isOver || request === null) return;
    const { keepAliveMs, isDraining } = this.#parts;
    const isLast = isDraining() || this.#socket.readableEnded;
    this.#isSent = true;
    const byteCount = Buffer.byteLength(content);
    let head = `HTTP/1.1 ${status} ${STATUS_CODES[status] ?? ''}\r\n`;
    for (const name in others) head += `${name}: ${others[name] ?? ''}\r\n`;
    head += `Content-Type: ${mediaType}\r\nContent-Length: ${byteCount}\r\nDate: ${this.#server.date()}\r\n`;
    head += isLast
      ? 'Connection: close\r\n\r\n'
      : `Connection: keep-alive\r\nKeep-Alive: timeout=${Math.floor(keepAliveMs / 1000)}\r\n\r\n`;
    const room = this.#server.takeBuffer(head.length + byteCount);
    const start = room.write(head, 'latin1');
    if (typeof content === 'string') room.write(content, start);
    else room.set(content, start);
    this.#socket.write(room.subarray(0, start + byteCount), (error) => {
      this.#server.giveBuffer(room);
      // If the connection closed, the `close` handler reports it.
      if (error) return;
      this.#request = null;
      this.#sinceMs = this.#parts.clock.monotonicMs();
      this.#parts.ended(request, status);
      if (isLast) this.#socket.destroySoon();
      // A request that has come meanwhile is node:http's.
      else if (this.#chunks.length > 0) this.#handOver();
    });
  }

  readonly #take = (chunk: Buffer): void => {
    if (this.#chunks.length === 0) this.#sinceMs = this.#parts.clock.monotonicMs();
    this.#chunks.push(chunk);
    this.#byteCount += chunk.length;
    if (this.#request !== null) {
      this.#socket.pause();
      return;
    }
    if (this.#head === null && !this.#beginBody()) return;
    const head = this.#head;
    if (head === null || this.#known === null) return;
    const missing = head.byteCount + head.bodyByteCount - this.#byteCount;
    if (missing === 0) this.#carryOut(head, this.#known[1]);
    else if (missing < 0) this.#handOver();
  };

  /** Returns whether the head is there, and its body may be received. */
  #beginBody(): boolean {
    const [first] = this.#chunks;
    if (first === undefined) return false;
    const bytes = this.#chunks.length === 1 ? first : Buffer.concat(this.#chunks);
    const [known, ofKnown] = this.#known ?? [null, null];
    const head = plainHeadOf(bytes, known);
    if (head === 'incomplete') return false;
    if (head !== 'unusual' && head.bodyByteCount <= BODY_BYTE_COUNT_MAX) {
      const accepted = head.headers === known?.headers ? ofKnown : this.#parts.accept(head);
      if (accepted !== null && this.#parts.reserve(head.bodyByteCount)) {
        this.#known = [head, accepted];
        this.#head = head;
        return true;
      }
    }
    this.#handOver();
    return false;
  }

  #carryOut({ byteCount, bodyByteCount }: PlainHead, accepted: Accepted): void {
    const { giveBack, freeMemory, carryOut } = this.#parts;
    const room = this.#server.takeBuffer(bodyByteCount);
    // A copy, since arrays of a body are read where they lie, which must be a place for them.
    let place = -byteCount;
    for (const chunk of this.#chunks) {
      const ofHead = Math.min(chunk.length, Math.max(0, -place));
      if (ofHead < chunk.length) chunk.copy(room, place + ofHead, ofHead);
      place += chunk.length;
      freeMemory(chunk);
    }
    this.#reset();
    this.#isSent = false;
    const release = (): void => {
      giveBack(bodyByteCount);
      this.#server.giveBuffer(room);
    };
    const body = room.subarray(0, bodyByteCount);
    const arrivalMs = this.#sinceMs;
    this.#request = { accepted, body, arrivalMs, exchange: this, release };
    carryOut(this.#request);
  }

  #reset(): void {
    this.#chunks = [];
    this.#byteCount = 0;
    this.#head = null;
  }

  #handOver(): void {
    const socket = this.#socket;
    const bytes = Buffer.concat(this.#chunks);
    this.#leave();
    socket.pause();
    if (bytes.length > 0) socket.unshift(bytes);
    this.#parts.handOver(socket);
    socket.resume();
  }

  /** The body that was announced is not awaited any more. */
  #leave(): void {
    if (this.#head !== null) this.#parts.giveBack(this.#head.bodyByteCount);
    this.#reset();
    const socket = this.#socket;
    socket.off('data', this.#take).off('end', this.#halfClosed);
    socket.off('close', this.#closed).off('error', this.destroy);
    this.#server.forget(this);
  }

  readonly #halfClosed = (): void => {
    if (this.#request === null) this.destroy();
  };

  readonly #closed = (): void => {
    const request = this.#request;
    this.#request = null;
    this.#leave();
    if (request !== null) this.#parts.ended(request, null);
  };
}

const BYTE_COUNT_STEP = 32_768;
/** Larger buffers are left to the garbage collector, as are those beyond the count. */
const KEPT_BYTE_COUNT_MAX = 2 ** 20;
const KEPT_COUNT_MAX = 64;

/** The connections of a server whose requests are plain. */
export class PlainConnections<Accepted> {
  readonly #parts: PlainConnectionParts<Accepted>;
  readonly #open = new Set<PlainConnection<Accepted>>();
  readonly #closing = new AbortController();
  /**
   * Buffers of bodies and answers that are used again. New ones for each request would count as growth of the old
   * generation, however soon they are given back.
   */
  readonly #buffers: Buffer[] = [];
  #date = { ofSecond: -1, text: '' };

  constructor(parts: PlainConnectionParts<Accepted>) {
    this.#parts = parts;
  }

  take(socket: Socket): void {
    this.#open.add(new PlainConnection(socket, this, this.#parts));
  }

  forget(connection: PlainConnection<Accepted>): void {
    this.#open.delete(connection);
  }

  /** Looks at the connections until all are closed. */
  async watch(): Promise<void> {
    const { clock } = this.#parts;
    const { signal } = this.#closing;
    while (!signal.aborted) {
      await clock.sleep(CHECKING_MS, signal);
      const nowMs = clock.monotonicMs();
      for (const connection of this.#open) connection.check(nowMs);
    }
  }

  /** Closes connections without a request under way. */
  drain(): void {
    for (const connection of this.#open) connection.drain();
  }

  close(): void {
    this.#closing.abort();
    for (const connection of this.#open) connection.destroy();
  }

  /** At least so many bytes, with whatever they had. Nobody else has them until they are given back. */
  takeBuffer(byteCount: number): Buffer {
    const kept = this.#buffers.pop();
    if (kept !== undefined && kept.length >= byteCount) return kept;
    const steps = Math.max(1, Math.ceil(byteCount / BYTE_COUNT_STEP));
    return Buffer.allocUnsafeSlow(steps * BYTE_COUNT_STEP);
  }

  giveBuffer(buffer: Buffer): void {
    if (buffer.length <= KEPT_BYTE_COUNT_MAX && this.#buffers.length < KEPT_COUNT_MAX)
      this.#buffers.push(buffer);
  }

  /** The value of the header `Date`. */
  date(): string {
    const epochMs = this.#parts.clock.epochMs();
    const second = Math.floor(epochMs / 1_000);
    if (second !== this.#date.ofSecond)
      this.#date = { ofSecond: second, text: new Date(epochMs).toUTCString() };
    return this.#date.text;
  }
}
