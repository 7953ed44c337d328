/**
 * The deviation of a side's meta step from the exact one. For each tensor it is the largest
 * difference of its new values from the exact ones, beyond the rounding of a float32, divided by
 * the largest exact update.
 */

import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { WorkloadName, WorkloadArrays } from './workload-data.js';
import { layerNames } from './side-protocol.js';

/** A variant with a larger deviation is listed but does not count as accurate. */
const RELATIVE_ERROR_MAX = 1e-4;

export interface Accuracy {
  readonly relativeError: number;
  /** The tensor with the largest deviation. */
  readonly tensor: string;
  readonly isAccurate: boolean;
}

export function accuracyOf(
  arrays: WorkloadArrays,
  workload: WorkloadName,
  referenceFolder: string,
  checkFolder: string,
  otherRowsChanged: number,
): Accuracy {
  if (otherRowsChanged > 0)
    return { relativeError: Infinity, tensor: 'untouched rows', isAccurate: false };
  const { widths, table } = arrays.description.workloads[workload];
  let furthest = { relativeError: 0, tensor: 'none' };
  const compare = (tensor: string, before: Float32Array): void => {
    const after = new Float32Array(bytesOf(join(checkFolder, `${tensor}.bin`)));
    const update = new Float64Array(bytesOf(join(referenceFolder, `${tensor}.bin`)));
    const relativeError = updateError(before, after, update);
    if (relativeError > furthest.relativeError) furthest = { relativeError, tensor };
  };
  for (const name of layerNames(widths)) compare(name, arrays.floats(`${workload}.${name}`));
  if (table !== null) {
    const values = arrays.floats(`${workload}.table`);
    const ids = arrays.integers(`${workload}.batch0.touchedIds`);
    const before = new Float32Array(ids.length * table.width);
    for (const [place, id] of ids.entries())
      before.set(values.subarray(id * table.width, (id + 1) * table.width), place * table.width);
    compare('touchedRows', before);
  }
  return { ...furthest, isAccurate: furthest.relativeError <= RELATIVE_ERROR_MAX };
}

/** Writes the rows that batch 0 touches, and returns how many others have changed. */
export function writeTouchedRows(
  folder: string,
  arrays: WorkloadArrays,
  { before, after }: { readonly before: Float32Array; readonly after: Float32Array },
  workload: WorkloadName,
): number {
  const width = arrays.description.workloads[workload].table?.width ?? 0;
  const touched = arrays.integers(`${workload}.batch0.touchedIds`);
  const rows = new Float32Array(touched.length * width);
  for (const [place, id] of touched.entries())
    rows.set(after.subarray(id * width, (id + 1) * width), place * width);
  writeFileSync(join(folder, 'touchedRows.bin'), rows);
  const known = new Set(touched);
  const changed = new Set<number>();
  for (const [index, value] of after.entries()) {
    const id = Math.floor(index / width);
    if (value !== before[index] && !known.has(id)) changed.add(id);
  }
  return changed.size;
}

/** NaN, or arrays of different lengths, count as an infinite deviation. */
export function updateError(
  before: Float32Array,
  after: Float32Array,
  update: Float64Array,
): number {
  if (before.length !== after.length || after.length !== update.length) return Infinity;
  let largestUpdate = 0;
  let largestError = 0;
  for (let index = 0; index < update.length; index += 1) {
    const exact = update[index] ?? NaN;
    const apart = Math.abs((after[index] ?? NaN) - ((before[index] ?? NaN) + exact));
    const error = apart - roundingOf(after[index] ?? NaN);
    if (Number.isNaN(error)) return Infinity;
    largestError = Math.max(largestError, error);
    largestUpdate = Math.max(largestUpdate, Math.abs(exact));
  }
  if (largestError === 0) return 0;
  return largestUpdate === 0 ? Infinity : largestError / largestUpdate;
}

/** Half the distance from a float32 to the next one. */
function roundingOf(value: number): number {
  const exponent = Math.floor(Math.log2(Math.max(Math.abs(value), 2 ** -126)));
  return 2 ** (exponent - 24);
}

function bytesOf(path: string): ArrayBuffer {
  return new Uint8Array(readFileSync(path)).buffer;
}
