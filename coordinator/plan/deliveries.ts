/**
 * Cuts an outer step into deliveries: whole subtrees of its leaves, each of which travels as one job. The cut follows
 * the workers and their pace, and no bit of the sum depends on it.
 */

import { at } from '../../shared/base/arrays.js';
import { JOB_BYTE_COUNT_MAX } from '../../shared/queue/protocol.js';
import type { JobOrder } from '../dispatch/dispatcher.js';
import { childrenOf, type LeafRange } from '../../shared/sums/sum-tree.js';

/** One job on its way: leaves to compute, or sums of other deliveries to add. */
export interface Delivery extends LeafRange {
  /** The deliveries whose sums it adds; absent where it computes its leaves. */
  readonly parts?: NonNullable<JobOrder['parts']>;
  /** Whether its sum stays in the store, for the delivery that adds it. */
  readonly keepsSums?: boolean;
}

export interface CostedLeaf {
  /** Padded rows, and those that a call is worth. */
  readonly cost: number;
  /** A bound on its bytes in a job. */
  readonly jobByteCount: number;
}

export interface WorkerShares {
  readonly workerCount: number;
  /** The time that a unit of cost takes a worker; null before the first results. */
  readonly msPerCost: number | null;
}

/** A delivery computes for about this long, so that a lost one costs little. */
const DELIVERY_MS_MAX = 1_000;
/** The time that one more delivery costs a worker: its record, its inputs and its sum. */
const DELIVERY_OVERHEAD_MS = 4;
/** A first step, whose pace is unknown, has a few deliveries for each worker. */
const FIRST_STEP_DELIVERIES_MIN = 4;
/** More deliveries for each worker even out no more. */
const DELIVERIES_PER_WORKER_MAX = 4;
/** The number of nodes of the next division to be looked at, times that of the one before. */
const TRIED_NEXT_SHARE = 1.1;
/** The fields of a job besides those of its leaves. */
const JOB_FIELDS_BYTE_COUNT = 16 * 1024;
const LEAVES_BYTE_COUNT_MAX = JOB_BYTE_COUNT_MAX - JOB_FIELDS_BYTE_COUNT;

/**
 * @returns the deliveries of all leaves, large ones first, and those of one size from left to right:
 *   sums that arrive in about this order are joined at once.
 */
export function cutIntoDeliveries(
  leaves: readonly CostedLeaf[],
  shares: WorkerShares,
): LeafRange[] {
  const tree = new CostedTree(leaves);
  const within = tree.divide([{ first: 0, end: leaves.length }], (node) => !tree.fitsInJob(node));
  const { msPerCost } = shares;
  // More workers than leaves find nothing to do.
  const workerCount = Math.min(leaves.length, Math.max(1, shares.workerCount));
  if (msPerCost === null) {
    const countMin = Math.max(FIRST_STEP_DELIVERIES_MIN, 2 * workerCount);
    return tree.inSendingOrder(tree.divideLargest(within, countMin));
  }
  const costMax = DELIVERY_MS_MAX / msPerCost;
  const short = tree.divide(within, (node) => tree.costOf(node) > costMax);
  return tree.inSendingOrder(
    tree.bestDivision(short, {
      countMax: Math.max(short.length, workerCount * DELIVERIES_PER_WORKER_MAX),
      timeMs: (nodes) =>
        tree.longestShare(nodes, workerCount) * msPerCost +
        DELIVERY_OVERHEAD_MS * Math.ceil(nodes.length / workerCount),
    }),
  );
}

/** The coordinator reads the nodes at this level of the tree: at most four. */
const READ_LEVEL = 2;
/** A worker adds the nodes at so many levels below: at most four. */
const JOINED_LEVELS = 2;

/**
 * Adds deliveries that join the sums of others on workers, behind these.
 *
 * @param deliveries as `cutIntoDeliveries` returns them: each is one node of the tree
 */
export function withJoins(deliveries: readonly LeafRange[], leafCount: number): Delivery[] {
  const keyOf = ({ first, end }: LeafRange): string => `${first}-${end}`;
  const placeByNode = new Map(deliveries.map((delivery, place) => [keyOf(delivery), place]));
  const all: Delivery[] = [...deliveries];
  /** The nodes so many levels below, or deliveries on the way there. */
  const below = (node: LeafRange, levels: number): LeafRange[] =>
    levels === 0 || placeByNode.has(keyOf(node))
      ? [node]
      : childrenOf(node).flatMap((child) => below(child, levels - 1));
  const placed = (node: LeafRange, keepsSums: boolean): number => {
    const place = placeByNode.get(keyOf(node));
    if (place !== undefined) {
      all[place] = { ...node, keepsSums };
      return place;
    }
    const parts = below(node, JOINED_LEVELS).map((part) => {
      return { ...part, jobIndex: placed(part, true) };
    });
    return all.push({ ...node, parts, keepsSums }) - 1;
  };
  for (const node of below({ first: 0, end: leafCount }, READ_LEVEL)) placed(node, false);
  return all;
}

class CostedTree {
  readonly #leaves: readonly CostedLeaf[];
  /** Running totals: entry i is over the leaves before leaf i. */
  readonly #costs: readonly number[];
  readonly #byteCounts: readonly number[];

  constructor(leaves: readonly CostedLeaf[]) {
    this.#leaves = leaves;
    this.#costs = totalsOf(leaves.map(({ cost }) => cost));
    this.#byteCounts = totalsOf(leaves.map(({ jobByteCount }) => jobByteCount));
  }

  costOf({ first, end }: LeafRange): number {
    return at(this.#costs, end) - at(this.#costs, first);
  }

  fitsInJob({ first, end }: LeafRange): boolean {
    return at(this.#byteCounts, end) - at(this.#byteCounts, first) <= LEAVES_BYTE_COUNT_MAX;
  }

  /** Divides nodes of several leaves as long as the condition holds. */
  divide(nodes: readonly LeafRange[], isTooLarge: (node: LeafRange) => boolean): LeafRange[] {
    return nodes.flatMap((node) =>
      node.end - node.first > 1 && isTooLarge(node)
        ? this.divide(childrenOf(node), isTooLarge)
        : [node],
    );
  }

  /** Yields the nodes, then with the most expensive one divided, again and again. */
  *divisions(nodes: readonly LeafRange[]): Generator<LeafRange[]> {
    for (let divided: LeafRange[] | null = this.byCost(nodes); divided !== null;) {
      yield divided;
      divided = this.#dividedOnce(divided);
    }
  }

  /** The first division into so many nodes, or the last one. */
  divideLargest(nodes: readonly LeafRange[], countMin: number): LeafRange[] {
    let last: LeafRange[] = [];
    for (last of this.divisions(nodes)) if (last.length >= countMin) break;
    return last;
  }

  /** The division that takes the least time. */
  bestDivision(
    nodes: readonly LeafRange[],
    {
      countMax,
      timeMs,
    }: { readonly countMax: number; readonly timeMs: (nodes: readonly LeafRange[]) => number },
  ): LeafRange[] {
    let best: LeafRange[] = [];
    let [leastMs, triedCount] = [Infinity, 0];
    const leafCount = nodes.reduce((sum, { first, end }) => sum + end - first, 0);
    const lastCount = Math.min(countMax, leafCount);
    for (const tried of this.divisions(nodes)) {
      const isLast = tried.length >= lastCount;
      // With many nodes, one more hardly matters, and looking at each would take as long as a step.
      if (tried.length < TRIED_NEXT_SHARE * triedCount && !isLast) continue;
      if (best.length > 0) triedCount = tried.length;
      const triedMs = timeMs(tried);
      if (triedMs < leastMs) [best, leastMs] = [tried, triedMs];
      if (isLast) break;
    }
    return best;
  }

  byCost(nodes: readonly LeafRange[]): LeafRange[] {
    return [...nodes].sort((a, b) => this.costOf(b) - this.costOf(a) || a.first - b.first);
  }

  inSendingOrder(nodes: readonly LeafRange[]): LeafRange[] {
    const levelOf = ({ first, end }: LeafRange): number =>
      Math.round(Math.log2(this.#leaves.length / (end - first)));
    return [...nodes].sort((a, b) => levelOf(a) - levelOf(b) || a.first - b.first);
  }

  /** The cost of the busiest worker if each takes the next node as soon as it is free. */
  longestShare(descending: readonly LeafRange[], workerCount: number): number {
    const shares = new Shares(workerCount);
    for (const node of descending) shares.addToLeast(this.costOf(node));
    return shares.most;
  }

  /** @returns null where the most expensive node that can be divided is none. */
  #dividedOnce(descending: readonly LeafRange[]): LeafRange[] | null {
    const place = descending.findIndex(({ first, end }) => end - first > 1);
    const largest = descending[place];
    if (largest === undefined) return null;
    const divided = descending.filter((node) => node !== largest);
    for (const child of childrenOf(largest)) {
      const cost = this.costOf(child);
      let next = place;
      while (next < divided.length && this.costOf(at(divided, next)) >= cost) next += 1;
      divided.splice(next, 0, child);
    }
    return divided;
  }
}

/** A heap of the costs of workers, the least on top. */
class Shares {
  readonly #heap: Float64Array;
  most = 0;

  constructor(workerCount: number) {
    this.#heap = new Float64Array(workerCount);
  }

  addToLeast(cost: number): void {
    const heap = this.#heap;
    const share = at(heap, 0) + cost;
    this.most = Math.max(this.most, share);
    let place = 0;
    for (;;) {
      let child = 2 * place + 1;
      if (child + 1 < heap.length && at(heap, child + 1) < at(heap, child)) child += 1;
      if (child >= heap.length || at(heap, child) >= share) break;
      heap[place] = at(heap, child);
      place = child;
    }
    heap[place] = share;
  }
}

function totalsOf(values: readonly number[]): number[] {
  const totals = [0];
  for (const value of values) totals.push(at(totals, totals.length - 1) + value);
  return totals;
}
