/** A value that is made again when it has been kept for long enough, once for all who ask meanwhile. */

import type { Clock } from '../../../shared/base/clock.js';

export class Shared<Value> {
  readonly #clock: Clock;
  readonly #keptForMs: (value: Value) => number;
  readonly #make: () => Promise<Value>;
  #made: { readonly value: Promise<Value>; readonly untilMs: number } | null = null;

  /** @param keptForMs the same for every value, or by what it costs to make again */
  constructor(
    clock: Clock,
    keptForMs: number | ((value: Value) => number),
    make: () => Promise<Value>,
  ) {
    this.#clock = clock;
    this.#keptForMs = typeof keptForMs === 'number' ? () => keptForMs : keptForMs;
    this.#make = make;
  }

  async value(): Promise<Value> {
    const known = this.#made;
    if (known !== null && this.#clock.monotonicMs() < known.untilMs) return known.value;
    const value = this.#make();
    this.#made = { value, untilMs: Infinity };
    try {
      const keptForMs = this.#keptForMs(await value);
      this.#made = { value, untilMs: this.#clock.monotonicMs() + keptForMs };
    } catch (error) {
      this.#made = null;
      throw error;
    }
    return value;
  }
}
