/** The memory that a coordinator of a simulation holds: row packs of jobs under way. */

import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { z } from 'zod';
import type { JobOrder } from '../../coordinator/dispatch/dispatcher.js';

/** The latest outer steps may still be in use: the one under way, those that overlap it, and the last one. */
const LATEST_STEP_COUNT = 4;

/** The row packs that one coordinator has encoded, by outer step. */
export class EncodedPacks {
  readonly #packs: { readonly outerStep: number; readonly bytes: WeakRef<Uint8Array> }[] = [];

  add(outerStep: number, bytes: Uint8Array): void {
    this.#packs.push({ outerStep, bytes: new WeakRef(bytes) });
  }

  /** The number of row packs that are still in memory although their outer steps are long over. */
  lingeringCount(): number {
    collectGarbage();
    const latest = this.#packs.reduce((most, { outerStep }) => Math.max(most, outerStep), 0);
    return this.#packs.filter(
      ({ outerStep, bytes }) =>
        outerStep <= latest - LATEST_STEP_COUNT && bytes.deref() !== undefined,
    ).length;
  }
}

/** The row packs that one call of a dispatcher holds. */
export class HeldByCall {
  readonly #all: EncodedPacks;
  readonly #packs = new Set<JobOrder>();

  constructor(all: EncodedPacks) {
    this.#all = all;
  }

  get packCount(): number {
    return this.#packs.size;
  }

  watched(orders: readonly JobOrder[]): JobOrder[] {
    return orders.map((order) => this.#watchedOrder(order));
  }

  #watchedOrder(order: JobOrder): JobOrder {
    const [packs, all] = [this.#packs, this.#all];
    const watched: JobOrder = {
      ...{ job: order.job, dense: order.dense, frozen: order.frozen },
      get rowPack() {
        const { rowPack } = order;
        if (rowPack !== null && !packs.has(watched)) all.add(order.job.outerStep, rowPack);
        if (rowPack !== null) packs.add(watched);
        return rowPack;
      },
      settled: () => {
        const { rowPack } = order;
        order.settled?.();
        // One that is encoded again was let go.
        if (order.rowPack === rowPack) return;
        order.settled?.();
        packs.delete(watched);
      },
    };
    return watched;
  }
}

let collect: (() => void) | null = null;

function collectGarbage(): void {
  if (collect === null) {
    setFlagsFromString('--expose-gc');
    collect = z
      .custom<() => void>((found) => typeof found === 'function')
      .parse(runInNewContext('gc'));
  }
  collect();
}
