/** The choice between the bundle in use and a canary, of which a request gets one however often it is sent. */

import { createHash } from 'node:crypto';
import type { RankingBody } from '../ranking-body.js';
import type { ServedBundle } from '../served-bundle.js';
import type { CanaryKeeper } from './canary-keeper.js';

/** A canary, and what is known of one that is refused. */
export type KeptCanary = Pick<CanaryKeeper, 'name' | 'current' | 'refused' | 'share'>;

const WORD_COUNT = 2 ** 32;

/**
 * Whether a request is the canary's. A larger share keeps the requests of a smaller one, and another canary gets others.
 *
 * @param key what makes requests the same: that which they name, or the whole body.
 */
export function isOfCanary(digest: string, share: number, key: string | Uint8Array): boolean {
  if (share <= 0) return false;
  const hash = createHash('sha256').update(digest).update('\n').update(key).digest();
  return hash.readUInt32LE(0) < share * WORD_COUNT;
}

export class BundleChoice {
  readonly stable: ServedBundle;
  readonly #canary: ServedBundle | null;
  readonly #share: number;
  readonly #body: Uint8Array;
  readonly #releases: readonly (() => void)[];
  #chosen: ServedBundle;

  /** Keeps both bundles until `release` is called. */
  constructor(stable: ServedBundle, canary: KeptCanary | null, body: Uint8Array) {
    this.stable = stable;
    this.#chosen = stable;
    this.#canary = canary?.current ?? null;
    this.#share = canary?.share ?? 0;
    this.#body = body;
    this.#releases = [stable.hold(), ...(this.#canary === null ? [] : [this.#canary.hold()])];
  }

  /** The one that answers; the one in use until it was chosen. */
  get chosen(): ServedBundle {
    return this.#chosen;
  }

  choose({ bundle, requestKey }: Pick<RankingBody, 'bundle' | 'requestKey'>): ServedBundle {
    const canary = this.#canary;
    if (canary === null) return this.stable;
    const isNamed = bundle === canary.digest;
    const isDrawn =
      bundle === null && isOfCanary(canary.digest, this.#share, requestKey ?? this.#body);
    if (isNamed || isDrawn) this.#chosen = canary;
    return this.#chosen;
  }

  release(): void {
    for (const release of this.#releases) release();
  }
}
