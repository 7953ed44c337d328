/**
 * Builds graphs in which equal nodes are one node. Every operation passes the rules first, and later
 * rules see the results of earlier ones.
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
} from './graph.js';

/** An operation with one output that is about to be built. */
export interface Operation {
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

export function uniformConstant(
  builder: GraphBuilder,
  value: number,
  shape: readonly number[],
): GraphValue {
  return builder.constant(new Float32Array(sizeOf(shape)).fill(value), { shape, dtype: 'float32' });
}
