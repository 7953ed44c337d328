/**
 * The bundle that requests are answered from, and its successor: a label is polled, the bundle that it
 * points at is read and self-checked beside the one in use, and takes its place in one assignment.
 * Whoever took the earlier one keeps it until the answer is written; then it is garbage.
 */

import type { Clock } from '../../../shared/base/clock.js';
import { QianmoError } from '../../../shared/base/errors.js';
import { BundleDigestSchema } from '../../../shared/bundle/bundle-manifest.js';
import { bundleDigestOf } from '../../../shared/bundle/bundle-store.js';
import type { RunEventSink } from '../../../shared/events/run-events.js';
import type { ObjectStore } from '../../../shared/storage/object-store.js';
import { ServedBundle } from './served-bundle.js';
import type { ScorerChoice } from './scorer-choice.js';

interface KeeperSource {
  readonly store: ObjectStore;
  /** A label, or a digest or its beginning, which is not polled. */
  readonly name: string;
  readonly choice: ScorerChoice;
  readonly clock: Clock;
  readonly onEvent: RunEventSink;
}

/** A bundle that the label pointed at and that is not served. */
interface RefusedBundle {
  readonly bundle: string;
  readonly reason: string;
}

export class BundleKeeper {
  readonly name: string;
  readonly #source: KeeperSource;
  #current: ServedBundle;
  #refused: RefusedBundle | null = null;
  #isLabelUnread = false;
  #swapCount = 0;

  private constructor(source: KeeperSource, first: ServedBundle) {
    this.name = source.name;
    this.#source = source;
    this.#current = first;
  }

  /** @throws QianmoError if there is no such bundle, or it cannot be served. */
  static async open(source: KeeperSource): Promise<BundleKeeper> {
    const digest = await bundleDigestOf(source.store, source.name);
    return new BundleKeeper(source, await ServedBundle.read(source.store, digest, source.choice));
  }

  get current(): ServedBundle {
    return this.#current;
  }

  get refused(): RefusedBundle | null {
    return this.#refused;
  }

  get swapCount(): number {
    return this.#swapCount;
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
      if (!this.#isLabelUnread) onEvent({ kind: 'label-unread', label: name, reason: said(error) });
      this.#isLabelUnread = true;
      return;
    }
    if (digest === this.#current.digest) this.#refused = null;
    else if (digest !== this.#refused?.bundle) await this.#swapTo(digest);
  }

  async #swapTo(digest: string): Promise<void> {
    const { store, choice, clock, onEvent } = this.#source;
    const startMs = clock.monotonicMs();
    try {
      const next = await ServedBundle.read(store, digest, choice);
      const earlierBundle = this.#current.digest;
      this.#current = next;
      this.#refused = null;
      this.#swapCount += 1;
      const loadMs = clock.monotonicMs() - startMs;
      onEvent({ kind: 'bundle-served', bundle: digest, earlierBundle, loadMs });
    } catch (error) {
      const reason = said(error);
      onEvent({ kind: 'bundle-refused', bundle: digest, reason });
      // What passes by itself is read again at the next poll.
      const isLasting =
        error instanceof QianmoError && (error.kind === 'data' || error.kind === 'usage');
      this.#refused = isLasting ? { bundle: digest, reason } : null;
    }
  }
}

function said(error: unknown): string {
  if (!(error instanceof QianmoError))
    return error instanceof Error ? error.message : String(error);
  const { found } = error.report;
  return found === undefined ? error.message : `${error.message}: ${found}`;
}
