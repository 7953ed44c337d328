/** The memory that a coordinator of a simulation holds: row packs of jobs under way, and sums whose sibling is missing. */

import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { z } from 'zod';
import type { JobOrder, ReadResult } from '../../coordinator/dispatch/dispatcher.js';
import { childrenOf, type LeafRange } from '../../shared/sums/sum-tree.js';

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

/** What one call of a dispatcher holds. */
export class HeldByCall {
  readonly #all: EncodedPacks;
  readonly #packs = new Set<JobOrder>();
  /** The sums that were admitted and are views on an output, by job index. */
  readonly #sums = new Set<number>();
  readonly #admitted: LeafRange[] = [];
  #stepLeafCount = 0;

  constructor(all: EncodedPacks) {
    this.#all = all;
  }

  get packCount(): number {
    return this.#packs.size;
  }

  /** How many sums are held that have met their sibling. */
  get needlessSumCount(): number {
    const isLeafAdmitted = new Set(
      this.#admitted.flatMap(({ first, end }) =>
        Array.from({ length: end - first }, (_, place) => first + place),
      ),
    );
    const step = { first: 0, end: this.#stepLeafCount };
    return this.#sums.size - wholeNodeCount(step, isLeafAdmitted);
  }

  watched(orders: readonly JobOrder[]): JobOrder[] {
    return orders.map((order) => this.#watchedOrder(order));
  }

  watchedReader<Value extends object>(read: ReadResult<Value>): ReadResult<Value> {
    return (delivered) =>
      read({
        ...delivered,
        release: () => {
          this.#sums.delete(delivered.result.jobIndex);
          delivered.release?.();
        },
      });
  }

  admitted({ work, jobIndex }: JobOrder['job']): void {
    if (work.kind !== 'gradient') return;
    const { first, shapes, stepLeafCount } = work.leaves;
    this.#stepLeafCount = stepLeafCount;
    this.#admitted.push({ first, end: first + shapes.length });
    this.#sums.add(jobIndex);
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

/** The number of largest nodes whose leaves have all arrived. */
function wholeNodeCount(node: LeafRange, isLeafAdmitted: ReadonlySet<number>): number {
  let count = 0;
  for (let leaf = node.first; leaf < node.end; leaf += 1) count += Number(isLeafAdmitted.has(leaf));
  if (count === 0) return 0;
  if (count === node.end - node.first) return 1;
  return childrenOf(node).reduce((sum, child) => sum + wholeNodeCount(child, isLeafAdmitted), 0);
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
