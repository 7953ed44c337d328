/** The labelled rows of adgroups that adapt while serving, as whoever adapts them sees them. */

import { z } from 'zod';
import { QianmoError } from '../../../shared/base/errors.js';

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
/** Raw rows, which every bundle encodes anew. */
export type LiveRows = z.infer<typeof LiveRowsSchema>;

/** The rows of an adgroup as a line of the log. */
export interface StoredRows {
  readonly key: string;
  /** Whether the adgroup has no rows from then on. */
  readonly isEmpty: boolean;
  readonly text: string;
}

/** `full`: there is no room for the rows, and they are not stored. */
export type PutOutcome = 'stored' | 'full';

/** What rows became under one bundle, before they were stored. */
export interface AdaptedRows {
  /** Its digest. */
  readonly bundle: string;
  /** The output of their adapt job. */
  readonly output: Uint8Array;
}

/** Serves rows that are stored. It rejects if a bundle could not adapt them now. */
type ServeStored = (rows: LiveRows, adapted: AdaptedRows | null) => Promise<void>;

export interface LiveRowsStore {
  /** Calls the listener with all rows that are stored from now on, in one order in all processes. */
  follow(listener: ServeStored): void;
  /** Adgroups that have rows. */
  keys(): Promise<readonly string[]>;
  /** Null if the adgroup has none any more. */
  rowsOf(key: string): Promise<LiveRows | null>;
  /**
   * Resolves when the rows are on disk and the listeners of all processes have served them.
   *
   * @param adapted null for rows that remove what the adgroup had.
   * @throws QianmoError if that is not known.
   */
  put(rows: LiveRows, adapted: AdaptedRows | null): Promise<PutOutcome>;
}

export function storedRowsOf(rows: LiveRows): StoredRows {
  return { key: rows.key, isEmpty: rows.rows.length === 0, text: JSON.stringify(rows) };
}

/** @throws QianmoError `data` if the text is not what a server writes. */
export function parsedRows(text: string, where: string): LiveRows {
  try {
    return LiveRowsSchema.parse(JSON.parse(text));
  } catch (cause) {
    throw new QianmoError({
      kind: 'data',
      what: 'the log of live rows is damaged',
      where,
      expected: 'the rows of an adgroup, as a ranking server writes them',
      cure: 'restore the file from a copy, or move it away to serve the blocks of the bundle',
      cause,
    });
  }
}
