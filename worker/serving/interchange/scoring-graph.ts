/**
 * A scoring model as a graph of a few operations that ONNX and TensorFlow both have. Values have a row for
 * each candidate, whose number is not known: `null` in a shape. Arrays are what the graph reads, large ones
 * in pieces, so that no copy of them is held.
 */

import { at } from '../../../shared/base/arrays.js';
import { elementCountOf } from '../../../shared/tensors/named-tensors.js';

export type ElementType = 'float32' | 'float16' | 'int8' | 'int32';

export const BYTES_PER_ELEMENT: Readonly<Record<ElementType, number>> = {
  ...{ float32: 4, float16: 2, int8: 1, int32: 4 },
};

export type Extent = number | null;

export interface GraphValue {
  readonly name: string;
  readonly type: ElementType;
  readonly shape: readonly Extent[];
}

/** An array of the model, little-endian and row-major. */
export interface GraphArray extends GraphValue {
  readonly shape: readonly number[];
  /** The bytes in order. They hold until the next piece. */
  pieces(): Iterable<Uint8Array>;
}

/** A few values, written into the graph itself. */
interface GraphConstant extends GraphValue {
  readonly shape: readonly number[];
  readonly values: Float32Array | Int32Array;
}

export type BinaryOperation = 'add' | 'sub' | 'mul' | 'div' | 'max';
export type UnaryOperation = 'relu' | 'sigmoid' | 'toFloat';

/** `isEqual` and `isAtLeast` give 1 and 0 in float32. */
type GraphOperation =
  | { readonly op: BinaryOperation | UnaryOperation | 'isEqual' | 'isAtLeast' }
  /** `[n, ...]` from `[rowCount, ...]` and ids `[n]`, or `[n, length, ...]` from ids `[n, length]`. */
  | { readonly op: 'rows' }
  /** From the last axis. */
  | { readonly op: 'slice'; readonly start: number; readonly end: number }
  /** To the rows and these extents. */
  | { readonly op: 'reshape'; readonly rest: readonly number[] }
  /** Of matrices, or of a matrix for each row. */
  | { readonly op: 'matMul' }
  /** `[n, a, b]` from `[n, a, width]` and `[n, b, width]`. */
  | { readonly op: 'matMulTransposed' }
  /** Along axis 1. */
  | { readonly op: 'concat' }
  /** Of axis 1, by a constant list of places. */
  | { readonly op: 'columns' }
  | { readonly op: 'sum'; readonly axis: number };

export interface GraphNode {
  readonly operation: GraphOperation;
  readonly inputs: readonly GraphValue[];
  readonly output: GraphValue;
}

export interface ScoringGraph {
  readonly inputs: readonly GraphValue[];
  readonly arrays: readonly GraphArray[];
  readonly constants: readonly GraphConstant[];
  /** In an order in which each follows what it reads. */
  readonly nodes: readonly GraphNode[];
  /** By the name that clients see. */
  readonly outputs: readonly { readonly name: string; readonly value: GraphValue }[];
}

/** Writes a graph node by node. Shapes are those of the operations, rows first. */
export class ScoringGraphBuilder {
  readonly #inputs: GraphValue[] = [];
  readonly #arrays: GraphArray[] = [];
  readonly #constants: GraphConstant[] = [];
  readonly #nodes: GraphNode[] = [];

  graphOf(outputs: ScoringGraph['outputs']): ScoringGraph {
    const [inputs, arrays] = [this.#inputs, this.#arrays];
    return { inputs, arrays, constants: this.#constants, nodes: this.#nodes, outputs };
  }

  input(name: string, type: ElementType, shape: readonly Extent[]): GraphValue {
    const value = { name, type, shape };
    this.#inputs.push(value);
    return value;
  }

  array(array: GraphArray): GraphValue {
    this.#arrays.push(array);
    return array;
  }

  constant(values: Float32Array | Int32Array, shape: readonly number[]): GraphValue {
    if (elementCountOf(shape) !== values.length) throw new Error('a constant of another size');
    const type = values instanceof Float32Array ? 'float32' : 'int32';
    const name = `constant_${this.#constants.length}`;
    const constant = { name, type, shape, values } as const;
    this.#constants.push(constant);
    return constant;
  }

  number(value: number): GraphValue {
    return this.constant(Float32Array.of(value), []);
  }

  binary(op: BinaryOperation, a: GraphValue, b: GraphValue): GraphValue {
    return this.#node({ op }, [a, b], { type: a.type, shape: broadcast(a.shape, b.shape) });
  }

  unary(op: UnaryOperation, value: GraphValue): GraphValue {
    return this.#node({ op }, [value], { type: 'float32', shape: value.shape });
  }

  compare(op: 'isEqual' | 'isAtLeast', a: GraphValue, b: GraphValue): GraphValue {
    return this.#node({ op }, [a, b], { type: 'float32', shape: broadcast(a.shape, b.shape) });
  }

  rows(array: GraphValue, ids: GraphValue): GraphValue {
    const shape = [...ids.shape, ...array.shape.slice(1)];
    return this.#node({ op: 'rows' }, [array, ids], { type: array.type, shape });
  }

  slice(value: GraphValue, start: number, end: number): GraphValue {
    const whole = at(value.shape, value.shape.length - 1);
    if (start === 0 && end === whole) return value;
    const shape = [...value.shape.slice(0, -1), end - start];
    return this.#node({ op: 'slice', start, end }, [value], { type: value.type, shape });
  }

  /** @param rest the extents after the rows. */
  reshape(value: GraphValue, rest: readonly number[]): GraphValue {
    if (value.shape.slice(1).join() === rest.join()) return value;
    return this.#node({ op: 'reshape', rest }, [value], {
      type: value.type,
      shape: [null, ...rest],
    });
  }

  matMul(a: GraphValue, b: GraphValue): GraphValue {
    const shape = [...a.shape.slice(0, -1), at(b.shape, b.shape.length - 1)];
    return this.#node({ op: 'matMul' }, [a, b], { type: 'float32', shape });
  }

  matMulTransposed(a: GraphValue, b: GraphValue): GraphValue {
    const shape = [...a.shape.slice(0, -1), at(b.shape, b.shape.length - 2)];
    return this.#node({ op: 'matMulTransposed' }, [a, b], { type: 'float32', shape });
  }

  /** Of `[n, width]` each. */
  concat(values: readonly GraphValue[]): GraphValue {
    const [first] = values;
    if (first !== undefined && values.length === 1) return first;
    const width = values.reduce((sum, { shape }) => sum + (at(shape, 1) ?? 0), 0);
    return this.#node({ op: 'concat' }, values, { type: 'float32', shape: [null, width] });
  }

  columns(value: GraphValue, places: readonly number[]): GraphValue {
    const list = this.constant(Int32Array.from(places), [places.length]);
    const shape = [null, places.length, ...value.shape.slice(2)];
    return this.#node({ op: 'columns' }, [value, list], { type: value.type, shape });
  }

  sum(value: GraphValue, axis: number): GraphValue {
    const shape = value.shape.filter((_, place) => place !== axis);
    return this.#node({ op: 'sum', axis }, [value], { type: 'float32', shape });
  }

  #node(
    operation: GraphOperation,
    inputs: readonly GraphValue[],
    { type, shape }: Pick<GraphValue, 'type' | 'shape'>,
  ): GraphValue {
    const output = { name: `${operation.op}_${this.#nodes.length}`, type, shape };
    this.#nodes.push({ operation, inputs, output });
    return output;
  }
}

function broadcast(a: readonly Extent[], b: readonly Extent[]): Extent[] {
  const rank = Math.max(a.length, b.length);
  const padded = (shape: readonly Extent[]): Extent[] => [
    ...Array.from({ length: rank - shape.length }, () => 1),
    ...shape,
  ];
  const right = padded(b);
  return padded(a).map((extent, axis) => {
    const other = at(right, axis);
    if (extent !== 1 && other !== 1 && extent !== other)
      throw new Error(`[${a.join(', ')}] and [${b.join(', ')}] do not go together`);
    return extent === 1 ? other : extent;
  });
}
