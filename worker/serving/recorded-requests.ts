/**
 * Requests that were answered, kept in memory for the next bundle to be warmed with before it is served: the first ones,
 * then one in every few takes the place of the oldest.
 */

export interface RecordedRequest {
  readonly path: string;
  readonly mediaType: string;
  readonly body: Buffer;
}

interface RecordingLimits {
  readonly countMax: number;
  /** Of all bodies together. */
  readonly byteCountMax: number;
  /** Once there are `countMax`, one request in so many is kept. */
  readonly oneIn: number;
}

const LIMITS: RecordingLimits = { countMax: 64, byteCountMax: 16 * 2 ** 20, oneIn: 64 };

export class RecordedRequests {
  /** Kept for good: those of a file. */
  readonly #given: readonly RecordedRequest[];
  readonly #limits: RecordingLimits;
  readonly #recorded: RecordedRequest[] = [];
  #byteCount = 0;
  #seenCount = 0;

  constructor(given: readonly RecordedRequest[] = [], limits = LIMITS) {
    this.#given = given;
    this.#limits = limits;
  }

  /** Copies the body, which belongs to the server. */
  take({ path, mediaType, body }: RecordedRequest): void {
    const { countMax, byteCountMax, oneIn } = this.#limits;
    this.#seenCount += 1;
    const isFull = this.#recorded.length >= countMax;
    if (body.length > byteCountMax || (isFull && this.#seenCount % oneIn !== 0)) return;
    this.#recorded.push({ path, mediaType, body: Buffer.from(body) });
    this.#byteCount += body.length;
    while (this.#recorded.length > countMax || this.#byteCount > byteCountMax)
      this.#byteCount -= this.#recorded.shift()?.body.length ?? 0;
  }

  all(): readonly RecordedRequest[] {
    return [...this.#given, ...this.#recorded];
  }
}
