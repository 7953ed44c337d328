/**
 * Virtual time. It stands still while any code can run, then moves to the next sleeper, so hours pass in
 * milliseconds and a simulation is the same every time. Sleepers of one time wake in the order in which they
 * fell asleep.
 */

interface Sleeper {
  readonly wakeMs: number;
  readonly order: number;
  readonly wake: () => void;
  isAwake: boolean;
}

export class VirtualTime {
  #nowMs = 0;
  #order = 0;
  /** A binary heap: the next to wake is first. */
  readonly #sleepers: Sleeper[] = [];

  get nowMs(): number {
    return this.#nowMs;
  }

  /** Resolves after the duration, or when the signal aborts. */
  sleep(durationMs: number, signal?: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      if (signal?.aborted === true) return resolve();
      const wake = (): void => {
        sleeper.isAwake = true;
        signal?.removeEventListener('abort', wake);
        resolve();
      };
      const sleeper = this.#asleep(durationMs, wake);
      signal?.addEventListener('abort', wake, { once: true });
    });
  }

  /** Calls the action at the time; at once if it has passed. */
  at(atMs: number, action: () => void): void {
    this.#asleep(atMs - this.#nowMs, action);
  }

  /**
   * Runs the work and moves time until it ends.
   *
   * @param afterEach called whenever nothing more can happen without time passing; it may throw.
   * @throws Error when the work waits for something that no sleeper can provide.
   */
  async run<Outcome>(work: () => Promise<Outcome>, afterEach: () => void): Promise<Outcome> {
    const over = new AbortController();
    const outcome = work().finally(() => over.abort());
    outcome.catch(() => undefined);
    for (;;) {
      // Resolves when everything that can run without time passing has run.
      await new Promise((resolve) => void setImmediate(resolve));
      afterEach();
      if (over.signal.aborted) return outcome;
      this.#wakeNext();
    }
  }

  #asleep(durationMs: number, wake: () => void): Sleeper {
    this.#order += 1;
    const wakeMs = this.#nowMs + Math.max(0, durationMs);
    const sleeper = { wakeMs, order: this.#order, wake, isAwake: false };
    this.#sleepers.push(sleeper);
    this.#rise(this.#sleepers.length - 1);
    return sleeper;
  }

  #wakeNext(): void {
    for (;;) {
      const next = this.#taken();
      if (next === null)
        throw new Error('no sleeper is left, and the work of the simulation has not ended');
      if (next.isAwake) continue;
      this.#nowMs = Math.max(this.#nowMs, next.wakeMs);
      next.wake();
      return;
    }
  }

  #taken(): Sleeper | null {
    const [first] = this.#sleepers;
    const last = this.#sleepers.pop();
    if (first === undefined || last === undefined) return null;
    if (this.#sleepers.length > 0) {
      this.#sleepers[0] = last;
      this.#sink(0);
    }
    return first;
  }

  #rise(from: number): void {
    for (let place = from; place > 0;) {
      const parent = (place - 1) >> 1;
      if (!this.#isBefore(place, parent)) return;
      this.#swap(place, parent);
      place = parent;
    }
  }

  #sink(from: number): void {
    for (let place = from; ;) {
      let first = place;
      for (const child of [2 * place + 1, 2 * place + 2])
        if (child < this.#sleepers.length && this.#isBefore(child, first)) first = child;
      if (first === place) return;
      this.#swap(place, first);
      place = first;
    }
  }

  #isBefore(one: number, other: number): boolean {
    const [first, second] = [this.#sleepers[one], this.#sleepers[other]];
    if (first === undefined || second === undefined) return false;
    return (
      first.wakeMs < second.wakeMs || (first.wakeMs === second.wakeMs && first.order < second.order)
    );
  }

  #swap(one: number, other: number): void {
    const [first, second] = [this.#sleepers[one], this.#sleepers[other]];
    if (first === undefined || second === undefined) return;
    this.#sleepers[one] = second;
    this.#sleepers[other] = first;
  }
}
