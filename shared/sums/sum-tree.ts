/**
 * The balanced binary tree over the leaves of an outer step. The root covers all leaves. A node of several leaves has
 * two children: the first half of its leaves, rounded up, and the rest. It is the sum of its children. The tree depends
 * on the number of leaves alone, so a sum has the same bits however the leaves were cut into deliveries, and in
 * whatever order the nodes arrive.
 */

/** Consecutive leaves, from `first` up to but not including `end`. */
export interface LeafRange {
  readonly first: number;
  readonly end: number;
}

/** The children of a node of at least two leaves. */
export function childrenOf({ first, end }: LeafRange): readonly [LeafRange, LeafRange] {
  const middle = first + Math.ceil((end - first) / 2);
  return [
    { first, end: middle },
    { first: middle, end },
  ];
}

/** The largest nodes that together cover the range, from left to right. One delivery returns one sum for each. */
export function nodesIn(range: LeafRange, leafCount: number): LeafRange[] {
  const within = (node: LeafRange): LeafRange[] => {
    if (node.end <= range.first || range.end <= node.first) return [];
    if (range.first <= node.first && node.end <= range.end) return [node];
    return childrenOf(node).flatMap(within);
  };
  return within({ first: 0, end: leafCount });
}

/** A node that has arrived. */
interface Arrived<Sum> extends LeafRange {
  readonly sum: Sum;
}

/** Joins nodes as they arrive. It holds only nodes whose sibling is missing, at most one for each level and gap. */
export class SumTree<Sum> {
  readonly #leafCount: number;
  readonly #join: (left: Sum, right: Sum) => Sum;
  /** Nodes without their sibling, by their first leaf: no two of them overlap. */
  readonly #waiting = new Map<number, Arrived<Sum>>();

  /**
   * @param leafCount at least 1
   * @param join the sum of two siblings; it may write to both
   */
  constructor(leafCount: number, join: (left: Sum, right: Sum) => Sum) {
    this.#leafCount = leafCount;
    this.#join = join;
  }

  /** @param node one of `nodesIn`, none of whose leaves has been added before */
  add(node: LeafRange, sum: Sum): void {
    let arrived: Arrived<Sum> = { ...node, sum };
    for (const { sibling } of this.#pathTo(node)) {
      const waiting = this.#waiting.get(sibling.first);
      if (waiting?.end !== sibling.end) break;
      this.#waiting.delete(sibling.first);
      arrived =
        sibling.first < arrived.first
          ? this.#joined(waiting, arrived)
          : this.#joined(arrived, waiting);
    }
    this.#waiting.set(arrived.first, arrived);
  }

  /** The nodes without their sibling, from left to right: after leaves in a row, those of `nodesIn`. */
  heldNodes(): Arrived<Sum>[] {
    return [...this.#waiting.values()].sort((a, b) => a.first - b.first);
  }

  /**
   * The sum over all leaves.
   *
   * @throws Error while a leaf is missing
   */
  root(): Sum {
    const root = this.#waiting.get(0);
    if (root?.end !== this.#leafCount)
      throw new Error(`expected the sums of all ${this.#leafCount} leaves`);
    return root.sum;
  }

  #joined(left: Arrived<Sum>, right: Arrived<Sum>): Arrived<Sum> {
    return { first: left.first, end: right.end, sum: this.#join(left.sum, right.sum) };
  }

  /** The siblings of the node and of those above it, from below. */
  #pathTo(node: LeafRange): { readonly sibling: LeafRange }[] {
    const path: { sibling: LeafRange }[] = [];
    let above: LeafRange = { first: 0, end: this.#leafCount };
    while (above.first !== node.first || above.end !== node.end) {
      if (above.end - above.first < 2)
        throw new Error(`leaves ${node.first} to ${node.end} are no node of the tree`);
      const [left, right] = childrenOf(above);
      const isLeft = node.first < right.first;
      path.unshift({ sibling: isLeft ? right : left });
      above = isLeft ? left : right;
    }
    return path;
  }
}
