/**
 * The bundle that requests are answered from, and its successor: a label is polled, the bundle that it
 * points at is read and self-checked beside the one in use, and takes its place in one assignment.
 * Whoever holds the earlier one keeps it until the answer is written; then its memory is given back.
 */

import type { Clock } from '../../../shared/base/clock.js';
import { QianmoError } from '../../../shared/base/errors.js';
import { BundleDigestSchema } from '../../../shared/bundle/bundle-manifest.js';
import { bundleDigestOf } from '../../../shared/bundle/bundle-store.js';
import {
  type RunEventSink,
  warningEvent,
  type RunEventOf,
} from '../../../shared/events/run-events.js';
import type { ObjectStore } from '../../../shared/storage/object-store.js';
import { ServedBundle } from './served-bundle.js';
import type { ScorerChoice } from './scorer-choice.js';

/** Makes a bundle ready to be served beside the one that is. */
export interface BundleLoader {
  /** Where the arrays of its bundles are: in the memory of this process, or in mapped files. */
  readonly arrays: 'read' | 'mapped';
  /** @throws QianmoError if it is damaged, cannot be fetched, or fails its self-check. */
  load(digest: string): Promise<ServedBundle>;
  /** Called once all bundles are retired. */
  close(): Promise<void>;
}

/** Reads bundles into the memory of this process, in the thread that answers requests. */
export function readingLoader(store: ObjectStore, choice: ScorerChoice): BundleLoader {
  return {
    arrays: 'read',
    load: (digest) => ServedBundle.read(store, digest, choice),
    close: () => Promise.resolve(),
  };
}

interface KeeperSource {
  readonly store: ObjectStore;
  /** A label, or a digest or its beginning, which is not polled. */
  readonly name: string;
  readonly loader: BundleLoader;
  readonly clock: Clock;
  readonly onEvent: RunEventSink;
  /** Makes a bundle ready, before it is served. */
  readonly prepare?: (bundle: ServedBundle) => Promise<void>;
}

/** A bundle that the label pointed at and that is not served. */
export interface RefusedBundle {
  readonly bundle: string;
  readonly reason: string;
}

/** The memory of a bundle that a keeper could not take. */
export class BundleRefusal {
  #latest: RefusedBundle | null = null;
  #isLasting = false;
  #count = 0;

  get latest(): RefusedBundle | null {
    return this.#latest;
  }

  /** Attempts that were refused. */
  get count(): number {
    return this.#count;
  }

  /** Whether the bundle would be refused again. What passes by itself is tried again at the next poll. */
  isLastingOf(digest: string): boolean {
    return this.#isLasting && digest === this.#latest?.bundle;
  }

  /** Null if it is known, with this reason: then it has been told. */
  newsOf(bundle: string, error: unknown): RefusedBundle | null {
    const before = this.#latest;
    const reason = refusalText(error);
    this.#latest = { bundle, reason };
    this.#isLasting = isLastingRefusal(error);
    this.#count += 1;
    return before?.bundle === bundle && before.reason === reason ? null : this.#latest;
  }

  forget(): void {
    this.#latest = null;
  }
}

export class BundleKeeper {
  readonly name: string;
  readonly #source: KeeperSource;
  #current: ServedBundle;
  readonly #refusal = new BundleRefusal();
  #isLabelUnread = false;
  #labelFailureCount = 0;
  #swapCount = 0;

  private constructor(source: KeeperSource, first: ServedBundle) {
    this.name = source.name;
    this.#source = source;
    this.#current = first;
  }

  /** @throws QianmoError if there is no such bundle, or it cannot be served. */
  static async open(source: KeeperSource): Promise<BundleKeeper> {
    const digest = await bundleDigestOf(source.store, source.name);
    const first = await source.loader.load(digest);
    await source.prepare?.(first);
    return new BundleKeeper(source, first);
  }

  get current(): ServedBundle {
    return this.#current;
  }

  get arrays(): BundleLoader['arrays'] {
    return this.#source.loader.arrays;
  }

  get refused(): RefusedBundle | null {
    return this.#refusal.latest;
  }

  /** Looks at a bundle that was refused: one at every poll while that may pass by itself. */
  get refusalCount(): number {
    return this.#refusal.count;
  }

  /** Looks at the label that have failed. */
  get labelFailureCount(): number {
    return this.#labelFailureCount;
  }

  get swapCount(): number {
    return this.#swapCount;
  }

  /** Gives the memory of the bundle back, when no request is answered any more. */
  async close(): Promise<void> {
    this.#current.retire();
    await this.#source.loader.close();
  }

  /** Follows the label until the signal aborts. */
  async watch(pollMs: number, signal: AbortSignal): Promise<void> {
    const { clock } = this.#source;
    if (BundleDigestSchema.safeParse(this.name).success) return;
    for (;;) {
      await clock.sleep(pollMs, signal);
      if (signal.aborted) return;
      await this.poll();
    }
  }

  /** Reads the label once, and the bundle if it is another one. */
  async poll(): Promise<void> {
    const { store, name, onEvent } = this.#source;
    let digest: string;
    try {
      digest = await bundleDigestOf(store, name);
      this.#isLabelUnread = false;
    } catch (error) {
      this.#labelFailureCount += 1;
      if (!this.#isLabelUnread) onEvent(labelUnread(name, error));
      this.#isLabelUnread = true;
      return;
    }
    if (digest === this.#current.digest) this.#refusal.forget();
    else if (!this.#refusal.isLastingOf(digest)) await this.#swapTo(digest);
  }

  async #swapTo(digest: string): Promise<void> {
    const { loader, clock, onEvent, prepare } = this.#source;
    const startMs = clock.monotonicMs();
    let next: ServedBundle | null = null;
    try {
      next = await loader.load(digest);
      await prepare?.(next);
      const earlier = this.#current;
      this.#current = next;
      earlier.retire();
      this.#refusal.forget();
      this.#swapCount += 1;
      const loadMs = clock.monotonicMs() - startMs;
      onEvent({ kind: 'bundle-served', bundle: digest, earlierBundle: earlier.digest, loadMs });
    } catch (error) {
      if (next !== this.#current) next?.retire();
      const news = this.#refusal.newsOf(digest, error);
      if (news !== null) onEvent({ kind: 'bundle-refused', role: 'stable', ...news });
    }
  }
}

function isLastingRefusal(error: unknown): boolean {
  return error instanceof QianmoError && (error.kind === 'data' || error.kind === 'usage');
}

function refusalText(error: unknown): string {
  if (!(error instanceof QianmoError))
    return error instanceof Error ? error.message : String(error);
  const { found } = error.report;
  return found === undefined ? error.message : `${error.message}: ${found}`;
}

/** The label could not be read; it is tried again. */
export function labelUnread(label: string, error: unknown): RunEventOf<'warning'> {
  const text = `the label ${label} cannot be read, and is tried again: ${refusalText(error)}`;
  return warningEvent('label-unread', text);
}
