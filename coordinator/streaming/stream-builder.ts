/**
 * Builds the rows of a stream from values. Each value of a slot is a feature, numbered by first occurrence.
 * A crossed slot has a feature for each combination of the values of its slots.
 */

import { float64At } from '../../shared/base/arrays.js';
import { SLOT_COUNT_MAX } from '../../shared/streaming/rule-settings.js';
import type { StreamRows } from '../../shared/streaming/stream-rows.js';

/** A slot with values of its own (`of` is null), or the cross of earlier slots, by name. */
interface SlotDefinition {
  readonly name: string;
  readonly of: readonly string[] | null;
}

const DAY_SECONDS = 86_400;
/** The separator between the parts of a feature's key. */
const SEPARATOR = '\u001f';

export class StreamBuilder {
  readonly #slots: readonly SlotDefinition[];
  readonly #numbers = new Map<string, number>();
  readonly #slotOfFeature: number[] = [];
  readonly #features: number[] = [];
  readonly #rowStarts: number[] = [0];
  readonly #clicks: number[] = [];
  readonly #seconds: number[] = [];

  constructor(slots: readonly SlotDefinition[]) {
    if (slots.length > SLOT_COUNT_MAX)
      throw new Error(`${slots.length} slots, at most ${SLOT_COUNT_MAX}`);
    this.#slots = slots;
  }

  /** Takes the values of each slot that is not a cross, by name; no value means an empty slot. */
  add(seconds: number, click: boolean, values: ReadonlyMap<string, readonly string[]>): void {
    const known = new Map<string, readonly string[]>();
    for (const [slot, { name, of }] of this.#slots.entries()) {
      const own =
        of === null
          ? (values.get(name) ?? [])
          : of.reduce<readonly string[]>(
              (heads, part) =>
                heads.flatMap((head) =>
                  (known.get(part) ?? []).map((tail) => `${head}${SEPARATOR}${tail}`),
                ),
              [''],
            );
      known.set(name, own);
      for (const value of own) this.#features.push(this.#numberOf(slot, value));
    }
    this.#rowStarts.push(this.#features.length);
    this.#clicks.push(click ? 1 : 0);
    this.#seconds.push(seconds);
  }

  /** @throws if rows are not in the order of time. */
  finish(): StreamRows {
    const [first = 0] = this.#seconds;
    const times = Float64Array.from(this.#seconds, (seconds) => (seconds - first) / DAY_SECONDS);
    for (let row = 1; row < times.length; row += 1)
      if (float64At(times, row) < float64At(times, row - 1))
        throw new Error(`row ${row} is earlier than the row before it`);
    return {
      slotCount: this.#slots.length,
      featureCount: this.#slotOfFeature.length,
      slotOfFeature: Uint8Array.from(this.#slotOfFeature),
      rowStarts: Int32Array.from(this.#rowStarts),
      features: Int32Array.from(this.#features),
      clicks: Uint8Array.from(this.#clicks),
      times,
    };
  }

  #numberOf(slot: number, value: string): number {
    const key = `${slot}${SEPARATOR}${value}`;
    const known = this.#numbers.get(key);
    if (known !== undefined) return known;
    const feature = this.#slotOfFeature.length;
    this.#numbers.set(key, feature);
    this.#slotOfFeature.push(slot);
    return feature;
  }
}
