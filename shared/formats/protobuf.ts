/** Messages in the wire format of protocol buffers: fields of varints, of four or eight bytes, and of bytes with their length. */

const VARINT = 0;
const FIXED64 = 1;
const LENGTH_DELIMITED = 2;
const FIXED32 = 5;

export class ProtoWriter {
  readonly #pieces: Uint8Array[] = [];

  /** @param value a whole number; a negative one takes ten bytes, as the format says of int32 and int64. */
  int(field: number, value: number): this {
    this.#key(field, VARINT);
    this.#pieces.push(varint(value));
    return this;
  }

  float(field: number, value: number): this {
    this.#key(field, FIXED32);
    this.#pieces.push(new Uint8Array(Float32Array.of(value).buffer));
    return this;
  }

  double(field: number, value: number): this {
    this.#key(field, FIXED64);
    this.#pieces.push(new Uint8Array(Float64Array.of(value).buffer));
    return this;
  }

  fixed32(field: number, value: number): this {
    this.#key(field, FIXED32);
    this.#pieces.push(new Uint8Array(Uint32Array.of(value).buffer));
    return this;
  }

  bytes(field: number, value: Uint8Array): this {
    this.#key(field, LENGTH_DELIMITED);
    this.#pieces.push(varint(value.byteLength), value);
    return this;
  }

  text(field: number, value: string): this {
    return this.bytes(field, new TextEncoder().encode(value));
  }

  message(field: number, write: (message: ProtoWriter) => void): this {
    const message = new ProtoWriter();
    write(message);
    return this.bytes(field, message.finish());
  }

  /** Packed, as repeated numbers are. */
  ints(field: number, values: readonly number[]): this {
    return this.bytes(field, Buffer.concat(values.map(varint)));
  }

  finish(): Uint8Array {
    return Buffer.concat(this.#pieces);
  }

  #key(field: number, wireType: number): void {
    this.#pieces.push(varint(field * 8 + wireType));
  }
}

/** Seven bits a byte, the lowest first; the highest bit says that more follow. */
export function varint(value: number): Uint8Array {
  const bytes: number[] = [];
  let left = BigInt.asUintN(64, BigInt(value));
  do {
    const low = Number(left & 0x7fn);
    left >>= 7n;
    bytes.push(left > 0n ? low | 0x80 : low);
  } while (left > 0n);
  return Uint8Array.from(bytes);
}
