/** A scoring graph in TensorFlow's operations. Names of features need not be names of nodes. */

import { at } from '../../../shared/base/arrays.js';
import type {
  BinaryOperation,
  GraphArray,
  GraphNode,
  GraphValue,
  ScoringGraph,
} from './scoring-graph.js';
import {
  TENSORFLOW_TYPE,
  tensorOf,
  type Attributes,
  type TensorFlowNode,
} from './tensorflow-messages.js';

const FLOAT = { type: TENSORFLOW_TYPE.float32 };
const INT = { type: TENSORFLOW_TYPE.int32 };

const BINARY: Readonly<Record<BinaryOperation, string>> = {
  ...{ add: 'AddV2', sub: 'Sub', mul: 'Mul', div: 'RealDiv', max: 'Maximum' },
};

/** The name of an array's variable, and of its tensor in the checkpoint. */
export function nodeNameOf(arrays: readonly GraphArray[], place: number): string {
  return `array_${place}/${at(arrays, place).name.replace(/[^A-Za-z0-9_./-]/g, '_')}`;
}

export function graphNodesOf(graph: ScoringGraph): TensorFlowNode[] {
  const writer = new TensorFlowNodeWriter(graph);
  for (const node of graph.nodes) writer.add(node);
  for (const { name, value } of graph.outputs)
    writer.write('Identity', [writer.nameOf(value)], `output_${name}`, { T: typeOf(value) });
  return writer.nodes;
}

function typeOf({ type }: GraphValue): { readonly type: number } {
  return { type: TENSORFLOW_TYPE[type] };
}

class TensorFlowNodeWriter {
  readonly nodes: TensorFlowNode[] = [];
  readonly #names = new Map<GraphValue, string>();
  readonly #handles = new Map<GraphValue, string>();
  readonly #lists = new Map<string, string>();

  constructor({ inputs, arrays, constants }: ScoringGraph) {
    for (const [place, input] of inputs.entries()) {
      const name = `input_${place}`;
      this.#names.set(input, name);
      this.write('Placeholder', [], name, { dtype: typeOf(input), shape: { shape: input.shape } });
    }
    for (const [place, array] of arrays.entries()) {
      const name = nodeNameOf(arrays, place);
      this.#handles.set(array, name);
      this.write('VarHandleOp', [], name, {
        ...{ dtype: typeOf(array), shape: { shape: array.shape } },
        ...{ container: { text: '' }, shared_name: { text: name } },
      });
    }
    for (const constant of constants) {
      this.#names.set(constant, constant.name);
      const tensor = tensorOf(constant.values, constant.shape);
      this.write('Const', [], constant.name, { dtype: typeOf(constant), value: { tensor } });
    }
  }

  /** Arrays are read whole where an operation is not a gathering of rows. */
  nameOf(value: GraphValue): string {
    const known = this.#names.get(value);
    if (known !== undefined) return known;
    const handle = this.#handles.get(value);
    if (handle === undefined) throw new Error(`${value.name} is read before it is written`);
    const name = `${handle}/read`;
    this.#names.set(value, name);
    this.write('ReadVariableOp', [handle], name, { dtype: typeOf(value) });
    return name;
  }

  write(op: string, inputs: readonly string[], name: string, attributes: Attributes): void {
    this.nodes.push({ name, op, inputs, attributes });
  }

  add(node: GraphNode): void {
    const { name } = node.output;
    this.#add(node, name);
    this.#names.set(node.output, name);
  }

  #add({ operation, inputs, output }: GraphNode, name: string): void {
    const first = at(inputs, 0);
    const T = typeOf(first);
    if (operation.op === 'rows' && this.#handles.has(first)) {
      const names = [this.#handles.get(first) ?? '', this.nameOf(at(inputs, 1))];
      this.write('ResourceGather', names, name, { dtype: T, Tindices: INT });
      return;
    }
    const names = inputs.map((input) => this.nameOf(input));
    switch (operation.op) {
      case 'toFloat':
        return this.write('Cast', names, name, { SrcT: T, DstT: FLOAT });
      case 'relu':
        return this.write('Relu', names, name, { T });
      case 'sigmoid':
        return this.write('Sigmoid', names, name, { T });
      case 'isEqual':
        return this.#compare('Equal', names, name, T);
      case 'isAtLeast':
        return this.#compare('GreaterEqual', names, name, T);
      case 'rows':
      case 'columns': {
        const axis = this.#list([operation.op === 'rows' ? 0 : 1], []);
        const types = { Tparams: T, Tindices: INT, Taxis: INT };
        return this.write('GatherV2', [...names, axis], name, types);
      }
      case 'slice': {
        const rank = output.shape.length;
        const begin = Array.from({ length: rank }, (_, axis) =>
          axis === rank - 1 ? operation.start : 0,
        );
        const width = operation.end - operation.start;
        const size = begin.map((_, axis) => (axis === rank - 1 ? width : -1));
        return this.write('Slice', [...names, this.#list(begin), this.#list(size)], name, {
          T,
          Index: INT,
        });
      }
      case 'reshape':
        return this.write('Reshape', [...names, this.#list([-1, ...operation.rest])], name, {
          T,
          Tshape: INT,
        });
      case 'matMul':
      case 'matMulTransposed':
        return this.#matMul(names, name, operation.op === 'matMulTransposed', output);
      case 'concat':
        return this.write('ConcatV2', [...names, this.#list([1], [])], name, {
          ...{ N: { int: names.length }, T, Tidx: INT },
        });
      case 'sum':
        return this.write('Sum', [...names, this.#list([operation.axis])], name, { T, Tidx: INT });
      default:
        return this.write(BINARY[operation.op], names, name, { T });
    }
  }

  #matMul(names: readonly string[], name: string, isTransposed: boolean, output: GraphValue): void {
    if (output.shape.length === 2) this.write('MatMul', names, name, { T: FLOAT });
    else this.write('BatchMatMulV2', names, name, { T: FLOAT, adj_y: { flag: isTransposed } });
  }

  /** Comparisons give booleans. */
  #compare(op: string, names: readonly string[], name: string, T: { readonly type: number }): void {
    this.write(op, names, `${name}/boolean`, { T });
    const types = { SrcT: { type: TENSORFLOW_TYPE.boolean }, DstT: FLOAT };
    this.write('Cast', [`${name}/boolean`], name, types);
  }

  /** A constant of whole numbers. */
  #list(values: readonly number[], shape: readonly number[] = [values.length]): string {
    const key = `${shape.length}:${values.join()}`;
    const known = this.#lists.get(key);
    if (known !== undefined) return known;
    const name = `list_${this.#lists.size}`;
    this.#lists.set(key, name);
    const tensor = tensorOf(Int32Array.from(values), shape);
    this.write('Const', [], name, { dtype: INT, value: { tensor } });
    return name;
  }
}
