/** The workers of the in-memory queue, by the rules of `redis-registry.ts` and on the clock it is given. */

import type { Clock } from '../base/clock.js';
import type { ConnectedWorker } from './job-queue.js';
import { WORKER_SILENCE_MS_MAX } from './timing.js';

export class MemoryWorkers {
  readonly #clock: Clock;
  readonly #byInstance = new Map<string, { record: ConnectedWorker; beatMs: number }>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  enter(worker: Omit<ConnectedWorker, 'sinceMs' | 'jobId'>): ConnectedWorker {
    const taken = new Set(this.live().map(({ name }) => name));
    let { name } = worker;
    for (let number = 2; taken.has(name); number += 1) name = `${worker.name}-${number}`;
    const record = { ...worker, name, sinceMs: this.#clock.epochMs(), jobId: null };
    this.beat(record);
    return record;
  }

  /** Returns the number of live workers. */
  beat(record: ConnectedWorker): number {
    this.#byInstance.set(record.instance, { record, beatMs: this.#clock.monotonicMs() });
    return this.live().length;
  }

  leave(instance: string): void {
    this.#byInstance.delete(instance);
  }

  live(): ConnectedWorker[] {
    const nowMs = this.#clock.monotonicMs();
    for (const [instance, { beatMs }] of [...this.#byInstance])
      if (nowMs - beatMs > WORKER_SILENCE_MS_MAX) this.#byInstance.delete(instance);
    return [...this.#byInstance.values()].map(({ record }) => record);
  }
}
