/** Rules for matrix products: flatten shared factors, and order chains by cost. */

import { at } from '../../../../shared/base/arrays.js';
import type { GraphValue } from '../graph.js';
import {
  type GraphBuilder,
  type Rule,
  operandsOf,
  productOf,
  productOperation,
  sameShape,
  shapeOf,
  type Product,
  isSameValue,
} from './graph-builder.js';

/** A reordered product must be this much cheaper, since estimates are rough. */
const GAIN_MIN = 1.05;

/** A batch of one product is a product. */
const singleProduct: Rule = (builder, { op, inputs, attributes, type }) => {
  const factors = productOf({ op, inputs, attributes });
  if (op !== 'BatchMatMulV2' || factors === null) return null;
  const [a, b] = [shapeOf(factors.left), shapeOf(factors.right)];
  if ([...a.slice(0, -2), ...b.slice(0, -2)].some((extent) => extent !== 1)) return null;
  const flat = builder.product({
    ...factors,
    left: builder.reshape(factors.left, a.slice(-2)),
    right: builder.reshape(factors.right, b.slice(-2)),
  });
  return builder.reshape(flat, type.shape);
};

/** Multiplies the rows of all tasks with one shared matrix in one large product. */
const sharedFactor: Rule = (builder, { op, inputs, attributes, type }) => {
  const factors = productOf({ op, inputs, attributes });
  if (op !== 'BatchMatMulV2' || factors === null || factors.leftTransposed) return null;
  const shared = sharedMatrixOf(builder, factors.right);
  const shape = shapeOf(factors.left);
  const [taskCount = 0, rowCount = 0, width = 0] = shape;
  if (shared === null || shape.length !== 3 || type.shape[0] !== taskCount) return null;
  const flat = builder.product({
    left: builder.reshape(factors.left, [taskCount * rowCount, width]),
    right: shared,
    leftTransposed: false,
    rightTransposed: factors.rightTransposed,
  });
  return builder.reshape(flat, type.shape);
};

/** The `[in, out]` matrix that is the same for every task; null if tasks differ. */
function sharedMatrixOf(builder: GraphBuilder, x: GraphValue): GraphValue | null {
  const source = operandsOf(x, 'BroadcastTo')?.[0] ?? x;
  const shape = shapeOf(source);
  const leading = shape.slice(0, -2);
  if (shape.length < 2 || leading.some((extent) => extent !== 1)) return null;
  return builder.broadcastTo(builder.reshape(source, shape.slice(-2)), shapeOf(x).slice(-2));
}

/** X Y' is the transpose of an existing Y X', which a product can read directly. */
const transposedGram: Rule = (builder, { op, inputs, attributes }) => {
  const outer = productOf({ op, inputs, attributes });
  if (outer === null || outer.leftTransposed) return null;
  const inner = productOf(outer.left.node);
  if (inner === null || inner.leftTransposed || !inner.rightTransposed) return null;
  if (inner.left === inner.right) return null;
  const mirrored = productOperation({ ...inner, left: inner.right, right: inner.left });
  const known = builder.known(mirrored);
  if (known === null) return null;
  return builder.product({ ...outer, left: known, leftTransposed: true });
};

/**
 * A (B + C) as A B + A C, and A (U V) as (A U) V, if that is cheaper, given the values that exist.
 * For adapted weights theta - X' D it gives the dual form of gradient descent on a linear layer,
 * Z = A theta - (A X') D (Irie, Csordas and Schmidhuber, ICML 2022): neither the step nor the
 * adapted weights are computed.
 */
const cheaperChain: Rule = (builder, { op, inputs, attributes }) => {
  const factors = productOf({ op, inputs, attributes });
  if (op !== 'BatchMatMulV2' || factors === null || factors.leftTransposed) return null;
  if (shapeOf(factors.left).length !== 3) return null;
  const { left, right, rightTransposed } = factors;
  const chain = new Chain(builder, left, rightTransposed);
  const direct = chain.directCost(right);
  const best = chain.splitCost(right);
  return best * GAIN_MIN < direct ? chain.split(right) : null;
};

/** The product of a fixed left factor with a right factor that is itself a sum or product. */
class Chain {
  readonly #builder: GraphBuilder;
  readonly #left: GraphValue;
  readonly #rightTransposed: boolean;

  constructor(builder: GraphBuilder, left: GraphValue, rightTransposed: boolean) {
    this.#builder = builder;
    this.#left = left;
    this.#rightTransposed = rightTransposed;
  }

  /** Multiplications of the product as it is, and of the right factor if nothing else needs it. */
  directCost(right: GraphValue): number {
    if (this.#isComputed(this.#with(right))) return 0;
    return this.#ownCost(right) + this.#makingCost(right);
  }

  /** Multiplications if the right factor is expanded; infinite if it cannot be. */
  splitCost(right: GraphValue): number {
    const terms = termsOf(right);
    if (terms !== null) return terms.operands.reduce((cost, term) => cost + this.#cost(term), 0);
    const inner = productOf(right.node);
    if (inner === null || shapeOf(inner.left).length !== 3) return Infinity;
    const first = this.#firstProduct(inner);
    const [taskCount = 0, rowCount = 0] = shapeOf(this.#left);
    const middle = shapeOf(first.right).at(first.rightTransposed ? -2 : -1) ?? 0;
    const firstCost =
      this.#isComputed(first) || this.#isMirrorComputed(first)
        ? 0
        : taskCount * rowCount * middle * at(shapeOf(this.#left), 2);
    return firstCost + taskCount * rowCount * middle * this.#columnCount(right);
  }

  split(right: GraphValue): GraphValue {
    const terms = termsOf(right);
    const builder = this.#builder;
    if (terms !== null) {
      const [one, other] = terms.operands.map((term) => this.#product(term));
      if (one === undefined || other === undefined) throw new Error('a sum has two terms');
      return builder.binary(terms.op, one, other);
    }
    const inner = productOf(right.node);
    if (inner === null) throw new Error('only sums and products can be expanded');
    const first = builder.product(this.#firstProduct(inner));
    return builder.product({
      left: first,
      right: this.#rightTransposed ? inner.left : inner.right,
      leftTransposed: false,
      rightTransposed: this.#rightTransposed ? !inner.leftTransposed : inner.rightTransposed,
    });
  }

  #cost(right: GraphValue): number {
    return Math.min(this.directCost(right), this.splitCost(right));
  }

  /** Returns whether the product has a reader; one without may never be computed. */
  #isComputed(of: Product): boolean {
    const known = this.#builder.known(productOperation(of));
    return known !== null && this.#builder.usersOf(known).length > 0;
  }

  #with(right: GraphValue): Product {
    return {
      left: this.#left,
      right,
      leftTransposed: false,
      rightTransposed: this.#rightTransposed,
    };
  }

  #product(right: GraphValue): GraphValue {
    return this.#builder.product(this.#with(right));
  }

  #ownCost(right: GraphValue): number {
    const [taskCount = 0, rowCount = 0, width = 0] = shapeOf(this.#left);
    return taskCount * rowCount * width * this.#columnCount(right);
  }

  /** The cost of the right factor, unless a product reads it anyway. */
  #makingCost(right: GraphValue): number {
    const isMade = this.#builder.usersOf(right).some((user) => productOf(user) !== null);
    if (isMade) return 0;
    const terms = termsOf(right);
    if (terms !== null)
      return terms.operands.reduce((cost, term) => cost + this.#makingCost(term), 0);
    const inner = productOf(right.node);
    if (inner === null) return 0;
    const size = shapeOf(right).reduce((total, extent) => total * extent, 1);
    return size * (shapeOf(inner.left).at(inner.leftTransposed ? -2 : -1) ?? 0);
  }

  #columnCount(right: GraphValue): number {
    return shapeOf(right).at(this.#rightTransposed ? -2 : -1) ?? 0;
  }

  /** A U for A (U V); A V' for A (U V)'. */
  #firstProduct(inner: Product): Product {
    return {
      left: this.#left,
      right: this.#rightTransposed ? inner.right : inner.left,
      leftTransposed: false,
      rightTransposed: this.#rightTransposed ? !inner.rightTransposed : inner.leftTransposed,
    };
  }

  #isMirrorComputed({ left, right, rightTransposed }: Product): boolean {
    const mirrored = { left: right, right: left, leftTransposed: false, rightTransposed };
    return rightTransposed && this.#isComputed(mirrored);
  }
}

function termsOf(
  x: GraphValue,
): { readonly op: 'Add' | 'Sub'; readonly operands: readonly [GraphValue, GraphValue] } | null {
  for (const op of ['Add', 'Sub'] as const) {
    const operands = operandsOf(x, op);
    if (operands === null) continue;
    // Each term must be a whole matrix: a broadcast row would be summed another way.
    const matrix = shapeOf(x).slice(-2);
    const areMatrices = operands.every((term) => sameShape(shapeOf(term).slice(-2), matrix));
    return areMatrices ? { op, operands } : null;
  }
  return null;
}

/**
 * G x + G y is G (x + y), and x H + y H is (x + y) H. Products and sums that have other readers are
 * left alone.
 */
const commonFactor: Rule = (builder, { op, inputs: [one, other], type }) => {
  if ((op !== 'Add' && op !== 'Sub') || one === undefined || other === undefined) return null;
  const last = productOf(other.node);
  if (last === null || isRead(builder, other)) return null;
  if (isRead(builder, one)) return null;
  const whole = productOf(one.node);
  if (whole !== null) {
    const joined = joinedProduct(builder, op, whole, last);
    if (joined !== null) return joined;
  }
  for (const innerOp of ['Add', 'Sub'] as const) {
    const inner = operandsOf(one, innerOp);
    if (inner === null) continue;
    const [rest, second] = inner;
    const factors = productOf(second.node);
    if (factors === null || !sameShape(shapeOf(rest), type.shape)) continue;
    if (builder.usersOf(second).some((user) => user !== one.node)) continue;
    // a - G x - G y = a - G (x + y); a - G x + G y = a - G (x - y); and so on.
    const joined = joinedProduct(builder, op === innerOp ? 'Add' : 'Sub', factors, last);
    if (joined !== null) return builder.binary(innerOp, rest, joined);
  }
  return null;
};

function isRead(builder: GraphBuilder, x: GraphValue): boolean {
  return builder.usersOf(x).length > 0;
}

function joinedProduct(
  builder: GraphBuilder,
  op: 'Add' | 'Sub',
  one: Product,
  other: Product,
): GraphValue | null {
  if (
    one.leftTransposed !== other.leftTransposed ||
    one.rightTransposed !== other.rightTransposed ||
    !sameShape(shapeOf(one.left), shapeOf(other.left)) ||
    !sameShape(shapeOf(one.right), shapeOf(other.right))
  )
    return null;
  if (isSameValue(one.left, other.left))
    return builder.product({ ...one, right: builder.binary(op, one.right, other.right) });
  if (isSameValue(one.right, other.right))
    return builder.product({ ...one, left: builder.binary(op, one.left, other.left) });
  return null;
}

export const PRODUCT_RULES = {
  singleProduct,
  sharedFactor,
  transposedGram,
  cheaperChain,
  commonFactor,
} satisfies Record<string, Rule>;
