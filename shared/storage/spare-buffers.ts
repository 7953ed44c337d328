/**
 * Memory that held the bytes of blobs, for the blobs that are read next. The first use of new memory costs four times the
 * copy into it, and giving it back makes the collector of garbage look at everything.
 */

/** Bounds the memory that is kept for nothing. */
const SPARE_BYTE_COUNT_MAX = 64 * 1024 * 1024;
const SPARE_COUNT_MAX = 256;
/** A buffer serves fewer bytes than it has, up to this factor. */
const SIZE_FACTOR_MAX = 2;

export class SpareBuffers {
  /** The oldest first. */
  readonly #spares: ArrayBuffer[] = [];
  #byteCount = 0;
  /** Buffers that are lent and not back yet. Other memory is not taken, and none is taken twice. */
  readonly #lent = new WeakSet<ArrayBufferLike>();

  /** Bytes to write to, with whatever they hold. */
  lend(byteCount: number): Uint8Array {
    const place = this.#spares.findLastIndex(
      ({ byteLength }) => byteCount <= byteLength && byteLength <= SIZE_FACTOR_MAX * byteCount,
    );
    const [spare] = place < 0 ? [] : this.#spares.splice(place, 1);
    this.#byteCount -= spare?.byteLength ?? 0;
    // New memory is written to as a whole, so nobody needs zeros in it.
    const buffer = spare ?? Buffer.allocUnsafeSlow(byteCount).buffer;
    this.#lent.add(buffer);
    return new Uint8Array(buffer, 0, byteCount);
  }

  /** Takes back bytes that `lend` has returned, or a view on them. Nobody reads them any more. */
  takeBack({ buffer }: Uint8Array): void {
    if (!(buffer instanceof ArrayBuffer) || !this.#lent.delete(buffer)) return;
    this.#spares.push(buffer);
    this.#byteCount += buffer.byteLength;
    while (this.#spares.length > SPARE_COUNT_MAX || this.#byteCount > SPARE_BYTE_COUNT_MAX)
      this.#byteCount -= this.#spares.shift()?.byteLength ?? 0;
  }
}
