/**
 * The output of a gradient job in bytes: one sum for each node of its leaves, and the losses of its tasks. Ids do not
 * travel, since both ends know which rows the leaves of a node touch.
 */

import { at } from '../base/arrays.js';
import { layoutDifferences, type TensorLayout } from '../tensors/named-tensors.js';
import { encodeTensors, viewTensors, type CodedTensor } from '../tensors/tensor-codec.js';
import { QianmoError } from '../base/errors.js';
import { rowCountOf, type GradientNode } from './gradient-node.js';

/** Losses by task of the job, unweighted; 0 for a task without such rows. */
export interface TaskLosses {
  /** `[taskCount]` */
  readonly query: Float32Array;
  /** `[taskCount]`, before adaptation. */
  readonly support: Float32Array;
  /** `[taskCount]`: query losses before adaptation; null where the work does not ask for them. */
  readonly queryBefore: Float32Array | null;
}

export interface DeliveredSums {
  /** From left to right. */
  readonly nodes: readonly GradientNode[];
  readonly losses: TaskLosses;
}

/** The shapes that the output of a gradient job has. */
interface SumShapes {
  /** Of each node, by learned table. */
  readonly idsByNode: readonly (readonly Int32Array[])[];
  readonly denseCount: number;
  readonly tableRowWidth: number;
  readonly taskCount: number;
  readonly asksBefore: boolean;
}

export function encodeSums({ nodes, losses }: DeliveredSums, tableRowWidth: number): Uint8Array {
  const tensors = new Map<string, CodedTensor>();
  for (const [place, { dense, idsByTable, rows }] of nodes.entries()) {
    tensors.set(`${place}.dense`, { shape: [dense.length], values: dense });
    tensors.set(`${place}.rows`, { shape: [rowCountOf(idsByTable), tableRowWidth], values: rows });
  }
  for (const [name, values] of lossesByName(losses))
    tensors.set(name, { shape: [values.length], values });
  return encodeTensors(tensors);
}

/** Returns views on the bytes where they can be, or null if the bytes have other shapes. */
export function decodeSums(bytes: Uint8Array, shapes: SumShapes): DeliveredSums | null {
  const tensors = viewedOrNull(bytes);
  if (tensors === null || layoutDifferences(tensors, layoutOf(shapes)).length > 0) return null;
  const valuesOf = (name: string): Float32Array | null => {
    const values = tensors.get(name)?.values;
    return values instanceof Float32Array ? values : null;
  };
  const nodes: GradientNode[] = [];
  for (const [place, idsByTable] of shapes.idsByNode.entries()) {
    const [dense, rows] = [valuesOf(`${place}.dense`), valuesOf(`${place}.rows`)];
    if (dense === null || rows === null) return null;
    nodes.push({ dense, idsByTable, rows });
  }
  const [query, support] = [valuesOf('losses.query'), valuesOf('losses.support')];
  const queryBefore = shapes.asksBefore ? valuesOf('losses.queryBefore') : null;
  if (query === null || support === null) return null;
  if (shapes.asksBefore && queryBefore === null) return null;
  return { nodes, losses: { query, support, queryBefore } };
}

function lossesByName({ query, support, queryBefore }: TaskLosses): [string, Float32Array][] {
  return [
    ['losses.query', query],
    ['losses.support', support],
    ...(queryBefore === null ? [] : ([['losses.queryBefore', queryBefore]] as const)),
  ].map(([name, values]) => [name, values] as [string, Float32Array]);
}

function layoutOf({
  idsByNode,
  denseCount,
  tableRowWidth,
  taskCount,
  asksBefore,
}: SumShapes): TensorLayout {
  const layout = new Map<string, { readonly shape: readonly number[] }>();
  for (let place = 0; place < idsByNode.length; place += 1) {
    layout.set(`${place}.dense`, { shape: [denseCount] });
    layout.set(`${place}.rows`, { shape: [rowCountOf(at(idsByNode, place)), tableRowWidth] });
  }
  const losses = ['losses.query', 'losses.support', ...(asksBefore ? ['losses.queryBefore'] : [])];
  for (const name of losses) layout.set(name, { shape: [taskCount] });
  return layout;
}

function viewedOrNull(output: Uint8Array): Map<string, CodedTensor> | null {
  try {
    return viewTensors(output, 'gradient');
  } catch (error) {
    if (error instanceof QianmoError) return null;
    throw error;
  }
}
