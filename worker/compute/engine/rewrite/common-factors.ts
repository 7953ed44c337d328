/** Turns sums of products that share a factor into one product of a sum. */

import type { GraphValue } from '../graph/graph.js';
import type { GraphBuilder, Rule } from '../graph/graph-builder.js';
import {
  binary,
  isSameValue,
  operandsOf,
  product,
  productOf,
  sameShape,
  shapeOf,
  type Product,
} from '../graph/expressions.js';

/**
 * G x + G y is G (x + y), and x H + y H is (x + y) H. Products and sums that have other readers are
 * left alone.
 */
export const commonFactor: Rule = (builder, { op, inputs: [one, other], type }) => {
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
    if (joined !== null) return binary(builder, innerOp, rest, joined);
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
    return product(builder, { ...one, right: binary(builder, op, one.right, other.right) });
  if (isSameValue(one.right, other.right))
    return product(builder, { ...one, left: binary(builder, op, one.left, other.left) });
  return null;
}
