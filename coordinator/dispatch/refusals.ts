/**
 * Remembers which workers refuse the jobs of a run, and why. Each refusal is reported once, and the
 * jobs go to other workers. When only refusing workers are connected for a while, the run is given
 * up.
 */

import type { Clock } from '../../shared/base/clock.js';
import type { RunEventSink } from '../../shared/events/run-events.js';

/** Long enough to restart a capable worker after a crash. */
export const ONLY_REFUSING_MS_MAX = 60_000;
const NAMED_COUNT_MAX = 3;

export class Refusals {
  readonly #clock: Clock;
  readonly #sink: RunEventSink;
  readonly #reasonByWorker = new Map<string, string>();
  #onlyRefusingSinceMs: number | null = null;

  constructor({ clock, sink }: { readonly clock: Clock; readonly sink: RunEventSink }) {
    this.#clock = clock;
    this.#sink = sink;
  }

  get isEmpty(): boolean {
    return this.#reasonByWorker.size === 0;
  }

  note(worker: string, reason: string): void {
    if (this.#reasonByWorker.get(worker) === reason) return;
    this.#reasonByWorker.set(worker, reason);
    this.#sink({ kind: 'worker-refused', refusingWorker: worker, reason });
  }

  /** Forgets the refusal of a worker that has done a job of this run. */
  forgive(worker: string): void {
    this.#reasonByWorker.delete(worker);
    this.#onlyRefusingSinceMs = null;
  }

  /**
   * Returns `give-up` when only refusing workers have been connected for `ONLY_REFUSING_MS_MAX`.
   * The caller asks at intervals.
   */
  judge(connected: readonly string[]): 'wait' | 'give-up' {
    // An empty list means that Redis was away or that workers are restarting.
    if (connected.length > 0) this.#forgetAllBut(connected);
    const isEveryOne =
      connected.length > 0 && connected.every((worker) => this.#reasonByWorker.has(worker));
    const nowMs = this.#clock.monotonicMs();
    const sinceMs = this.#onlyRefusingSinceMs ?? nowMs;
    this.#onlyRefusingSinceMs = isEveryOne ? sinceMs : null;
    return isEveryOne && nowMs - sinceMs >= ONLY_REFUSING_MS_MAX ? 'give-up' : 'wait';
  }

  #forgetAllBut(connected: readonly string[]): void {
    for (const worker of this.#reasonByWorker.keys())
      if (!connected.includes(worker)) this.#reasonByWorker.delete(worker);
  }

  /** Returns `worker a: no GPU; worker b: no GPU`, or null when no worker refuses. */
  describe(): string | null {
    if (this.isEmpty) return null;
    const named = [...this.#reasonByWorker]
      .slice(0, NAMED_COUNT_MAX)
      .map(([worker, reason]) => `worker ${worker}: ${reason}`);
    const restCount = this.#reasonByWorker.size - named.length;
    return [...named, ...(restCount > 0 ? [`and ${restCount} more`] : [])].join('; ');
  }
}
