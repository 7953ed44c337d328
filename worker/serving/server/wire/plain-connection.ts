/**
 * A connection as long as its requests are plain (`plain-head.ts`), one after the other, and come without delay.
 * At the first other one it is handed over to node:http with what it has brought of it, and stays there.
 */

import { STATUS_CODES } from 'node:http';
import type { Socket } from 'node:net';
import type { Clock } from '../../../../shared/base/clock.js';
import type { Answer } from '../endpoint.js';
import { freeMemory } from '../../freed-memory.js';
import type { BodyReceiver } from '../received-body.js';
import { plainHeadOf, type PlainHead } from './plain-head.js';

/** A request that waits for its answer, whoever has read it from its connection. */
export interface Exchange {
  /** Whether the client has an answer, or has left. */
  readonly isOver: boolean;
  /** Sends nothing where it is over. Headers are those beside the type and the length of the content. */
  send(status: number, answer: Answer, headers?: Readonly<Record<string, string>>): void;
}

/** Larger bodies come in many pieces, and are node:http's. */
const PLAIN_BODY_BYTE_COUNT_MAX = 256 * 1024;

/** A request with its body, whose bytes are valid until it has ended. */
export interface PlainRequest<Accepted> {
  readonly head: PlainHead;
  readonly accepted: Accepted;
  readonly body: Buffer;
  readonly arrivalMs: number;
  readonly exchange: Exchange;
  /** Gives the body back; called once nobody reads it any more. */
  readonly release: () => void;
}

interface PlainConnectionParts<Accepted> {
  readonly clock: Clock;
  readonly bodies: BodyReceiver;
  readonly buffers: ReusedBuffers;
  readonly addon: () => Parameters<typeof freeMemory>[0];
  /** Null for a request that node:http must read. */
  readonly accept: (head: PlainHead) => Accepted | null;
  readonly carryOut: (request: PlainRequest<Accepted>) => void;
  /** `status` is null where the client left before it had an answer. */
  readonly ended: (request: PlainRequest<Accepted>, status: number | null) => void;
  readonly handOver: (socket: Socket) => void;
  readonly keepAliveMs: number;
  readonly isDraining: () => boolean;
  /** The value of the header `Date`. */
  readonly date: () => string;
}

type State = 'new' | 'kept' | 'receiving' | 'answering' | 'over';

class PlainConnection<Accepted> implements Exchange {
  readonly #socket: Socket;
  readonly #parts: PlainConnectionParts<Accepted>;
  readonly #gone: (connection: PlainConnection<Accepted>) => void;
  #state: State = 'new';
  #sinceMs: number;
  #chunks: Buffer[] = [];
  #byteCount = 0;
  /** The head of the request before, and what was made of it. */
  #known: PlainHead | null = null;
  #knownAccepted: Accepted | null = null;
  /** The head of the request under way, and what was made of it. */
  #head: PlainHead | null = null;
  #accepted: Accepted | null = null;
  #request: PlainRequest<Accepted> | null = null;
  #isSent = false;

  constructor(
    socket: Socket,
    parts: PlainConnectionParts<Accepted>,
    gone: (connection: PlainConnection<Accepted>) => void,
  ) {
    this.#socket = socket;
    this.#parts = parts;
    this.#gone = gone;
    this.#sinceMs = parts.clock.monotonicMs();
    socket.on('data', this.#take).on('end', this.#halfClosed);
    socket.on('close', this.#closed).on('error', this.#failed);
  }

  get isOver(): boolean {
    return this.#state !== 'answering' || this.#isSent || this.#socket.destroyed;
  }

  /** Leaves what is slow to node:http, and closes what was kept for long enough. */
  check(nowMs: number, patienceMs: number): void {
    const waitedMs = nowMs - this.#sinceMs;
    if (this.#state === 'kept' && waitedMs > this.#parts.keepAliveMs) this.#socket.destroy();
    const isSlow = this.#state === 'new' || this.#state === 'receiving';
    if (isSlow && waitedMs > patienceMs) this.#handOver();
  }

  /** Closes the connection unless a request is under way, which is answered as the last one. */
  drain(): void {
    if (this.#state === 'receiving') this.#handOver();
    else if (this.#state !== 'answering') this.#socket.destroy();
  }

  destroy(): void {
    this.#socket.destroy();
  }

  send(
    status: number,
    { mediaType, content }: Answer,
    others: Readonly<Record<string, string>> = {},
  ): void {
    if (this.isOver) return;
    const { buffers, keepAliveMs } = this.#parts;
    const isLast = this.#parts.isDraining() || this.#socket.readableEnded;
    this.#isSent = true;
    const byteCount = Buffer.byteLength(content);
    let head = `HTTP/1.1 ${status} ${STATUS_CODES[status] ?? ''}\r\n`;
    for (const name in others) head += `${name}: ${others[name] ?? ''}\r\n`;
    head += `Content-Type: ${mediaType}\r\nContent-Length: ${byteCount}\r\nDate: ${this.#parts.date()}\r\n`;
    head += isLast
      ? 'Connection: close\r\n\r\n'
      : `Connection: keep-alive\r\nKeep-Alive: timeout=${Math.floor(keepAliveMs / 1000)}\r\n\r\n`;
    const room = buffers.take(head.length + byteCount);
    const start = room.write(head, 'latin1');
    if (typeof content === 'string') room.write(content, start);
    else room.set(content, start);
    const request = this.#request;
    this.#socket.write(room.subarray(0, start + byteCount), (error) => {
      buffers.giveBack(room);
      // Of a connection that was closed, `close` tells.
      if (error) return;
      this.#request = null;
      if (request !== null) this.#parts.ended(request, status);
      if (isLast) this.#socket.destroySoon();
      else this.#keep();
    });
  }

  /** The next request may come. One that has come already is node:http's. */
  #keep(): void {
    if (this.#state === 'over') return;
    this.#state = 'kept';
    this.#sinceMs = this.#parts.clock.monotonicMs();
    if (this.#chunks.length > 0) this.#handOver();
  }

  readonly #take = (chunk: Buffer): void => {
    this.#chunks.push(chunk);
    this.#byteCount += chunk.length;
    if (this.#state === 'answering') {
      this.#socket.pause();
      return;
    }
    if (this.#state !== 'receiving') {
      this.#state = 'receiving';
      this.#sinceMs = this.#parts.clock.monotonicMs();
    }
    if (this.#head === null && !this.#begins()) return;
    this.#ends();
  };

  /** Whether the head is there, and what it announces may be received. */
  #begins(): boolean {
    const [first] = this.#chunks;
    if (first === undefined) return false;
    const bytes = this.#chunks.length === 1 ? first : Buffer.concat(this.#chunks);
    const head = plainHeadOf(bytes, this.#known);
    if (head === 'incomplete') return false;
    const isKnown = head !== 'unusual' && head.headers === this.#known?.headers;
    const accepted =
      head === 'unusual' ? null : isKnown ? this.#knownAccepted : this.#parts.accept(head);
    const isTaken =
      head !== 'unusual' &&
      accepted !== null &&
      head.bodyByteCount <= PLAIN_BODY_BYTE_COUNT_MAX &&
      this.#parts.bodies.begin(head.bodyByteCount);
    if (!isTaken) {
      this.#handOver();
      return false;
    }
    this.#known = head;
    this.#knownAccepted = accepted;
    this.#head = head;
    this.#accepted = accepted;
    return true;
  }

  /** Has the request carried out if all of it is there. */
  #ends(): void {
    const { bodies, buffers, carryOut } = this.#parts;
    const [head, accepted] = [this.#head, this.#accepted];
    if (head === null || accepted === null) return;
    const missing = head.byteCount + head.bodyByteCount - this.#byteCount;
    if (missing > 0) return;
    if (missing < 0) {
      this.#handOver();
      return;
    }
    const room = buffers.take(head.bodyByteCount);
    // A copy, since arrays of a body are read where they lie, which must be a place for them.
    let place = -head.byteCount;
    for (const chunk of this.#chunks) {
      const ofHead = Math.min(chunk.length, Math.max(0, -place));
      if (ofHead < chunk.length) chunk.copy(room, place + ofHead, ofHead);
      place += chunk.length;
      freeMemory(this.#parts.addon(), chunk);
    }
    this.#reset();
    bodies.received();
    this.#state = 'answering';
    this.#isSent = false;
    const body = room.subarray(0, head.bodyByteCount);
    const release = (): void => {
      bodies.release(head.bodyByteCount);
      buffers.giveBack(room);
    };
    const request = { head, accepted, body, arrivalMs: this.#sinceMs, exchange: this, release };
    this.#request = request;
    carryOut(request);
  }

  #reset(): void {
    this.#chunks = [];
    this.#byteCount = 0;
    this.#head = null;
    this.#accepted = null;
  }

  #handOver(): void {
    if (this.#state === 'over') return;
    const socket = this.#socket;
    const chunks = this.#chunks;
    this.#leave();
    socket.pause();
    if (chunks.length > 0) socket.unshift(Buffer.concat(chunks));
    this.#parts.handOver(socket);
    socket.resume();
  }

  /** What was announced and has not come is not awaited any more. */
  #leave(): void {
    if (this.#head !== null) {
      this.#parts.bodies.received();
      this.#parts.bodies.release(this.#head.bodyByteCount);
    }
    this.#reset();
    this.#state = 'over';
    const socket = this.#socket;
    socket.off('data', this.#take).off('end', this.#halfClosed);
    socket.off('close', this.#closed).off('error', this.#failed);
    this.#gone(this);
  }

  readonly #halfClosed = (): void => {
    if (this.#state !== 'answering') this.#socket.destroy();
  };

  readonly #closed = (): void => {
    const request = this.#request;
    this.#request = null;
    this.#leave();
    if (request !== null) this.#parts.ended(request, null);
  };

  readonly #failed = (): void => {
    this.#socket.destroy();
  };
}

const BYTE_COUNT_STEP = 32_768;
/** Larger ones are left to the garbage collector, as are those beyond the count. */
const KEPT_BYTE_COUNT_MAX = 2 ** 20;
const KEPT_COUNT_MAX = 64;

/**
 * Buffers of bodies and answers that are used again. New ones for each request would count as growth of the old
 * generation, however soon they are given back.
 */
class ReusedBuffers {
  readonly #kept: Buffer[] = [];

  /** At least so many bytes, with whatever they had. Nobody else has them until they are given back. */
  take(byteCount: number): Buffer {
    const kept = this.#kept.pop();
    if (kept !== undefined && kept.length >= byteCount) return kept;
    const steps = Math.max(1, Math.ceil(byteCount / BYTE_COUNT_STEP));
    return Buffer.allocUnsafeSlow(steps * BYTE_COUNT_STEP);
  }

  giveBack(buffer: Buffer): void {
    if (buffer.length <= KEPT_BYTE_COUNT_MAX && this.#kept.length < KEPT_COUNT_MAX)
      this.#kept.push(buffer);
  }
}

/** Between two looks at the connections; what has begun and not come as a whole by then is node:http's. */
const CHECKING_MS = 500;

/** The connections of a server whose requests are plain, and what becomes of them with time. */
export class PlainConnections<Accepted> {
  readonly #parts: PlainConnectionParts<Accepted>;
  readonly #open = new Set<PlainConnection<Accepted>>();
  readonly #closing = new AbortController();
  #date = { ofSecond: -1, text: '' };

  constructor(parts: Omit<PlainConnectionParts<Accepted>, 'buffers' | 'date'>) {
    this.#parts = { ...parts, buffers: new ReusedBuffers(), date: () => this.#dateNow() };
  }

  take(socket: Socket): void {
    this.#open.add(
      new PlainConnection(socket, this.#parts, (connection) => this.#open.delete(connection)),
    );
  }

  /** Looks at the connections until all are closed. */
  async watch(): Promise<void> {
    const { clock } = this.#parts;
    const { signal } = this.#closing;
    while (!signal.aborted) {
      await clock.sleep(CHECKING_MS, signal);
      const nowMs = clock.monotonicMs();
      for (const connection of this.#open) connection.check(nowMs, CHECKING_MS);
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

  #dateNow(): string {
    const epochMs = this.#parts.clock.epochMs();
    const second = Math.floor(epochMs / 1_000);
    if (second !== this.#date.ofSecond)
      this.#date = { ofSecond: second, text: new Date(epochMs).toUTCString() };
    return this.#date.text;
  }
}
