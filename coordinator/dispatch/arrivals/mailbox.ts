/** Collects wake-ups until they are taken together. Equal wake-ups count once: the latest. */

import type { Clock } from '../../../shared/base/clock.js';

export class Mailbox<News> {
  readonly #clock: Clock;
  #waking = new Map<string, News>();
  #arrived: () => void = () => undefined;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  put(item: string, news: News): void {
    this.#waking.set(item, news);
    this.#arrived();
  }

  /**
   * Returns the arrived items. Waits for the first one, at most `timeoutMs` or until the signal
   * aborts.
   */
  async take(timeoutMs: number, signal: AbortSignal): Promise<ReadonlyMap<string, News>> {
    if (this.#waking.size === 0 && timeoutMs > 0 && !signal.aborted) {
      // AbortSignal.any would pile up listeners on a signal that lives as long as the run.
      const enough = new AbortController();
      // A reason of its own spares the exception that the platform would make.
      const wake = (): void => enough.abort('woken');
      this.#arrived = wake;
      signal.addEventListener('abort', wake, { once: true });
      await this.#clock.sleep(timeoutMs, enough.signal);
      signal.removeEventListener('abort', wake);
      this.#arrived = () => undefined;
    }
    const taken = this.#waking;
    this.#waking = new Map();
    return taken;
  }
}
