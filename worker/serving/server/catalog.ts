/** The adgroups that a server owns: the values of their features, their segments, and whether they take part. */

import { z } from 'zod';
import { uint32At } from '../../../shared/base/arrays.js';
import { keyHashOf } from '../../../shared/bundle/key-index.js';
import type { RankingBody } from './ranking-body.js';
import type { Refusal } from './refused-request.js';

export const ADGROUP_STATES = ['active', 'paused', 'removed'] as const;

/** A line of the log. Null keeps what the adgroup had; one that is removed has nothing. */
const CatalogLineSchema = z.strictObject({
  adgroup: z.string(),
  state: z.enum(ADGROUP_STATES),
  segment: z.string().nullable(),
  attributes: z.record(z.string(), z.unknown()).nullable(),
});
export type CatalogLine = z.infer<typeof CatalogLineSchema>;

interface CatalogEntry extends Pick<CatalogLine, 'adgroup' | 'state' | 'segment'> {
  readonly low: number;
  readonly high: number;
  readonly attributes: ReadonlyMap<string, unknown>;
  /** The length of its line in a snapshot. */
  readonly length: number;
}

/** A catalog takes no line that exceeds them. */
const LIMITS = { adgroupsMax: 2 ** 20, lengthMax: 256 * 2 ** 20 };

/** Returns whether a line of a log is one of the catalog. */
export function isCatalogLine(content: unknown): boolean {
  return typeof content === 'object' && content !== null && 'state' in content;
}

export class Catalog {
  /** By the low word of the key's hash. */
  readonly #entries = new Map<number, CatalogEntry[]>();
  readonly #limits: typeof LIMITS;
  #count = 0;
  #length = 0;

  constructor(limits = LIMITS) {
    this.#limits = limits;
  }

  /** @throws ZodError if the content is no line of a catalog. */
  apply(content: unknown): void {
    const { before, entry } = this.#merged(CatalogLineSchema.parse(content));
    const others = (this.#entries.get(entry.low) ?? []).filter((each) => each !== before);
    this.#entries.set(entry.low, [...others, entry]);
    this.#count += Number(before === null);
    this.#length += entry.length - (before?.length ?? 0);
  }

  *lines(): Iterable<string> {
    for (const entries of this.#entries.values()) yield* entries.map(lineOf);
  }

  /** What it has of an adgroup; null if it has nothing. */
  lineOf(adgroup: string): CatalogLine | null {
    const { low, high } = keyHashOf(Buffer.from(adgroup));
    const entry = this.#entryOf(low, high);
    return entry === null ? null : CatalogLineSchema.parse(JSON.parse(lineOf(entry)));
  }

  /** What does not grow always has room, so that a full catalog still pauses and removes. */
  hasRoomFor(line: CatalogLine): boolean {
    const { before, entry } = this.#merged(line);
    if (before !== null && entry.length <= before.length) return true;
    const { adgroupsMax, lengthMax } = this.#limits;
    const isCounted = before !== null || this.#count < adgroupsMax;
    return isCounted && this.#length + entry.length - (before?.length ?? 0) <= lengthMax;
  }

  /** The entry that a line makes of what the adgroup had. */
  #merged({ adgroup, state, segment, attributes }: CatalogLine): {
    readonly before: CatalogEntry | null;
    readonly entry: CatalogEntry;
  } {
    const { low, high } = keyHashOf(Buffer.from(adgroup));
    const before = this.#entryOf(low, high);
    const kept = state === 'removed' ? null : before;
    const entry = {
      ...{ adgroup, state, low, high },
      segment: state === 'removed' ? null : (segment ?? kept?.segment ?? null),
      attributes:
        state === 'removed' || attributes === null
          ? (kept?.attributes ?? new Map<string, unknown>())
          : new Map(Object.entries(attributes)),
    };
    return { before, entry: { ...entry, length: lineOf(entry).length } };
  }

  /** The keys of hashes, `[count, 2]`; empty for those that it does not have. */
  keysOf(hashes: Uint32Array): string[] {
    return this.#entriesOf(hashes).map((entry) => entry?.adgroup ?? '');
  }

  /**
   * Adds to a request what its candidates leave to the catalog: columns, and keys. Leaves out those that take no part.
   *
   * @param hashes `[candidateCount, 2]`, of the candidates' keys.
   */
  complete(
    body: RankingBody,
    hashes: Uint32Array,
    segmentColumn: string | undefined,
    drop: (candidate: number, refusal: Refusal) => void,
  ): void {
    if (this.#count === 0) return;
    const { adgroups, context, features, dropped } = body;
    const entries = this.#entriesOf(hashes);
    const isNamed = (entry: CatalogEntry | null, candidate: number): boolean =>
      entry !== null || dropped.has(candidate);
    if (adgroups.form === 'hashes' && entries.every(isNamed))
      body.keyTexts = () => entries.map((entry) => entry?.adgroup ?? '');
    const names = new Set<string>();
    for (const [candidate, entry] of entries.entries()) {
      if (entry === null) continue;
      const { state, segment, attributes } = entry;
      if (state !== 'active')
        drop(candidate, {
          ...{ reason: state, what: `the adgroup is ${state}` },
          where: `candidate ${candidate}`,
        });
      for (const name of attributes.keys()) names.add(name);
      if (segment !== null && segmentColumn !== undefined) names.add(segmentColumn);
    }
    for (const name of names) {
      const given = features.get(name);
      // A column of the context is that of all candidates, and one of another form has a value for each.
      if (Object.hasOwn(context, name) || (given !== undefined && given.form !== 'values'))
        continue;
      const values = entries.map((entry, candidate) => {
        const sent = given?.values[candidate];
        if (sent !== undefined || entry === null) return sent;
        const own = entry.attributes.get(name);
        return own === undefined && name === segmentColumn ? (entry.segment ?? undefined) : own;
      });
      features.set(name, { form: 'values', values });
    }
  }

  #entriesOf(hashes: Uint32Array): (CatalogEntry | null)[] {
    return Array.from({ length: hashes.length / 2 }, (_, place) =>
      this.#entryOf(uint32At(hashes, 2 * place), uint32At(hashes, 2 * place + 1)),
    );
  }

  #entryOf(low: number, high: number): CatalogEntry | null {
    return this.#entries.get(low)?.find((entry) => entry.high === high) ?? null;
  }
}

function lineOf({
  adgroup,
  state,
  segment,
  attributes,
}: Pick<CatalogEntry, 'adgroup' | 'state' | 'segment' | 'attributes'>): string {
  const line: CatalogLine = {
    ...{ adgroup, state, segment, attributes: Object.fromEntries(attributes) },
  };
  return JSON.stringify(line);
}
