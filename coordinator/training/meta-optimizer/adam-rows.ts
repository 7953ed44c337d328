/**
 * Adam on embedding tables, with moments written in place: for touched rows only, or for all that
 * move.
 */

import type { EmbeddingTable } from '../../../shared/tensors/named-tensors.js';
import { nativeRows } from '../../../shared/tensors/native-rows.js';
import type { RowGradient } from './gradient-transformation.js';

/**
 * The factors of one outer step: direction = m / firstCorrection / (sqrt(v / secondCorrection) +
 * epsilon).
 */
export interface AdamStep {
  readonly firstMomentDecay: number;
  readonly secondMomentDecay: number;
  readonly firstCorrection: number;
  readonly secondCorrection: number;
  readonly epsilon: number;
}

interface RowMoments {
  readonly first: EmbeddingTable;
  readonly second: EmbeddingTable;
}

/**
 * Replaces the gradient of the touched rows by their direction. All other rows and their moments stay
 * as they are.
 */
export function touchedRows(
  { firstMomentDecay: b1, secondMomentDecay: b2, ...step }: AdamStep,
  gradient: RowGradient,
  { first: m, second: v }: RowMoments,
): Float32Array {
  const { firstCorrection, secondCorrection, epsilon } = step;
  const { width, values: firsts } = m;
  const seconds = v.values;
  const { ids, values: directions } = gradient;
  const native = nativeRows();
  if (native !== null && width > 0) {
    const factors = Float64Array.of(b1, b2, firstCorrection, secondCorrection, epsilon);
    native.adam(firsts, width, ids, seconds, directions, factors);
    return directions;
  }
  let place = 0;
  for (const id of ids) {
    const end = (id + 1) * width;
    for (let at = id * width; at < end; at += 1, place += 1) {
      const g = directions[place] ?? NaN;
      const first = Math.fround(b1 * (firsts[at] ?? NaN) + (1 - b1) * g);
      const second = Math.fround(b2 * (seconds[at] ?? NaN) + (1 - b2) * g * g);
      firsts[at] = first;
      seconds[at] = second;
      directions[place] =
        first / firstCorrection / (Math.sqrt(second / secondCorrection) + epsilon);
    }
  }
  return directions;
}

/**
 * The work that a table row needs: none while both moments are 0, decay of the second moment while
 * the first is 0, a full update otherwise.
 */
const BLANK = 0;
const STILL = 1;
const MOVING = 2;

/**
 * The work that each row needs, by the array of first moments. It follows from the moments, so it
 * is not part of the state. It is cached because checking every row would cost more than the
 * updates.
 */
const needsByTable = new WeakMap<Float32Array, Uint8Array>();

/**
 * The smallest normal float32. Moments below it become 0: they have no visible effect, and
 * processors take a hundred times as long to compute with them.
 */
const MOMENT_MIN = 2 ** -126;

/** Computes directions of every row that moves. An untouched row has a gradient of 0. */
export function movedRows(step: AdamStep, gradient: RowGradient, moments: RowMoments): RowGradient {
  const { width, rowCount } = moments.first;
  const needs = needsByTable.get(moments.first.values) ?? needsOf(moments);
  needsByTable.set(moments.first.values, needs);
  for (const id of gradient.ids) needs[id] = MOVING;
  let movingCount = 0;
  for (let row = 0; row < rowCount; row += 1) if (needs[row] === MOVING) movingCount += 1;
  const ids = new Int32Array(movingCount);
  const directions = new Float32Array(movingCount * width);
  // A row of zeros is cheaper than a branch for each number.
  const noGradient = new Float32Array(width);
  const moveRow = rowMover(step, moments, directions);
  let place = 0;
  let touched = 0;
  for (let row = 0; row < rowCount; row += 1) {
    const need = needs[row];
    if (need === BLANK) continue;
    if (need === STILL) {
      decayRow(step, moments.second.values, row * width, width);
      continue;
    }
    const isTouched = gradient.ids[touched] === row;
    const stillMoves = isTouched
      ? moveRow(row, gradient.values, touched, place)
      : moveRow(row, noGradient, 0, place);
    if (!stillMoves) needs[row] = STILL;
    if (isTouched) touched += 1;
    ids[place] = row;
    place += 1;
  }
  return { ids, values: directions };
}

/**
 * Updates one row by row `gradientRow` of a gradient, rounded where a store to float32 would round, and
 * writes its direction to row `place`.
 *
 * @returns whether the row has a first moment yet.
 */
type MoveRow = (row: number, gradient: Float32Array, gradientRow: number, place: number) => boolean;

function rowMover(
  step: AdamStep,
  { first, second }: RowMoments,
  directions: Float32Array,
): MoveRow {
  return (row, gradient, gradientRow, place) => {
    // Read here, because the loop runs faster on local constants than on those of the closure.
    const { firstMomentDecay, secondMomentDecay, firstCorrection, secondCorrection } = step;
    const { epsilon } = step;
    const { width, values: firsts } = first;
    const seconds = second.values;
    const moved = directions;
    const start = row * width;
    const from = gradientRow * width;
    const to = place * width;
    let stillMoves = false;
    for (let column = 0; column < width; column += 1) {
      const g = gradient[from + column] ?? NaN;
      let m = Math.fround(
        firstMomentDecay * (firsts[start + column] ?? NaN) + (1 - firstMomentDecay) * g,
      );
      let v = Math.fround(
        secondMomentDecay * (seconds[start + column] ?? NaN) + (1 - secondMomentDecay) * g * g,
      );
      if (m < MOMENT_MIN && m > -MOMENT_MIN) m = 0;
      if (v < MOMENT_MIN) v = 0;
      firsts[start + column] = m;
      seconds[start + column] = v;
      // Without an epsilon this is 0 / 0: a parameter without a moment does not move.
      if (m === 0) continue;
      stillMoves = true;
      moved[to + column] = m / firstCorrection / (Math.sqrt(v / secondCorrection) + epsilon);
    }
    return stillMoves;
  };
}

function decayRow(
  { secondMomentDecay }: AdamStep,
  values: Float32Array,
  start: number,
  width: number,
): void {
  for (let at = start; at < start + width; at += 1) {
    const value = secondMomentDecay * (values[at] ?? NaN);
    values[at] = value < MOMENT_MIN ? 0 : value;
  }
}

function needsOf({ first, second }: RowMoments): Uint8Array {
  const { rowCount, width } = first;
  const isZero = (values: Float32Array, row: number): boolean =>
    values.subarray(row * width, (row + 1) * width).every((value) => value === 0);
  return Uint8Array.from({ length: rowCount }, (_, row) => {
    if (!isZero(first.values, row)) return MOVING;
    return isZero(second.values, row) ? BLANK : STILL;
  });
}
