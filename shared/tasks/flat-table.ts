/**
 * Reads tables of a FlatBuffer with every place checked: https://flatbuffers.dev/internals. A table begins
 * with the distance back to its vtable, which holds the places of its fields; 0 means absent.
 */

const INT32_BYTE_COUNT = 4;
const VTABLE_HEAD_BYTE_COUNT = 4;
/** Tables may be reached on several ways; more than this many would be a trap. */
const VISITS_MAX = 100_000;

export class FlatTable {
  readonly #view: DataView;
  readonly #start: number;
  readonly #vtable: number;
  readonly #visits: { count: number };

  private constructor(view: DataView, start: number, visits: { count: number }) {
    visits.count += 1;
    if (visits.count > VISITS_MAX) throw new Error('its metadata has too many tables');
    this.#view = view;
    this.#visits = visits;
    this.#start = start;
    this.#vtable = start - int32(view, start);
    // The vtable names its own length first.
    uint16(view, this.#vtable);
  }

  /** @throws Error if the table lies outside of the bytes, as every method does for its part. */
  static rootOf(bytes: Uint8Array): FlatTable {
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    return new FlatTable(view, int32(view, 0), { count: 0 });
  }

  table(field: number): FlatTable | null {
    const place = this.#placeOf(field);
    return place === null ? null : this.#tableAt(place);
  }

  tables(field: number): FlatTable[] {
    const vector = this.#vectorOf(field, INT32_BYTE_COUNT);
    return Array.from({ length: vector.count }, (_, index) =>
      this.#tableAt(vector.start + index * INT32_BYTE_COUNT),
    );
  }

  structs(field: number, byteCount: number): DataView[] {
    const { start, count } = this.#vectorOf(field, byteCount);
    const { buffer, byteOffset } = this.#view;
    return Array.from(
      { length: count },
      (_, index) => new DataView(buffer, byteOffset + start + index * byteCount, byteCount),
    );
  }

  text(field: number): string {
    const { start, count } = this.#vectorOf(field, 1);
    const { buffer, byteOffset } = this.#view;
    return Buffer.from(buffer, byteOffset + start, count).toString('utf8');
  }

  /** 0 if absent. */
  uint8(field: number): number {
    const place = this.#placeOf(field);
    if (place === null) return 0;
    return this.#view.getUint8(checked(this.#view, place, 1));
  }

  /** 0 if absent. Beyond 2^53 it is inexact. */
  int64(field: number): number {
    const place = this.#placeOf(field);
    if (place === null) return 0;
    return Number(this.#view.getBigInt64(checked(this.#view, place, 8), true));
  }

  /** Whether a table is absent, or a vector absent or without elements. */
  isEmpty(field: number): boolean {
    const place = this.#placeOf(field);
    return place === null || int32(this.#view, place + int32(this.#view, place)) === 0;
  }

  #placeOf(field: number): number | null {
    const entry = VTABLE_HEAD_BYTE_COUNT + 2 * field;
    if (entry >= uint16(this.#view, this.#vtable)) return null;
    const distance = uint16(this.#view, this.#vtable + entry);
    return distance === 0 ? null : this.#start + distance;
  }

  #tableAt(place: number): FlatTable {
    return new FlatTable(this.#view, place + int32(this.#view, place), this.#visits);
  }

  #vectorOf(field: number, elementByteCount: number): { start: number; count: number } {
    const place = this.#placeOf(field);
    if (place === null) return { start: 0, count: 0 };
    const vector = place + int32(this.#view, place);
    const count = int32(this.#view, vector);
    const start = vector + INT32_BYTE_COUNT;
    if (count < 0) throw new Error(`its metadata has a vector of ${count} elements`);
    checked(this.#view, start, count * elementByteCount);
    return { start, count };
  }
}

function checked(view: DataView, place: number, byteCount: number): number {
  if (place < 0 || place + byteCount > view.byteLength)
    throw new Error('its metadata points outside of itself');
  return place;
}

function int32(view: DataView, place: number): number {
  return view.getInt32(checked(view, place, INT32_BYTE_COUNT), true);
}

function uint16(view: DataView, place: number): number {
  return view.getUint16(checked(view, place, 2), true);
}
