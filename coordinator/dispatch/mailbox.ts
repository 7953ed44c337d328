/** Wake-ups that arrive at any time and are taken together; equal ones are one. */

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

  /** What has arrived; waits for something, at most `timeoutMs` or until the signal aborts. */
  async take(timeoutMs: number, signal: AbortSignal): Promise<ReadonlySet<string>> {
    if (this.#waking.size === 0 && timeoutMs > 0 && !signal.aborted) {
      // Not AbortSignal.any: on a signal that lives as long as the run it would pile up.
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
