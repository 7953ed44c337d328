/**
 * Builds graphs in which equal nodes are one node. Every operation passes the rules first, and later
 * rules see the results of earlier ones. Also matches the operations that rules work on; their values are floats.
 */

import { createHash } from 'node:crypto';
import {
  sizeOf,
  type Attribute,
  type Attributes,
  type ConstantValues,
  type GraphNode,
  type GraphValue,
  type ValueType,
  typeOf,
} from '../graph.js';

/** An operation with one output that is about to be built. */
interface Operation {
  readonly op: string;
  readonly inputs: readonly GraphValue[];
  readonly attributes: Attributes;
  readonly type: ValueType;
}

/** The value to build instead, or null if the rule does not apply. */
export type Rule = (builder: GraphBuilder, operation: Operation) => GraphValue | null;

export class GraphBuilder {
  readonly #rules: readonly Rule[];
  readonly #identities = new Map<GraphNode, number>();
  readonly #interned = new Map<string, GraphNode>();
  /** The value that was built for an operation, by the operation as it was requested. */
  readonly #built = new Map<string, GraphValue>();
  readonly #users = new Map<GraphNode, GraphNode[]>();

  constructor(rules: readonly Rule[]) {
    this.#rules = rules;
  }

  build(operation: Operation): GraphValue {
    const key = this.#keyOf(operation.op, operation.inputs, operation.attributes, [operation.type]);
    const known = this.#built.get(key);
    if (known !== undefined) return known;
    const value = this.#ruled(operation) ?? this.#internedValue(key, operation);
    this.#built.set(key, value);
    return value;
  }

  /** The earlier result of `build` for this operation; null if there is none. */
  known({ op, inputs, attributes, type }: Operation): GraphValue | null {
    return this.#built.get(this.#keyOf(op, inputs, attributes, [type])) ?? null;
  }

  /** A node copied unchanged: it has several outputs, no inputs, or effects that no rule knows. */
  keep(node: GraphNode, inputs: readonly GraphValue[]): GraphNode {
    const { op, attributes, outputs, constant } = node;
    if (op === 'Placeholder') return this.#remembered(node);
    if (constant !== null) return this.constant(constant, typeOfOnly(node)).node;
    const key = this.#keyOf(op, inputs, attributes, outputs);
    return this.#internedNode(key, { op, inputs, attributes, outputs, constant });
  }

  constant(values: ConstantValues, { shape, dtype }: ValueType): GraphValue {
    const key = `Const ${dtype} [${shape.join()}] ${contentKey(values)}`;
    const outputs = [{ shape, dtype }];
    return {
      node: this.#internedNode(key, {
        op: 'Const',
        inputs: [],
        attributes: {},
        outputs,
        constant: values,
      }),
      output: 0,
    };
  }

  /** Nodes built so far that read this value; some of them may turn out to be dead. */
  usersOf({ node, output }: GraphValue): readonly GraphNode[] {
    const users = this.#users.get(node) ?? [];
    return users.filter(({ inputs }) =>
      inputs.some((input) => input.node === node && input.output === output),
    );
  }

  /** The same values in another shape, of any type. */
  reshape(x: GraphValue, shape: Shape): GraphValue {
    const { shape: from, dtype } = typeOf(x);
    if (sameShape(from, shape)) return x;
    return this.build({
      op: 'Reshape',
      inputs: [x, this.#ints(shape)],
      attributes: { T: { kind: 'type', value: dtype }, Tshape: INT },
      type: { shape, dtype },
    });
  }

  broadcastTo(x: GraphValue, shape: Shape): GraphValue {
    if (sameShape(shapeOf(x), shape)) return x;
    return this.build({
      op: 'BroadcastTo',
      inputs: [x, this.#ints(shape)],
      attributes: { ...T, Tidx: INT },
      type: float(shape),
    });
  }

  unary(op: string, x: GraphValue): GraphValue {
    return this.build({ op, inputs: [x], attributes: T, type: float(shapeOf(x)) });
  }

  negative(x: GraphValue): GraphValue {
    return this.unary('Neg', x);
  }

  /** An element-wise operation with broadcasting. */
  binary(op: string, one: GraphValue, other: GraphValue): GraphValue {
    const shape = broadcastShape(shapeOf(one), shapeOf(other));
    if (shape === null) throw new Error(`${op} of shapes that do not fit`);
    return this.build({ op, inputs: [one, other], attributes: T, type: float(shape) });
  }

  /** The sum over `axes`, which are dropped. */
  sum(x: GraphValue, axes: readonly number[]): GraphValue {
    if (axes.length === 0) return x;
    return this.build({
      op: 'Sum',
      inputs: [x, this.#ints([...axes].sort((a, b) => a - b))],
      attributes: { ...T, Tidx: INT, keep_dims: { kind: 'bool', value: false } },
      type: float(shapeOf(x).filter((_, axis) => !axes.includes(axis))),
    });
  }

  product(factors: Product): GraphValue {
    return this.build(productOperation(factors));
  }

  uniformConstant(value: number, shape: Shape): GraphValue {
    return this.constant(new Float32Array(sizeOf(shape)).fill(value), float(shape));
  }

  #ints(values: readonly number[]): GraphValue {
    return this.constant(Int32Array.from(values), { shape: [values.length], dtype: 'int32' });
  }

  #ruled(operation: Operation): GraphValue | null {
    for (const rule of this.#rules) {
      const value = rule(this, operation);
      if (value !== null) return value;
    }
    return null;
  }

  #internedValue(key: string, { op, inputs, attributes, type }: Operation): GraphValue {
    const node = { op, inputs, attributes, outputs: [type], constant: null };
    return { node: this.#internedNode(key, node), output: 0 };
  }

  #internedNode(key: string, node: GraphNode): GraphNode {
    const known = this.#interned.get(key);
    if (known !== undefined) return known;
    this.#interned.set(key, node);
    for (const input of new Set(node.inputs.map((value) => value.node))) {
      const users = this.#users.get(input) ?? [];
      users.push(node);
      this.#users.set(input, users);
    }
    return this.#remembered(node);
  }

  #remembered(node: GraphNode): GraphNode {
    if (!this.#identities.has(node)) this.#identities.set(node, this.#identities.size);
    return node;
  }

  #keyOf(
    op: string,
    inputs: readonly GraphValue[],
    attributes: Attributes,
    outputs: readonly ValueType[],
  ): string {
    const from = inputs.map(({ node, output }) => {
      const identity = this.#identities.get(node);
      if (identity === undefined) throw new Error(`${node.op} belongs to another graph`);
      return `${identity}:${output}`;
    });
    const to = outputs.map(({ shape, dtype }) => `${dtype}[${shape.join()}]`);
    return `${op}(${from.join()}) ${attributesKey(attributes)} -> ${to.join()}`;
  }
}

function typeOfOnly(node: GraphNode): ValueType {
  const [type] = node.outputs;
  if (type === undefined) throw new Error(`${node.op} has no output`);
  return type;
}

function attributesKey(attributes: Attributes): string {
  return Object.entries(attributes)
    .sort(([one], [other]) => (one < other ? -1 : 1))
    .map(([name, { kind, value }]: [string, Attribute]) => `${name}=${kind} ${String(value)}`)
    .join(';');
}

function contentKey(values: ConstantValues): string {
  const uniform = uniformValue(values);
  // The sign of zero does not show in a number's text.
  if (uniform !== null) return Object.is(uniform, -0) ? '= -0' : `= ${uniform}`;
  const bytes = Buffer.from(values.buffer, values.byteOffset, values.byteLength);
  return createHash('sha256').update(bytes).digest('base64');
}

const uniformValues = new WeakMap<ConstantValues, number | null>();

function uniformValue(values: ConstantValues): number | null {
  const known = uniformValues.get(values);
  if (known !== undefined) return known;
  const first = values[0];
  let isUniform = first !== undefined;
  for (let index = 1; isUniform && index < values.length; index += 1)
    isUniform = Object.is(values[index], first);
  const uniform = isUniform ? (first ?? null) : null;
  uniformValues.set(values, uniform);
  return uniform;
}

/** The value that all elements of a constant share, or null. */
export function uniformValueOf({ node }: GraphValue): number | null {
  return node.constant === null ? null : uniformValue(node.constant);
}

const FLOAT: Attribute = { kind: 'type', value: 'float32' };
const INT: Attribute = { kind: 'type', value: 'int32' };
const T: Attributes = { T: FLOAT };

type Shape = readonly number[];

export function shapeOf(value: GraphValue): Shape {
  return typeOf(value).shape;
}

export function sameShape(one: Shape, other: Shape): boolean {
  return one.length === other.length && one.every((extent, axis) => extent === other[axis]);
}

/** The shape that two operands broadcast to; null if they do not fit. */
export function broadcastShape(one: Shape, other: Shape): Shape | null {
  const rank = Math.max(one.length, other.length);
  const shape: number[] = [];
  for (let axis = 0; axis < rank; axis += 1) {
    const a = one[axis - rank + one.length] ?? 1;
    const b = other[axis - rank + other.length] ?? 1;
    if (a !== b && a !== 1 && b !== 1) return null;
    shape.push(a === 1 ? b : a);
  }
  return shape;
}

function float(shape: Shape): ValueType {
  return { shape, dtype: 'float32' };
}

/** A product of matrices `[.., m, k]` and `[.., k, n]`; either may be given transposed. */
export interface Product {
  readonly left: GraphValue;
  readonly right: GraphValue;
  readonly leftTransposed: boolean;
  readonly rightTransposed: boolean;
}

export function productOperation({
  left,
  right,
  leftTransposed,
  rightTransposed,
}: Product): Operation {
  const a = shapeOf(left);
  const b = shapeOf(right);
  const rows = a.at(leftTransposed ? -1 : -2) ?? 0;
  const columns = b.at(rightTransposed ? -2 : -1) ?? 0;
  const transposed = (value: boolean): Attribute => ({ kind: 'bool', value });
  if (a.length === 2 && b.length === 2)
    return {
      op: 'MatMul',
      inputs: [left, right],
      attributes: {
        ...T,
        transpose_a: transposed(leftTransposed),
        transpose_b: transposed(rightTransposed),
      },
      type: float([rows, columns]),
    };
  const batch = broadcastShape(a.slice(0, -2), b.slice(0, -2));
  if (batch === null) throw new Error('a product of batches that do not fit');
  return {
    op: 'BatchMatMulV2',
    inputs: [left, right],
    attributes: { ...T, adj_x: transposed(leftTransposed), adj_y: transposed(rightTransposed) },
    type: float([...batch, rows, columns]),
  };
}

/** The factors of a product; null for any other node. */
export function productOf(operation: {
  readonly op: string;
  readonly inputs: readonly GraphValue[];
  readonly attributes: Attributes;
}): Product | null {
  const { op, inputs, attributes } = operation;
  const [left, right] = inputs;
  if (left === undefined || right === undefined) return null;
  const flag = (name: string): boolean => attributes[name]?.value === true;
  if (op === 'MatMul')
    return {
      left,
      right,
      leftTransposed: flag('transpose_a'),
      rightTransposed: flag('transpose_b'),
    };
  if (op === 'BatchMatMulV2')
    return { left, right, leftTransposed: flag('adj_x'), rightTransposed: flag('adj_y') };
  return null;
}

/** The operands of a node of that name; null for any other. */
export function operandsOf(
  { node }: GraphValue,
  op: string,
): readonly [GraphValue, GraphValue] | null {
  const [one, other] = node.inputs;
  return node.op === op && one !== undefined && other !== undefined ? [one, other] : null;
}

export function operandOf({ node }: GraphValue, op: string): GraphValue | null {
  return node.op === op ? (node.inputs[0] ?? null) : null;
}

export function isSameValue(one: GraphValue, other: GraphValue): boolean {
  return one.node === other.node && one.output === other.output;
}

/** The axes of a `Sum` or `Tile` whose second operand is a constant. */
export function constantIntsOf(value: GraphValue | undefined): readonly number[] | null {
  const values = value?.node.constant;
  return values instanceof Int32Array ? [...values] : null;
}
