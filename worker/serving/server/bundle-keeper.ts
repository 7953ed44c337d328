/**
 * The bundle that requests are answered from and its successor, and a canary beside them. A label is polled, the bundle that it
 * points at is read and self-checked, and takes the place of the earlier one in one assignment. Requests that hold the earlier one
 * keep it until their answers are written; then its memory is given back.
 */

import { secondsText, shortDigest } from '../../../shared/names/counted.js';
import { createHash } from 'node:crypto';
import type { Clock } from '../../../shared/base/clock.js';
import { QianmoError } from '../../../shared/base/errors.js';
import { BundleDigestSchema } from '../../../shared/bundle/bundle-manifest.js';
import { bundleDigestOf, bundleNamed } from '../../../shared/bundle/bundle-store.js';
import {
  noticeEvent,
  type RunEventSink,
  warningEvent,
  type RunEventOf,
} from '../../../shared/events/run-events.js';
import type { ObjectStore } from '../../../shared/storage/object-store.js';
import type { ServedBundle } from './served-bundle.js';

/** Makes a bundle ready to be served beside the one that is. */
export interface BundleLoader {
  /** @throws QianmoError if it is damaged, cannot be fetched, or fails its self-check. */
  load(digest: string): Promise<ServedBundle>;
  /** Called once all bundles are retired. */
  close(): Promise<void>;
}

interface KeeperSource {
  readonly store: ObjectStore;
  /** A label, or a digest or its beginning, which is not polled. */
  readonly name: string;
  readonly loader: BundleLoader;
  readonly clock: Clock;
  readonly onEvent: RunEventSink;
  /** Makes a bundle ready, before it is served. */
  readonly prepare?: ((bundle: ServedBundle) => Promise<void>) | undefined;
}

/** A bundle that the label pointed at and that is not served. */
interface RefusedBundle {
  readonly bundle: string;
  readonly reason: string;
}

interface CanarySource extends KeeperSource {
  /** The fraction of requests that it answers, unless its label has one. */
  readonly share: number;
  /** The digest of the bundle in use. */
  readonly stable: () => string;
}

/** Follows a label and loads the bundles that it points at. */
abstract class LabelFollower<Source extends KeeperSource> {
  readonly name: string;
  protected readonly source: Source;
  /** The bundle that the label points at, if it could not be taken. */
  protected latestRefusal: RefusedBundle | null = null;
  /** What the label says of a canary's share, if it does. */
  protected labelShare: number | null = null;
  /** True if it would be refused again. Passing faults are tried again at the next poll. */
  #isLasting = false;
  #refusalCount = 0;
  #isLabelUnread = false;
  #labelFailureCount = 0;

  protected constructor(source: Source) {
    this.name = source.name;
    this.source = source;
  }

  get refused(): RefusedBundle | null {
    return this.latestRefusal;
  }

  /** Looks at a bundle that was refused: one at every poll while that may pass by itself. */
  get refusalCount(): number {
    return this.#refusalCount;
  }

  /** Looks at the label that have failed. */
  get labelFailureCount(): number {
    return this.#labelFailureCount;
  }

  protected wouldRefuse(digest: string): boolean {
    return this.#isLasting && digest === this.latestRefusal?.bundle;
  }

  /** Follows the label until the signal aborts. */
  async watch(pollMs: number, signal: AbortSignal): Promise<void> {
    for (;;) {
      await this.source.clock.sleep(pollMs, signal);
      if (signal.aborted) return;
      await this.poll();
    }
  }

  /** Reads the label once, and the bundle if it is another one. */
  abstract poll(): Promise<void>;

  /** The bundle that the label points at; null if `isGone` says that there is no label, undefined if it cannot be read. */
  protected async digest(isGone: (error: unknown) => boolean): Promise<string | null | undefined> {
    const { store, name, onEvent } = this.source;
    try {
      const { bundle, share = null } = await bundleNamed(store, name);
      this.#isLabelUnread = false;
      this.labelShare = share;
      return bundle;
    } catch (error) {
      if (isGone(error)) return null;
      this.#labelFailureCount += 1;
      if (!this.#isLabelUnread) onEvent(labelUnread(name, error));
      this.#isLabelUnread = true;
      return undefined;
    }
  }

  /** Makes a bundle ready and calls `serve` with it. Returns false if it is refused, which is told once. */
  protected async load(
    digest: string,
    role: 'stable' | 'canary',
    serve: (bundle: ServedBundle, loadMs: number) => void,
  ): Promise<boolean> {
    const { loader, clock, onEvent, prepare } = this.source;
    const startMs = clock.monotonicMs();
    let next: ServedBundle | null = null;
    try {
      next = await loader.load(digest);
      await prepare?.(next);
    } catch (error) {
      next?.retire();
      const before = this.latestRefusal;
      const refused = { bundle: digest, reason: refusalText(error) };
      this.latestRefusal = refused;
      this.#isLasting = isLastingRefusal(error);
      this.#refusalCount += 1;
      const isKnown = before?.bundle === digest && before.reason === refused.reason;
      if (!isKnown) onEvent({ kind: 'bundle-refused', role, ...refused });
      return false;
    }
    this.latestRefusal = null;
    serve(next, clock.monotonicMs() - startMs);
    return true;
  }
}

export class BundleKeeper extends LabelFollower<KeeperSource> {
  #current: ServedBundle;
  #swapCount = 0;

  private constructor(source: KeeperSource, first: ServedBundle) {
    super(source);
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

  get swapCount(): number {
    return this.#swapCount;
  }

  /** Gives the memory of the bundle back, when no request is answered any more. */
  async close(): Promise<void> {
    this.#current.retire();
    await this.source.loader.close();
  }

  override async watch(pollMs: number, signal: AbortSignal): Promise<void> {
    // A digest always names the same bundle.
    if (!BundleDigestSchema.safeParse(this.name).success) await super.watch(pollMs, signal);
  }

  async poll(): Promise<void> {
    const digest = await this.digest(() => false);
    if (typeof digest !== 'string') return;
    if (digest === this.#current.digest) this.latestRefusal = null;
    else if (!this.wouldRefuse(digest))
      await this.load(digest, 'stable', (next, loadMs) => {
        const earlier = this.#current;
        this.#current = next;
        earlier.retire();
        this.#swapCount += 1;
        const ofSwap = { bundle: digest, earlierBundle: earlier.digest, loadMs };
        this.source.onEvent({ kind: 'bundle-served', ...ofSwap });
      });
  }
}

/**
 * The bundle that answers a share of the requests beside the one in use. Whatever is wrong with it, the one in use answers all
 * requests.
 */
export class CanaryKeeper extends LabelFollower<CanarySource> {
  #current: ServedBundle | null = null;

  private constructor(source: CanarySource) {
    super(source);
  }

  /** A canary that cannot be served is told of, and looked for again at every poll. */
  static async open(source: CanarySource): Promise<CanaryKeeper> {
    const keeper = new CanaryKeeper(source);
    await keeper.poll();
    return keeper;
  }

  get share(): number {
    return this.labelShare ?? this.source.share;
  }

  /** Null while there is none: the label is not there, points at the bundle in use, or at a refused one. */
  get current(): ServedBundle | null {
    return this.#current?.digest === this.source.stable() ? null : this.#current;
  }

  /** Gives the memory of the bundle back. To be called before the loader is closed. */
  close(): void {
    this.#current?.retire();
    this.#current = null;
  }

  async poll(): Promise<void> {
    const isUsage = (error: unknown): boolean =>
      error instanceof QianmoError && error.kind === 'usage';
    const earlierShare = this.share;
    const digest = await this.digest(isUsage);
    if (digest === undefined) return;
    if (digest === null || digest === this.source.stable()) {
      this.latestRefusal = null;
      this.#end();
    } else if (digest === this.#current?.digest) {
      this.latestRefusal = null;
      if (this.share !== earlierShare) this.#tellShare(digest, 'as its label says');
    } else if (!this.wouldRefuse(digest)) await this.#take(digest);
  }

  #tellShare(digest: string, why: string): void {
    const text = `canary ${shortDigest(digest)} answers ${100 * this.share} % of requests, ${why}`;
    this.source.onEvent(noticeEvent('canary-served', text));
  }

  async #take(digest: string): Promise<void> {
    const isServed = await this.load(digest, 'canary', (next, loadMs) => {
      this.#current?.retire();
      this.#current = next;
      this.#tellShare(digest, `read in ${secondsText(loadMs)}`);
    });
    // The label does not point at the earlier one any more.
    if (!isServed) this.#end();
  }

  #end(): void {
    if (this.#current === null) return;
    const text = `canary ${shortDigest(this.#current.digest)} answers no more`;
    this.source.onEvent(noticeEvent('canary-ended', text));
    this.close();
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
function labelUnread(label: string, error: unknown): RunEventOf<'warning'> {
  const text = `the label ${label} cannot be read, and is tried again: ${refusalText(error)}`;
  return warningEvent('label-unread', text);
}

const WORD_COUNT = 2 ** 32;

/**
 * Returns whether a request is the canary's. A larger share keeps the requests of a smaller one, and another canary gets others.
 *
 * @param key what makes requests the same: that which they name, or the whole body.
 */
export function isOfCanary(digest: string, share: number, key: string | Uint8Array): boolean {
  if (share <= 0) return false;
  const hash = createHash('sha256').update(digest).update('\n').update(key).digest();
  return hash.readUInt32LE(0) < share * WORD_COUNT;
}
