/**
 * Buffers of bodies and answers that are used again. New ones for each request would count as growth of the old
 * generation, however soon they are given back.
 */

const BYTE_COUNT_STEP = 32_768;
/** Larger ones are left to the garbage collector, as are those beyond the count. */
const KEPT_BYTE_COUNT_MAX = 2 ** 20;
const KEPT_COUNT_MAX = 64;

export class ReusedBuffers {
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
