/** The labelled rows of adgroups that adapt while serving, as the state of a shared log: the last rows of each adgroup. */

import { z } from 'zod';
import type { LogState } from '../state/shared-log.js';

const LiveRowsSchema = z.strictObject({
  /** The key of the adgroup. */
  key: z.string(),
  /** Null where the bundle says. */
  segment: z.string().nullable(),
  /** None removes what the adgroup had. */
  rows: z.array(
    z.strictObject({
      features: z.record(z.string(), z.unknown()),
      label: z.number(),
      impressions: z.number(),
    }),
  ),
});
/** Raw rows, which every bundle encodes again. */
export type LiveRows = z.infer<typeof LiveRowsSchema>;

/** Adgroups with rows; a bundle has room for as many live blocks. */
const LIVE_ADGROUPS_MAX = 65_536;
/** Rows of all adgroups, as text. */
const LIVE_ROWS_BYTE_COUNT_MAX = 256 * 2 ** 20;

export class LiveRowsState implements LogState<void> {
  /** A line by key: text takes less memory than rows. */
  readonly #texts = new Map<string, string>();
  #byteCount = 0;
  /** Called with rows that are stored, in the order of the log. */
  onRows: (rows: LiveRows, text: string) => void = () => undefined;

  apply(text: string): void {
    const rows = rowsIn(text);
    this.#byteCount -= this.#texts.get(rows.key)?.length ?? 0;
    this.#texts.delete(rows.key);
    if (rows.rows.length > 0) {
      this.#texts.set(rows.key, text);
      this.#byteCount += text.length;
    }
    this.onRows(rows, text);
  }

  snapshot(): Iterable<string> {
    return this.#texts.values();
  }

  /** Adgroups that have rows. */
  keys(): readonly string[] {
    return [...this.#texts.keys()];
  }

  /** Null if the adgroup has none. */
  rowsOf(key: string): LiveRows | null {
    const text = this.#texts.get(key);
    return text === undefined ? null : rowsIn(text);
  }

  hasRoomFor(key: string, text: string): boolean {
    const before = this.#texts.get(key)?.length ?? 0;
    const isFull = before === 0 && this.#texts.size >= LIVE_ADGROUPS_MAX;
    return !isFull && this.#byteCount + text.length - before <= LIVE_ROWS_BYTE_COUNT_MAX;
  }
}

function rowsIn(text: string): LiveRows {
  return LiveRowsSchema.parse(JSON.parse(text));
}
