/** The contract of a tracker, its failures and its memory. */

import type { StampedEvent } from '../../shared/events/run-events.js';
import type { z } from 'zod';
import type { ObjectStore } from '../../shared/storage/object-store.js';

const MEMORY_BYTE_COUNT_MAX = 64 * 1024;

/** The end of a call, as its events tell it. */
export type CallEnding = 'finished' | 'failed' | 'interrupted';

export interface Tracker<Item> {
  readonly name: string;
  /** For messages: without a secret. */
  readonly address: string;
  /** The least time between two takes, so that items come together. */
  readonly intervalMs: number;
  /**
   * Takes the items, or none of them: after a failure the same ones are given again.
   *
   * @throws TrackerRefusal if they will never be taken.
   */
  take(items: readonly Item[], signal: AbortSignal): Promise<void>;
  /** Called once, after the last items. */
  end(ending: CallEnding, signal: AbortSignal): Promise<void>;
}

export type EventTracker = Tracker<StampedEvent>;

/** The tracker understood and refused: trying again would change nothing. */
export class TrackerRefusal extends Error {
  override readonly name = 'TrackerRefusal';
}

/** The run that a call works on, for trackers that name it. */
export interface TrackedRun {
  /** The name of the call on the command line, as `train`. */
  readonly call: string;
  readonly run: string;
  readonly output: string;
}

/**
 * Small facts that trackers keep in a run's output, so that a resumed run goes on with them: which run of MLflow it
 * is, and what a webhook was told. One object for each tracker; a lost one costs a second run there, or a second notice.
 */
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
      const stored = await this.#store.get(this.#key, MEMORY_BYTE_COUNT_MAX);
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
