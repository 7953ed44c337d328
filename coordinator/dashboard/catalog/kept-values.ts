/** Values by key that are made again when they have been kept for long enough, once for all who ask meanwhile. */

import type { Clock } from '../../../shared/base/clock.js';
import { LruCache } from '../../../shared/base/lru-cache.js';

interface KeptValue<Value> {
  readonly value: Promise<Value>;
  untilMs: number;
}

/** The time is constant, or depends on the cost of making the value again. */
type KeptForMs<Value> = number | ((value: Value) => number);

export class KeptValues<Value> {
  readonly #clock: Clock;
  readonly #keptForMs: KeptForMs<Value>;
  readonly #made = new LruCache<string, KeptValue<Value>>({ countMax: 64 });

  constructor(clock: Clock, keptForMs: KeptForMs<Value>) {
    this.#clock = clock;
    this.#keptForMs = keptForMs;
  }

  async value(key: string, make: () => Promise<Value>): Promise<Value> {
    const known = this.#made.get(key);
    if (known !== undefined && this.#clock.monotonicMs() < known.untilMs) return known.value;
    const kept = { value: make(), untilMs: Infinity };
    this.#made.put(key, kept);
    try {
      const value = await kept.value;
      const keptForMs =
        typeof this.#keptForMs === 'number' ? this.#keptForMs : this.#keptForMs(value);
      kept.untilMs = this.#clock.monotonicMs() + keptForMs;
      return value;
    } catch (error) {
      this.#made.delete(key);
      throw error;
    }
  }
}
