/**
 * Simulates one synchronous outer step on W workers, event by event. There are three kinds of servers,
 * each of which serves in the order of arrival: the coordinator (one), the queue server (one) and the
 * workers (W). J jobs or parts of jobs are sent, whose job has r rows and which have q of these, and p padded
 * rows:
 *
 *   coordinator  sends a job in coordinatorMs(r) / 2 and takes a result in as long
 *   server       carries the inputs of a job in inputBytes(r) / serverBytesPerMs, to it once for all parts of
 *                a job and from it for each; before them the dense inputs once for each worker and step; and
 *                the output behind them, twice as much of it where a part sums micro-batches in 64 bits
 *   worker       takes the oldest job that has been sent, waits for its inputs, is idle for idleMs(q),
 *                computes for computeMs(p) times a drawn spread, and takes the next
 *   step         ends serialMs after the last result was taken
 *
 * So without other costs than computing, a step of equal jobs takes `ceil(J / W) * computeMs(p) + serialMs`.
 */

import { at } from '../../shared/base/arrays.js';
import type { RandomStream } from '../../shared/base/random.js';
import { outputByteCountOf, type SimulatedOrder } from './simulated-orders.js';
import { costAt, type StepCosts } from './step-costs.js';

export interface SimulatedStep {
  readonly stepMs: number;
  /** The share of the step in which each was busy; the mean of all workers. */
  readonly busy: {
    readonly workers: number;
    readonly coordinator: number;
    readonly server: number;
    /** The share that nothing but the coordinator's serial part takes. */
    readonly serial: number;
  };
  /** The longest time in which a worker computes one order. */
  readonly longestMs: number;
}

/**
 * @param orders as they are sent
 * @param stream draws the spread of computing times
 */
export function simulateStep(
  costs: StepCosts,
  orders: readonly SimulatedOrder[],
  workerCount: number,
  stream: RandomStream,
): SimulatedStep {
  const events = new EventQueue();
  const coordinator = new Server();
  const server = new Server();
  const bytesMs = (byteCount: number): number => byteCount / costs.serverBytesPerMs;
  const waitingWorkers = Array.from({ length: Math.min(workerCount, orders.length) }, () => ({
    hasDense: false,
  }));
  const sentOrders: SimulatedOrder[] = [];
  let takenCount = 0;
  let [computedMs, longestMs] = [0, 0];
  let endMs = 0;

  const match = (nowMs: number): void => {
    while (takenCount < sentOrders.length && waitingWorkers.length > 0) {
      const { rowCount, ownRowCount, paddedRowCount, hasExactSums } = at(sentOrders, takenCount);
      takenCount += 1;
      const worker = waitingWorkers.shift();
      if (worker === undefined) return;
      const denseByteCount = worker.hasDense ? 0 : costs.denseByteCount;
      worker.hasDense = true;
      const inputsMs = bytesMs(denseByteCount + costAt(costs.inputByteCount, rowCount));
      const spread = at(costs.computeSpread, stream.below(costs.computeSpread.length));
      const computeMs = costAt(costs.computeMs, paddedRowCount) * spread;
      computedMs += computeMs;
      longestMs = Math.max(longestMs, computeMs);
      const outputByteCount = outputByteCountOf({ rowCount, hasExactSums }, costs);
      const beginMs = server.serve(nowMs, inputsMs) + costAt(costs.idleMs, ownRowCount);
      events.add(beginMs + computeMs, (computed) => {
        const putMs = server.serve(computed, bytesMs(outputByteCount));
        events.add(putMs, (put) => {
          endMs = coordinator.serve(put, costAt(costs.coordinatorMs, rowCount) / 2);
        });
        waitingWorkers.push(worker);
        match(computed);
      });
    }
  };
  const send = (place: number, nowMs: number): void => {
    const order = orders[place];
    if (order === undefined) return;
    const sentMs = coordinator.serve(nowMs, costAt(costs.coordinatorMs, order.rowCount) / 2);
    events.add(sentMs, (sent) => {
      const byteCount = order.bringsInputs ? costAt(costs.inputByteCount, order.rowCount) : 0;
      const arrivedMs = server.serve(sent, bytesMs(byteCount));
      events.add(arrivedMs, (arrived) => {
        sentOrders.push(order);
        match(arrived);
      });
      send(place + 1, sent);
    });
  };
  const denseMs = server.serve(0, bytesMs(costs.denseByteCount));
  send(0, denseMs);
  events.run();

  const stepMs = endMs + costs.serialMs;
  return {
    ...{ stepMs, longestMs },
    busy: {
      workers: computedMs / (workerCount * stepMs),
      coordinator: (coordinator.busyMs + costs.serialMs) / stepMs,
      server: server.busyMs / stepMs,
      serial: costs.serialMs / stepMs,
    },
  };
}

/** Serves one request at a time. */
class Server {
  busyMs = 0;
  #freeMs = 0;

  /** Returns when a request that arrives now has been served. */
  serve(nowMs: number, durationMs: number): number {
    this.busyMs += durationMs;
    this.#freeMs = Math.max(nowMs, this.#freeMs) + durationMs;
    return this.#freeMs;
  }
}

interface TimedEvent {
  readonly atMs: number;
  readonly order: number;
  readonly happen: (nowMs: number) => void;
}

/** Events in order of time, those of one time in the order in which they were added. A binary heap. */
class EventQueue {
  readonly #heap: TimedEvent[] = [];
  #addedCount = 0;

  add(atMs: number, happen: (nowMs: number) => void): void {
    const heap = this.#heap;
    heap.push({ atMs, order: this.#addedCount, happen });
    this.#addedCount += 1;
    for (let place = heap.length - 1; place > 0;) {
      const parent = (place - 1) >> 1;
      if (isBefore(at(heap, parent), at(heap, place))) break;
      this.#swap(parent, place);
      place = parent;
    }
  }

  run(): void {
    for (let event = this.#take(); event !== null; event = this.#take()) event.happen(event.atMs);
  }

  #take(): TimedEvent | null {
    const heap = this.#heap;
    if (heap.length === 0) return null;
    this.#swap(0, heap.length - 1);
    const first = heap.pop() ?? null;
    for (let place = 0; ;) {
      let least = place;
      for (const child of [2 * place + 1, 2 * place + 2])
        if (child < heap.length && isBefore(at(heap, child), at(heap, least))) least = child;
      if (least === place) return first;
      this.#swap(least, place);
      place = least;
    }
  }

  #swap(one: number, other: number): void {
    const kept = at(this.#heap, one);
    this.#heap[one] = at(this.#heap, other);
    this.#heap[other] = kept;
  }
}

function isBefore(one: TimedEvent, other: TimedEvent): boolean {
  return one.atMs < other.atMs || (one.atMs === other.atMs && one.order < other.order);
}
