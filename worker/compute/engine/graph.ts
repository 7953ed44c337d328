/**
 * A recorded computation, which rewriting reads and writes and which is compiled to a native graph.
 * Values are immutable; a node is its operation, its inputs and its attributes, and nothing else.
 */

export type ElementType = 'float32' | 'int32' | 'bool';
export type ConstantValues = Float32Array | Int32Array | Uint8Array;

export type Attribute =
  | { readonly kind: 'type'; readonly value: ElementType }
  | { readonly kind: 'bool'; readonly value: boolean }
  | { readonly kind: 'int'; readonly value: number }
  | { readonly kind: 'ints'; readonly value: readonly number[] }
  | { readonly kind: 'float'; readonly value: number }
  | { readonly kind: 'string'; readonly value: string }
  | { readonly kind: 'shape'; readonly value: readonly number[] };

export type Attributes = Readonly<Record<string, Attribute>>;

export interface ValueType {
  readonly shape: readonly number[];
  readonly dtype: ElementType;
}

export interface GraphNode {
  /** A TensorFlow operation: `MatMul`. `Placeholder` is an input, `Const` has `constant`. */
  readonly op: string;
  readonly inputs: readonly GraphValue[];
  readonly attributes: Attributes;
  readonly outputs: readonly ValueType[];
  readonly constant: ConstantValues | null;
}

/** One output of a node. */
export interface GraphValue {
  readonly node: GraphNode;
  readonly output: number;
}

export interface Graph {
  /** Placeholders, in the order in which values are fed. */
  readonly inputs: readonly GraphNode[];
  readonly results: readonly GraphValue[];
}

export function typeOf({ node, output }: GraphValue): ValueType {
  const type = node.outputs[output];
  if (type === undefined) throw new Error(`${node.op} has no output ${output}`);
  return type;
}

export function sizeOf(shape: readonly number[]): number {
  return shape.reduce((product, extent) => product * extent, 1);
}

/** Every node that the results need, inputs first, each once, in an order fixed by the graph. */
export function nodesInOrder({ inputs, results }: Graph): GraphNode[] {
  const seen = new Set<GraphNode>(inputs);
  const ordered: GraphNode[] = [...inputs];
  const stack: { node: GraphNode; next: number }[] = [];
  const visit = (node: GraphNode): void => {
    if (seen.has(node)) return;
    seen.add(node);
    stack.push({ node, next: 0 });
  };
  for (const { node } of results) {
    visit(node);
    for (let top = stack.at(-1); top !== undefined; top = stack.at(-1)) {
      const input = top.node.inputs[top.next];
      top.next += 1;
      if (input !== undefined) visit(input.node);
      else {
        ordered.push(top.node);
        stack.pop();
      }
    }
  }
  return ordered;
}
