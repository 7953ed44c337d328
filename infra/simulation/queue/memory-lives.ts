/**
 * The live processes of the in-memory queue: workers by the rules of `redis-registry.ts`, and coordinators with
 * their leases by those of `redis-run-lease.ts`. Both on the clock that they are given.
 */

import type { Clock } from '../../../shared/base/clock.js';
import {
  encodeOrders,
  NO_ORDERS,
  type ControlledRun,
  type RunOrders,
} from '../../../shared/queue/run-orders.js';
import {
  RunFencedError,
  type LeaseAnswer,
  type LeaseHolder,
  type RunEnd,
} from '../../../shared/storage/lease.js';
import type { ConnectedWorker, ReleaseTerms } from '../../../shared/queue/job-queue.js';
import {
  RUN_END_KEPT_MS,
  RUN_LEASE_MS,
  WORKER_SILENCE_MS_MAX,
} from '../../../shared/queue/timing.js';

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

  /** Returns a function that brings the workers of now back. */
  remember(): () => void {
    const kept = new Map(this.#byInstance);
    return () => restore(this.#byInstance, kept);
  }

  live(): ConnectedWorker[] {
    const nowMs = this.#clock.monotonicMs();
    for (const [instance, { beatMs }] of [...this.#byInstance])
      if (nowMs - beatMs > WORKER_SILENCE_MS_MAX) this.#byInstance.delete(instance);
    return [...this.#byInstance.values()].map(({ record }) => record);
  }
}

interface StoredLease {
  readonly epoch: number;
  /** Null after its holder has released it. */
  readonly holder: LeaseHolder | null;
  readonly endMs: number;
}

export class MemoryLeases {
  readonly #clock: Clock;
  readonly #byRun = new Map<string, StoredLease>();
  readonly #ordersByRun = new Map<string, RunOrders>();
  readonly #endByRun = new Map<string, RunEnd & { readonly atMs: number }>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  take(runId: string, holder: LeaseHolder, over: string | null): LeaseAnswer {
    const found = this.#byRun.get(runId);
    const other = found === undefined || found.endMs <= this.#nowMs() ? null : found.holder;
    if (found !== undefined && other?.start === holder.start)
      return { kind: 'taken', epoch: found.epoch };
    const mark = JSON.stringify(other);
    if (other !== null && mark !== over) return { kind: 'held', holder: other, mark };
    // Time makes it larger than one that was forgotten.
    const epoch = Math.max((found?.epoch ?? 0) + 1, Math.floor(this.#clock.epochMs()));
    this.#keep(runId, epoch, holder);
    return { kind: 'taken', epoch };
  }

  /** @throws RunFencedError if the lease has a later epoch. */
  renew(runId: string, epoch: number, holder: LeaseHolder): RunOrders {
    this.demand(runId, epoch);
    this.#keep(runId, epoch, holder);
    return this.#ordersOf(runId);
  }

  /** Returns a function that brings the leases of now back. */
  remember(): () => void {
    const kept = new Map(this.#byRun);
    return () => restore(this.#byRun, kept);
  }

  release(runId: string, epoch: number, terms?: ReleaseTerms): void {
    const held = this.#byRun.get(runId);
    if (held?.epoch !== epoch) return;
    if (held.holder !== null && terms?.end !== undefined) {
      const { start } = held.holder;
      this.#endByRun.set(runId, { start, ...terms.end, atMs: this.#nowMs() });
    }
    this.#keep(runId, epoch, null);
    if (terms?.keepsOrders !== true) this.#ordersByRun.delete(runId);
  }

  endOf(runId: string, start: string): RunEnd | null {
    const found = this.#endByRun.get(runId);
    if (found?.start !== start) return null;
    const { atMs, ...end } = found;
    return this.#nowMs() - atMs <= RUN_END_KEPT_MS ? end : null;
  }

  find(runId: string): ControlledRun | null {
    const found = this.#byRun.get(runId);
    if (found === undefined || found.holder === null || found.endMs <= this.#nowMs()) return null;
    return { holder: found.holder, orders: this.#ordersOf(runId) };
  }

  /** Returns whether the orders were the earlier ones, and the run has a holder. */
  replaceOrders(runId: string, earlier: RunOrders, orders: RunOrders): boolean {
    const found = this.find(runId);
    if (found === null || encodeOrders(found.orders) !== encodeOrders(earlier)) return false;
    this.#ordersByRun.set(runId, orders);
    return true;
  }

  /** Returns whether the run has no holder. */
  withdrawOrders(runId: string, change: (orders: RunOrders) => RunOrders): boolean {
    if (this.find(runId) !== null) return false;
    const orders = this.#ordersByRun.get(runId);
    if (orders !== undefined) this.#ordersByRun.set(runId, change(orders));
    return true;
  }

  #ordersOf(runId: string): RunOrders {
    return this.#ordersByRun.get(runId) ?? NO_ORDERS;
  }

  /** @throws RunFencedError if the lease has a later epoch. */
  demand(runId: string, epoch: number): void {
    if ((this.#byRun.get(runId)?.epoch ?? epoch) > epoch)
      throw new RunFencedError(`run ${runId} in memory`);
  }

  #keep(runId: string, epoch: number, holder: LeaseHolder | null): void {
    this.#byRun.set(runId, { epoch, holder, endMs: this.#nowMs() + RUN_LEASE_MS });
  }

  #nowMs(): number {
    return this.#clock.monotonicMs();
  }
}

/** Makes a map equal to another one. */
export function restore<Key, Value>(map: Map<Key, Value>, kept: ReadonlyMap<Key, Value>): void {
  map.clear();
  for (const [key, value] of kept) map.set(key, value);
}
