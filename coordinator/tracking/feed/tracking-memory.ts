/**
 * Small facts that trackers keep in a run's output, so that a resumed run goes on with them: which run of MLflow it
 * is, and what a webhook was told. One object for each tracker; a lost one costs a second run there, or a second notice.
 */

import type { z } from 'zod';
import type { ObjectStore } from '../../../shared/storage/object-store.js';

const BYTE_COUNT_MAX = 64 * 1024;

export class TrackingMemory<Fact> {
  readonly #store: ObjectStore;
  readonly #key: string;
  readonly #schema: z.ZodType<Fact>;

  constructor(store: ObjectStore, name: string, schema: z.ZodType<Fact>) {
    this.#store = store;
    this.#key = `tracking/${name}.json`;
    this.#schema = schema;
  }

  /** Null if there is none that can be read. */
  async recall(): Promise<Fact | null> {
    try {
      const stored = await this.#store.get(this.#key, BYTE_COUNT_MAX);
      if (stored === null) return null;
      const text = Buffer.from(stored.bytes).toString('utf8');
      return this.#schema.safeParse(JSON.parse(text)).data ?? null;
    } catch {
      return null;
    }
  }

  async keep(fact: Fact): Promise<void> {
    const bytes = Buffer.from(`${JSON.stringify(fact)}\n`);
    // A tracker works without a memory as well.
    await this.#store.put(this.#key, bytes, { kind: 'always' }).catch(() => undefined);
  }
}
