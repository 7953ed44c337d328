/** Bodies of requests, received within bounds on each of them and on all together. */

import type { IncomingMessage } from 'node:http';
import { RefusedRequest } from './refused-request.js';
import {
  BODIES_BYTE_COUNT_MAX,
  BODY_BYTE_COUNT_MAX,
  RECEIVED_REQUESTS_MAX,
} from './server-limits.js';

export class BodyReceiver {
  readonly #freeMemory: (bytes: Uint8Array) => void;
  #requestCount = 0;
  #byteCount = 0;

  /** @param freeMemory of chunks and bodies that nobody reads any more. */
  constructor(freeMemory: (bytes: Uint8Array) => void) {
    this.#freeMemory = freeMemory;
  }

  /** Null if the client went away. Call `free` with the body when nobody reads it any more. */
  async receive(request: IncomingMessage): Promise<Buffer | null> {
    const announced = Number(request.headers['content-length'] ?? 0);
    if (announced > BODY_BYTE_COUNT_MAX) throw tooLarge(`${announced} bytes`);
    if (this.#requestCount >= RECEIVED_REQUESTS_MAX)
      throw tooMany(`${RECEIVED_REQUESTS_MAX} requests at once`);
    this.#requestCount += 1;
    try {
      return await this.#received(request);
    } finally {
      this.#requestCount -= 1;
    }
  }

  /**
   * Takes up a body that somebody else receives: `received` is called when it is there or is not awaited any
   * more, and `release` when nobody reads it. False if there are too many, and nothing is taken up.
   */
  begin(byteCount: number): boolean {
    const isFull =
      this.#requestCount >= RECEIVED_REQUESTS_MAX ||
      this.#byteCount + byteCount > BODIES_BYTE_COUNT_MAX;
    if (isFull) return false;
    this.#requestCount += 1;
    this.#byteCount += byteCount;
    return true;
  }

  received(): void {
    this.#requestCount -= 1;
  }

  release(byteCount: number): void {
    this.#byteCount -= byteCount;
  }

  /** The body is empty afterwards. */
  free(body: Buffer): void {
    this.#byteCount -= body.byteLength;
    this.#freeMemory(body);
  }

  #received(request: IncomingMessage): Promise<Buffer | null> {
    return new Promise((resolve, reject) => {
      const chunks: Buffer[] = [];
      let byteCount = 0;
      const settle = (outcome: () => void): void => {
        request.off('data', take).off('end', whole).off('close', gone);
        outcome();
      };
      const refuse = (refused: RefusedRequest): void => {
        this.#byteCount -= byteCount;
        settle(() => reject(refused));
        // The rest is received and forgotten, so that the client reads the answer.
        request.resume();
      };
      const whole = (): void => settle(() => resolve(this.#joined(chunks, byteCount)));
      const gone = (): void => {
        this.#byteCount -= byteCount;
        settle(() => resolve(null));
      };
      const take = (chunk: Buffer): void => {
        chunks.push(chunk);
        byteCount += chunk.byteLength;
        this.#byteCount += chunk.byteLength;
        if (byteCount > BODY_BYTE_COUNT_MAX)
          refuse(tooLarge(`more than ${BODY_BYTE_COUNT_MAX} bytes`));
        else if (this.#byteCount > BODIES_BYTE_COUNT_MAX)
          refuse(tooMany(`${BODIES_BYTE_COUNT_MAX} bytes of all bodies`));
      };
      request.on('data', take).once('end', whole).once('close', gone);
      request.on('error', () => undefined);
    });
  }

  #joined(chunks: readonly Buffer[], byteCount: number): Buffer {
    const [first] = chunks;
    if (first !== undefined && chunks.length === 1) return first;
    const body = Buffer.concat(chunks, byteCount);
    for (const chunk of chunks) this.#freeMemory(chunk);
    return body;
  }
}

function tooLarge(found: string): RefusedRequest {
  return new RefusedRequest({
    reason: 'too-large',
    what: 'the body is too large',
    expected: `at most ${BODY_BYTE_COUNT_MAX} bytes`,
    found,
    cure: 'send fewer candidates, or send them in binary',
  });
}

function tooMany(expected: string): RefusedRequest {
  return new RefusedRequest({
    reason: 'too-many-bodies',
    what: 'too many bodies are being received',
    expected: `at most ${expected}`,
    cure: 'ask again later, or start more servers',
  });
}
