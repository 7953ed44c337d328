/**
 * The bundle that answers a share of the requests beside the one in use. It follows a label of its own; whatever is
 * wrong with it, the one in use answers all requests.
 */

import type { Clock } from '../../../shared/base/clock.js';
import { QianmoError } from '../../../shared/base/errors.js';
import { bundleDigestOf } from '../../../shared/bundle/bundle-store.js';
import { type RunEventSink, noticeEvent } from '../../../shared/events/run-events.js';
import type { ObjectStore } from '../../../shared/storage/object-store.js';
import {
  BundleRefusal,
  labelUnread,
  type BundleLoader,
  type RefusedBundle,
} from './bundle-keeper.js';
import type { ServedBundle } from './served-bundle.js';
import { secondsText, shortDigest } from '../../../shared/events/event-parts.js';

interface CanarySource {
  readonly store: ObjectStore;
  /** A label, or a digest or its beginning. */
  readonly name: string;
  /** Of requests, from 0 to 1. */
  readonly share: number;
  /** That of the bundle in use, which closes it. */
  readonly loader: BundleLoader;
  readonly clock: Clock;
  readonly onEvent: RunEventSink;
  /** The digest of the bundle in use. */
  readonly stable: () => string;
  /** Makes a bundle ready, before it is served. */
  readonly prepare?: ((bundle: ServedBundle) => Promise<void>) | undefined;
}

export class CanaryKeeper {
  readonly name: string;
  readonly share: number;
  readonly #source: CanarySource;
  #current: ServedBundle | null = null;
  readonly #refusal = new BundleRefusal();
  #isLabelUnread = false;
  #labelFailureCount = 0;

  private constructor(source: CanarySource) {
    this.name = source.name;
    this.share = source.share;
    this.#source = source;
  }

  /** A canary that cannot be served is told of, and looked for again at every poll. */
  static async open(source: CanarySource): Promise<CanaryKeeper> {
    const keeper = new CanaryKeeper(source);
    await keeper.poll();
    return keeper;
  }

  /** Null while there is none: the label is not there, points at the bundle in use, or at a refused one. */
  get current(): ServedBundle | null {
    const { stable } = this.#source;
    return this.#current?.digest === stable() ? null : this.#current;
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

  /** Gives the memory of the bundle back. To be called before the loader is closed. */
  close(): void {
    this.#current?.retire();
    this.#current = null;
  }

  /** Follows the label until the signal aborts. */
  async watch(pollMs: number, signal: AbortSignal): Promise<void> {
    const { clock } = this.#source;
    for (;;) {
      await clock.sleep(pollMs, signal);
      if (signal.aborted) return;
      await this.poll();
    }
  }

  /** Reads the label once, and the bundle if it is another one. */
  async poll(): Promise<void> {
    const { stable } = this.#source;
    const digest = await this.#named();
    if (digest === undefined) return;
    if (digest === null || digest === stable()) {
      this.#refusal.forget();
      this.#end();
    } else if (digest === this.#current?.digest) this.#refusal.forget();
    else if (!this.#refusal.isLastingOf(digest)) await this.#take(digest);
  }

  /** Null if the label is not there; undefined if it cannot be read. */
  async #named(): Promise<string | null | undefined> {
    const { store, name, onEvent } = this.#source;
    try {
      const digest = await bundleDigestOf(store, name);
      this.#isLabelUnread = false;
      return digest;
    } catch (error) {
      if (error instanceof QianmoError && error.kind === 'usage') return null;
      this.#labelFailureCount += 1;
      if (!this.#isLabelUnread) onEvent(labelUnread(name, error));
      this.#isLabelUnread = true;
      return undefined;
    }
  }

  async #take(digest: string): Promise<void> {
    const { loader, clock, onEvent, prepare, share } = this.#source;
    const startMs = clock.monotonicMs();
    let next: ServedBundle | null = null;
    try {
      next = await loader.load(digest);
      await prepare?.(next);
      this.#current?.retire();
      this.#current = next;
      this.#refusal.forget();
      const loadMs = clock.monotonicMs() - startMs;
      onEvent(
        noticeEvent(
          'canary-served',
          `canary ${shortDigest(digest)} answers ${100 * share} % of requests, read in ${secondsText(loadMs)}`,
        ),
      );
    } catch (error) {
      next?.retire();
      const news = this.#refusal.newsOf(digest, error);
      if (news !== null) onEvent({ kind: 'bundle-refused', role: 'canary', ...news });
      // The label does not point at the earlier one any more.
      this.#end();
    }
  }

  #end(): void {
    const { onEvent } = this.#source;
    if (this.#current === null) return;
    onEvent(
      noticeEvent('canary-ended', `canary ${shortDigest(this.#current.digest)} answers no more`),
    );
    this.close();
  }
}
