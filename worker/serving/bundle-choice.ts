/** The choice between the bundle in use and a canary, of which a request gets one however often it is sent. */

import { createHash } from 'node:crypto';

interface HeldBundle {
  readonly digest: string;
  /** Keeps the bundle until the function that it returns is called. */
  hold(): () => void;
}

/** A canary, and what is known of one that is refused. */
export interface KeptCanary<Bundle> {
  /** Its label. */
  readonly name: string;
  /** The share of requests, from 0 to 1. */
  readonly share: number;
  /** Null while there is none. */
  readonly current: Bundle | null;
  readonly refused: { readonly bundle: string; readonly reason: string } | null;
}

/** The wishes of a request about the bundle that answers it. */
export interface BundleWish {
  /** The digest of the bundle that must answer; null lets any. */
  readonly bundle: string | null;
  /** The key by which requests are the same for the choice; null where the whole body decides. */
  readonly requestKey: string | null;
}

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

export class BundleChoice<Bundle extends HeldBundle> {
  readonly stable: Bundle;
  readonly #canary: Bundle | null;
  readonly #share: number;
  readonly #body: Uint8Array;
  readonly #releases: readonly (() => void)[];
  #chosen: Bundle;

  /** Keeps both bundles until `release` is called. */
  constructor(stable: Bundle, canary: KeptCanary<Bundle> | null, body: Uint8Array) {
    this.stable = stable;
    this.#chosen = stable;
    this.#canary = canary?.current ?? null;
    this.#share = canary?.share ?? 0;
    this.#body = body;
    this.#releases = [stable.hold(), ...(this.#canary === null ? [] : [this.#canary.hold()])];
  }

  /** The one that answers; the one in use until it was chosen. */
  get chosen(): Bundle {
    return this.#chosen;
  }

  choose({ bundle, requestKey }: BundleWish): Bundle {
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
