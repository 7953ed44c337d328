/** Numbers in the order in which they came, at 4 or 8 bytes each: arrays of objects take some hundred bytes for each row. */

const FIRST_CAPACITY = 1024;

class NumberColumn<Values extends Int32Array | Float64Array> {
  readonly #make: (length: number) => Values;
  #values: Values;
  #length = 0;

  /** @param make returns an array of zeros. */
  constructor(make: (length: number) => Values) {
    this.#make = make;
    this.#values = make(FIRST_CAPACITY);
  }

  get length(): number {
    return this.#length;
  }

  push(value: number): void {
    if (this.#length === this.#values.length) {
      const grown = this.#make(2 * this.#length);
      grown.set(this.#values);
      this.#values = grown;
    }
    this.#values[this.#length] = value;
    this.#length += 1;
  }

  at(index: number): number {
    const value = index < this.#length ? this.#values[index] : undefined;
    if (value === undefined) throw new RangeError(`no row ${index} of ${this.#length}`);
    return value;
  }

  put(index: number, value: number): void {
    if (index >= this.#length) throw new RangeError(`no row ${index} of ${this.#length}`);
    this.#values[index] = value;
  }
}

export function wholeNumbers(): NumberColumn<Int32Array> {
  return new NumberColumn((length) => new Int32Array(length));
}

export function realNumbers(): NumberColumn<Float64Array> {
  return new NumberColumn((length) => new Float64Array(length));
}
