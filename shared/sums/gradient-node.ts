/**
 * The gradient of a node of the sum tree: the sum of the weighted task gradients of its leaves, in float32. Each node
 * is rounded once. A row that only one child touches is that child's row, so its bits do not depend on which other
 * rows travel with it.
 */

import { at, requireSameLength, unfilledFloats } from '../base/arrays.js';
import { nativeRows } from '../tensors/native-rows.js';
import { uniqueIdsOf, type RowPackLayout } from '../tasks/row-pack.js';
import { learnedVariables, type ModelSpec } from '../models/model-spec.js';
import { elementCountOf } from '../tensors/named-tensors.js';

export interface GradientNode {
  /** `[denseCount]`: the learned dense variables end to end, in the order of the spec. */
  readonly dense: Float32Array;
  /** By learned table, the ids whose rows the node has: ascending and unique. */
  readonly idsByTable: readonly Int32Array[];
  /** `[sum of ids, tableRowWidth]`: the rows of these ids, table after table. */
  readonly rows: Float32Array;
}

/** The number of values of all learned dense variables. */
export function denseCountOf(spec: ModelSpec): number {
  return learnedVariables(spec).reduce((sum, { shape }) => sum + elementCountOf(shape), 0);
}

/** By learned table, the ids of a row pack that have a gradient. */
export function learnedIdsOf(
  { learned, tables }: Pick<ModelSpec, 'learned' | 'tables'>,
  { idsByTable }: Pick<RowPackLayout, 'idsByTable'>,
): Int32Array[] {
  const names = new Set(learned.tables);
  // A job whose tables are frozen has no row pack, and then no table learns.
  return tables.flatMap(({ name }, table) => (names.has(name) ? [at(idsByTable, table)] : []));
}

/** By table, the ids of several leaves or nodes together. */
export function joinedIds(idsOfParts: readonly (readonly Int32Array[])[]): readonly Int32Array[] {
  const [first = []] = idsOfParts;
  if (idsOfParts.length === 1) return first;
  return first.map((_, table) => uniqueIdsOf(idsOfParts.map((ids) => at(ids, table))));
}

export function rowCountOf(idsByTable: readonly Int32Array[]): number {
  return idsByTable.reduce((sum, ids) => sum + ids.length, 0);
}

/** The bytes of the gradient of a node whose leaves touch these rows. */
export function sumByteCountOf(spec: ModelSpec, layout: Pick<RowPackLayout, 'idsByTable'>): number {
  const rowCount = rowCountOf(learnedIdsOf(spec, layout));
  return Float32Array.BYTES_PER_ELEMENT * (denseCountOf(spec) + rowCount * spec.tableRowWidth);
}

/**
 * The sum of squares is finite if and only if all values are: squares of float32 fit into float64. Two sums at once take
 * half the time of one, whose additions wait for each other.
 */
export function areFinite(lists: readonly Float32Array[]): boolean {
  let [squares, others] = [0, 0];
  for (const values of lists) {
    const { length } = values;
    for (let index = 1; index < length; index += 2) {
      squares += (values[index - 1] ?? NaN) ** 2;
      others += (values[index] ?? NaN) ** 2;
    }
    if (length % 2 === 1) squares += (values[length - 1] ?? NaN) ** 2;
  }
  return Number.isFinite(squares + others);
}

/** The sum of two siblings. It writes to the dense values of the left one. */
export function joinNodes(left: GradientNode, right: GradientNode, width: number): GradientNode {
  addTo(left.dense, right.dense);
  const idsByTable = joinedIds([left.idsByTable, right.idsByTable]);
  const rows = unfilledFloats(rowCountOf(idsByTable) * width);
  let [start, leftStart, rightStart] = [0, 0, 0];
  for (const [table, ids] of idsByTable.entries()) {
    const [leftIds, rightIds] = [at(left.idsByTable, table), at(right.idsByTable, table)];
    const ofLeft = left.rows.subarray(leftStart, leftStart + leftIds.length * width);
    const ofRight = right.rows.subarray(rightStart, rightStart + rightIds.length * width);
    const target = rows.subarray(start, start + ids.length * width);
    joinRows({ ids: leftIds, rows: ofLeft }, { ids: rightIds, rows: ofRight }, target, width);
    start += target.length;
    leftStart += ofLeft.length;
    rightStart += ofRight.length;
  }
  return { dense: left.dense, idsByTable, rows };
}

interface TableRows {
  readonly ids: Int32Array;
  readonly rows: Float32Array;
}

/** Merges two ascending lists of rows. A row of both is their sum. */
function joinRows(left: TableRows, right: TableRows, target: Float32Array, width: number): void {
  const native = nativeRows();
  if (native !== null && width > 0) {
    native.merge(target, width, left.ids, left.rows, right.ids, right.rows);
    return;
  }
  let [leftPlace, rightPlace] = [0, 0];
  for (let to = 0; to < target.length; to += width) {
    const leftId = left.ids[leftPlace] ?? Infinity;
    const rightId = right.ids[rightPlace] ?? Infinity;
    const leftFrom = leftPlace * width;
    const rightFrom = rightPlace * width;
    if (leftId < rightId) target.set(left.rows.subarray(leftFrom, leftFrom + width), to);
    else target.set(right.rows.subarray(rightFrom, rightFrom + width), to);
    if (leftId === rightId)
      for (let column = 0; column < width; column += 1)
        target[to + column] =
          (left.rows[leftFrom + column] ?? NaN) + (right.rows[rightFrom + column] ?? NaN);
    if (leftId <= rightId) leftPlace += 1;
    if (rightId <= leftId) rightPlace += 1;
  }
}

function addTo(sums: Float32Array, addends: Float32Array): void {
  requireSameLength(sums, addends);
  const native = nativeRows();
  if (native !== null) {
    native.addAll(sums, addends);
    return;
  }
  for (let index = 0; index < sums.length; index += 1)
    sums[index] = (sums[index] ?? NaN) + (addends[index] ?? NaN);
}
