/** Bodies of requests, received within bounds on each of them and on all together. */

import type { IncomingMessage } from 'node:http';
import { RefusedRequest } from './refused-request.js';
import {
  BODIES_BYTE_COUNT_MAX,
  BODY_BYTE_COUNT_MAX,
  RECEIVED_REQUESTS_MAX,
} from './server-limits.js';

export class BodyReceiver {
  #requestCount = 0;
  #byteCount = 0;

  /** Null if the client went away. Call `free` with the body when it is parsed. */
  async receive(request: IncomingMessage): Promise<Buffer | null> {
    const announced = Number(request.headers['content-length'] ?? 0);
    if (announced > BODY_BYTE_COUNT_MAX) throw tooLarge(`${announced} bytes`);
    if (this.#requestCount >= RECEIVED_REQUESTS_MAX)
      throw tooMany(`${RECEIVED_REQUESTS_MAX} requests at once`);
    this.#requestCount += 1;
    try {
      return await this.#joined(request);
    } finally {
      this.#requestCount -= 1;
    }
  }

  free(body: Buffer): void {
    this.#byteCount -= body.byteLength;
  }

  #joined(request: IncomingMessage): Promise<Buffer | null> {
    return new Promise((resolve, reject) => {
      const chunks: Buffer[] = [];
      let byteCount = 0;
      const settle = (outcome: () => void): void => {
        request.removeAllListeners('data').off('end', whole).off('close', gone);
        outcome();
      };
      const refuse = (refused: RefusedRequest): void => {
        this.#byteCount -= byteCount;
        settle(() => reject(refused));
        // The rest is received and forgotten, so that the client reads the answer.
        request.resume();
      };
      const whole = (): void => settle(() => resolve(Buffer.concat(chunks, byteCount)));
      const gone = (): void => {
        this.#byteCount -= byteCount;
        settle(() => resolve(null));
      };
      request.on('data', (chunk: Buffer) => {
        chunks.push(chunk);
        byteCount += chunk.byteLength;
        this.#byteCount += chunk.byteLength;
        if (byteCount > BODY_BYTE_COUNT_MAX)
          refuse(tooLarge(`more than ${BODY_BYTE_COUNT_MAX} bytes`));
        else if (this.#byteCount > BODIES_BYTE_COUNT_MAX)
          refuse(tooMany(`${BODIES_BYTE_COUNT_MAX} bytes of all bodies`));
      });
      request.once('end', whole).once('close', gone);
      request.on('error', () => undefined);
    });
  }
}

function tooLarge(found: string): RefusedRequest {
  return new RefusedRequest({
    reason: 'too-large',
    what: 'the body is too large',
    expected: `at most ${BODY_BYTE_COUNT_MAX} bytes`,
    found,
    cure: 'send fewer candidates, and columns in place of objects',
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
