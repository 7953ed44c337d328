/** Collects wake-ups until they are taken together. Equal wake-ups count once. */

import type { Clock } from '../../shared/base/clock.js';

export class Mailbox {
  readonly #clock: Clock;
  #waking = new Set<string>();
  #arrived: () => void = () => undefined;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  put(item: string): void {
    this.#waking.add(item);
    this.#arrived();
  }

  /**
   * Returns the arrived items. Waits for the first one, at most `timeoutMs` or until the signal
   * aborts.
   */
  async take(timeoutMs: number, signal: AbortSignal): Promise<ReadonlySet<string>> {
    if (this.#waking.size === 0 && timeoutMs > 0 && !signal.aborted) {
      // AbortSignal.any would pile up listeners on a signal that lives as long as the run.
      const enough = new AbortController();
      const wake = (): void => enough.abort();
      this.#arrived = wake;
      signal.addEventListener('abort', wake, { once: true });
      await this.#clock.sleep(timeoutMs, enough.signal);
      signal.removeEventListener('abort', wake);
      this.#arrived = () => undefined;
    }
    const taken = this.#waking;
    this.#waking = new Set();
    return taken;
  }
}
