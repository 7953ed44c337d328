/**
 * The stream of changes of pages. A page that somebody watches is made again at intervals, once for all who watch it,
 * and each of them gets the parts that differ from those that it has. Whoever is slow to take them misses no state:
 * it gets the latest parts next.
 */

import type { Clock } from '../../shared/base/clock.js';
import { digestOf, type Page } from './pages/page.js';

interface ChangedPage {
  readonly title: string;
  readonly parts: readonly ChangedPart[];
}

interface ChangedPart {
  readonly id: string;
  readonly digest: string;
  readonly html: string;
}

interface Watcher {
  /** The digests of the parts that it has, by id. */
  readonly has: Map<string, string>;
  readonly send: (changed: ChangedPage) => Promise<void>;
  isSending: boolean;
}

interface WatchedPage {
  readonly watchers: Set<Watcher>;
  readonly ended: AbortController;
}

interface PageFeedOptions {
  /** Null if there is no such page. */
  readonly pageAt: (path: string) => Promise<Page | null>;
  readonly clock: Clock;
}

const INTERVAL_MS = 1_000;
const WATCHERS_MAX = 256;
const WATCHED_PAGES_MAX = 64;

export class PageFeed {
  readonly #options: PageFeedOptions;
  readonly #pages = new Map<string, WatchedPage>();
  #watcherCount = 0;

  constructor(options: PageFeedOptions) {
    this.#options = options;
  }

  /**
   * Returns the function that ends the watch; null when too many watch already.
   *
   * @param has the digests of the parts that the watcher has, by id.
   */
  watch(
    path: string,
    has: ReadonlyMap<string, string>,
    send: (changed: ChangedPage) => Promise<void>,
  ): (() => void) | null {
    const known = this.#pages.get(path);
    if (this.#watcherCount >= WATCHERS_MAX) return null;
    if (known === undefined && this.#pages.size >= WATCHED_PAGES_MAX) return null;
    const page = known ?? { watchers: new Set(), ended: new AbortController() };
    const watcher: Watcher = { has: new Map(has), send, isSending: false };
    page.watchers.add(watcher);
    this.#watcherCount += 1;
    if (known === undefined) {
      this.#pages.set(path, page);
      void this.#keepTelling(path, page);
    }
    return () => {
      if (!page.watchers.delete(watcher)) return;
      this.#watcherCount -= 1;
      if (page.watchers.size === 0) this.#end(path, page);
    };
  }

  close(): void {
    for (const [path, page] of this.#pages) this.#end(path, page);
  }

  #end(path: string, page: WatchedPage): void {
    page.ended.abort();
    if (this.#pages.get(path) === page) this.#pages.delete(path);
  }

  async #keepTelling(path: string, { watchers, ended }: WatchedPage): Promise<void> {
    const { clock, pageAt } = this.#options;
    while (!ended.signal.aborted) {
      try {
        const page = await pageAt(path);
        if (page !== null) tell(page, watchers);
      } catch {
        // The page stays as it is, and is made again. Its first request tells what is wrong.
      }
      await clock.sleep(INTERVAL_MS, ended.signal);
    }
  }
}

function tell(page: Page, watchers: ReadonlySet<Watcher>): void {
  const parts = page.parts.map(({ id, html }) => ({ id, html, digest: digestOf(html) }));
  for (const watcher of watchers) {
    if (watcher.isSending) continue;
    const changed = parts.filter(({ id, digest }) => watcher.has.get(id) !== digest);
    if (changed.length === 0) continue;
    watcher.isSending = true;
    for (const { id, digest } of changed) watcher.has.set(id, digest);
    void watcher
      .send({ title: page.title, parts: changed })
      // A connection that fails is closed by its owner.
      .catch(() => undefined)
      .finally(() => {
        watcher.isSending = false;
      });
  }
}
