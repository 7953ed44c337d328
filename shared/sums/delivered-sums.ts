/**
 * The output of a gradient job in bytes: one sum for each node of its leaves, and the losses of its tasks. Ids
 * travel to joins alone, since coordinator and gradient jobs know which rows the leaves of a node touch.
 */

import { layoutDifferences } from '../tensors/named-tensors.js';
import {
  encodedByteCountOf,
  encodeTensors,
  viewTensors,
  type CodedTensor,
} from '../tensors/tensor-codec.js';
import { QianmoError } from '../base/errors.js';
import type { BlobRef } from '../storage/blob-store.js';
import { areFinite, joinNodes, rowCountOf, type GradientNode } from './gradient-node.js';
import { SumTree, type LeafRange } from './sum-tree.js';

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

/** The shapes that the sums of a gradient job have. */
export interface SumShapes {
  /** Of each node, by learned table. */
  readonly idsByNode: readonly (readonly Int32Array[])[];
  readonly denseCount: number;
  readonly tableRowWidth: number;
  readonly taskCount: number;
  readonly asksBefore: boolean;
}

const DIGEST = 'sums.sha256';
const DIGEST_BYTE_COUNT = 32;

/** @param hasIds for sums that stay in the store */
export function encodeSums(
  { nodes, losses }: DeliveredSums,
  tableRowWidth: number,
  hasIds = false,
): Uint8Array {
  const tensors = new Map<string, CodedTensor>();
  for (const [place, { dense, idsByTable, rows }] of nodes.entries()) {
    tensors.set(`${place}.dense`, { shape: [dense.length], values: dense });
    tensors.set(`${place}.rows`, { shape: [rowCountOf(idsByTable), tableRowWidth], values: rows });
    if (hasIds)
      for (const [table, ids] of idsByTable.entries())
        tensors.set(`${place}.ids.${table}`, { shape: [ids.length], values: ids });
  }
  for (const [name, values] of lossesByName(losses))
    tensors.set(name, { shape: [values.length], values });
  return encodeTensors(tensors);
}

/**
 * Returns views on the bytes where they can be, or null if the bytes have other shapes.
 *
 * @param kept the sums where they stay in the store. They are of no node then, and the bytes must name their digest.
 */
export function decodeSums(
  bytes: Uint8Array,
  shapes: SumShapes,
  kept?: BlobRef,
): DeliveredSums | null {
  const tensors = viewedOrNull(bytes);
  const idsRead = kept === undefined ? shapes.idsByNode : [];
  const layout = layoutOf({ ...shapes, idsByNode: idsRead });
  if (kept !== undefined) layout.set(DIGEST, { shape: [DIGEST_BYTE_COUNT] });
  if (tensors === null || layoutDifferences(tensors, layout).length > 0) return null;
  const digest = Buffer.from(tensors.get(DIGEST)?.values ?? []).toString('hex');
  if (kept !== undefined && digest !== kept.sha256) return null;
  if (kept !== undefined && outputByteCountOf(shapes, true) !== kept.byteCount) return null;
  const valuesOf = (name: string): Float32Array | null => {
    const values = tensors.get(name)?.values;
    return values instanceof Float32Array ? values : null;
  };
  const nodes: GradientNode[] = [];
  for (const [place, idsByTable] of idsRead.entries()) {
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

/** The number of bytes that `encodeSums` makes of sums of these shapes. */
export function outputByteCountOf(shapes: SumShapes, hasIds = false): number {
  return encodedByteCountOf(layoutOf(shapes, hasIds));
}

/**
 * Divides the output of a job whose sums stay in the store: the losses travel, with the digest of the sums, and what
 * judges them. Without the digest, joins would have equal outputs, which one result would delete for all.
 */
export function lossesApart(sums: Uint8Array, { sha256 }: Pick<BlobRef, 'sha256'>) {
  const tensors = [...viewTensors(sums, 'sums')];
  const isLosses = (name: string): boolean => name.startsWith('losses.');
  const digest = Uint8Array.from(Buffer.from(sha256, 'hex'));
  return {
    losses: encodeTensors(
      new Map([
        ...tensors.filter(([name]) => isLosses(name)),
        [DIGEST, { shape: [DIGEST_BYTE_COUNT], values: digest }],
      ]),
    ),
    isFinite: areFinite(
      tensors.flatMap(([name, { values }]) =>
        values instanceof Float32Array && !isLosses(name) ? [values] : [],
      ),
    ),
  };
}

/** Sums with their ids, and the place of their node. */
interface StoredNode extends LeafRange {
  readonly bytes: Uint8Array;
}

const NO_LOSSES = new Float32Array(0);

/**
 * Adds nodes in the order of the tree, with the rounding that they have everywhere.
 *
 * @param keepsIds whether the sum stays in the store, too
 * @returns an output without losses
 * @throws QianmoError `data` if bytes are no sums with ids, Error if the nodes do not make up another one
 */
export function joinStored(
  nodes: readonly StoredNode[],
  stepLeafCount: number,
  keepsIds: boolean,
): Uint8Array {
  const parts = nodes.map(({ bytes, ...node }) => ({ node, ...nodeWithIds(bytes) }));
  const width = Math.max(...parts.map((part) => part.width));
  const tree = new SumTree<GradientNode>(stepLeafCount, (left, right) =>
    joinNodes(left, right, width),
  );
  for (const { node, sum } of parts) tree.add(node, sum);
  const [joined, other] = tree.heldNodes();
  if (joined === undefined || other !== undefined)
    throw new Error('the nodes of a join do not make up one node');
  const losses = { query: NO_LOSSES, support: NO_LOSSES, queryBefore: null };
  return encodeSums({ nodes: [joined.sum], losses }, width, keepsIds);
}

function nodeWithIds(bytes: Uint8Array): { sum: GradientNode; width: number } {
  const tensors = viewTensors(bytes, 'sums');
  const { values: dense } = tensors.get('0.dense') ?? {};
  const { values: rows, shape: [, width] = [] } = tensors.get('0.rows') ?? {};
  const idsByTable: Int32Array[] = [];
  for (;;) {
    const ids = tensors.get(`0.ids.${idsByTable.length}`)?.values;
    if (!(ids instanceof Int32Array)) break;
    idsByTable.push(ids);
  }
  if (!(dense instanceof Float32Array) || !(rows instanceof Float32Array) || width === undefined)
    throw new Error('a join was given something else than sums');
  if (rowCountOf(idsByTable) * width !== rows.length) throw new Error('the sums lack their ids');
  // Joining writes to the dense values, and the bytes may be shared.
  return { sum: { dense: dense.slice(), idsByTable, rows }, width };
}

function lossesByName({ query, support, queryBefore }: TaskLosses): [string, Float32Array][] {
  return [
    ['losses.query', query],
    ['losses.support', support],
    ...(queryBefore === null ? [] : ([['losses.queryBefore', queryBefore]] as const)),
  ].map(([name, values]) => [name, values] as [string, Float32Array]);
}

/** In the order of `encodeSums`. */
function layoutOf(
  { idsByNode, denseCount, tableRowWidth, taskCount, asksBefore }: SumShapes,
  hasIds = false,
) {
  const layout = new Map<string, { readonly shape: readonly number[] }>();
  for (const [place, idsByTable] of idsByNode.entries()) {
    layout.set(`${place}.dense`, { shape: [denseCount] });
    layout.set(`${place}.rows`, { shape: [rowCountOf(idsByTable), tableRowWidth] });
    if (hasIds)
      for (const [table, { length }] of idsByTable.entries())
        layout.set(`${place}.ids.${table}`, { shape: [length] });
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
