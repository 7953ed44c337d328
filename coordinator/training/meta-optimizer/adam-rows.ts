/** Adam on embedding tables, whose moments are written in place: rows touched, or all that move. */

import type { EmbeddingTable } from '../../../shared/tensors/embedding-table.js';
import type { RowGradient } from '../meta-gradient.js';
import { forEachTouched } from './gradient-transformation.js';

/** Of one outer step: direction = m / firstCorrection / (sqrt(v / secondCorrection) + epsilon). */
export interface AdamStep {
  readonly firstMomentDecay: number;
  readonly secondMomentDecay: number;
  readonly firstCorrection: number;
  readonly secondCorrection: number;
  readonly epsilon: number;
}

export interface RowMoments {
  readonly first: EmbeddingTable;
  readonly second: EmbeddingTable;
}

/** Directions of the touched rows; all others and their moments stay as they are. */
export function touchedRows(
  { firstMomentDecay: b1, secondMomentDecay: b2, ...step }: AdamStep,
  gradient: RowGradient,
  { first: m, second: v }: RowMoments,
): Float32Array {
  const directions = new Float32Array(gradient.values.length);
  const { firstCorrection, secondCorrection, epsilon } = step;
  forEachTouched(gradient, m.width, (i, at) => {
    const g = gradient.values[i] ?? 0;
    m.values[at] = b1 * (m.values[at] ?? 0) + (1 - b1) * g;
    v.values[at] = b2 * (v.values[at] ?? 0) + (1 - b2) * g * g;
    const root = Math.sqrt((v.values[at] ?? 0) / secondCorrection);
    directions[i] = (m.values[at] ?? 0) / firstCorrection / (root + epsilon);
  });
  return directions;
}

/**
 * What a row of a table needs: nothing while both moments are 0, decay of the second while the
 * first is 0, all of it otherwise.
 */
const BLANK = 0;
const STILL = 1;
const MOVING = 2;

/**
 * By the values of a first moment, what its rows need. Follows from the moments, so it is no part of
 * the state; kept because looking at every row would cost more than moving those that move.
 */
const needsByTable = new WeakMap<Float32Array, Uint8Array>();

/**
 * The least normal float32. Moments below it become 0: they move nothing that is seen, and
 * processors take a hundred times as long over them.
 */
const MOMENT_MIN = 2 ** -126;

/** Directions of every row that moves; an untouched row has a gradient of 0. */
export function movedRows(step: AdamStep, gradient: RowGradient, moments: RowMoments): RowGradient {
  const { width, rowCount } = moments.first;
  const needs = needsByTable.get(moments.first.values) ?? needsOf(moments);
  needsByTable.set(moments.first.values, needs);
  for (const id of gradient.ids) needs[id] = MOVING;
  let movingCount = 0;
  for (const need of needs) if (need === MOVING) movingCount += 1;
  const ids = new Int32Array(movingCount);
  const directions = new Float32Array(movingCount * width);
  let place = 0;
  let touched = 0;
  for (let row = 0; row < rowCount; row += 1) {
    const need = needs[row];
    if (need === BLANK) continue;
    if (need === STILL) {
      decayed(step.secondMomentDecay, moments.second.values, row * width, width);
      continue;
    }
    const isTouched = gradient.ids[touched] === row;
    const from = isTouched ? touched * width : -1;
    const stillMoves = moveRow(
      step,
      moments,
      row * width,
      gradient.values,
      from,
      directions,
      place * width,
    );
    if (!stillMoves) needs[row] = STILL;
    if (isTouched) touched += 1;
    ids[place] = row;
    place += 1;
  }
  return { ids, values: directions };
}

/** @param from place of the row's gradient; -1 for a gradient of 0. */
function moveRow(
  { firstMomentDecay: b1, secondMomentDecay: b2, ...step }: AdamStep,
  moments: RowMoments,
  start: number,
  gradient: Float32Array,
  from: number,
  directions: Float32Array,
  to: number,
): boolean {
  const first = moments.first.values;
  const second = moments.second.values;
  const { width } = moments.first;
  const { firstCorrection, secondCorrection, epsilon } = step;
  let stillMoves = false;
  for (let column = 0; column < width; column += 1) {
    const g = from < 0 ? 0 : (gradient[from + column] ?? 0);
    let m = Math.fround(b1 * (first[start + column] ?? 0) + (1 - b1) * g);
    let v = Math.fround(b2 * (second[start + column] ?? 0) + (1 - b2) * g * g);
    if (m < MOMENT_MIN && m > -MOMENT_MIN) m = 0;
    if (v < MOMENT_MIN) v = 0;
    if (m !== 0) stillMoves = true;
    first[start + column] = m;
    second[start + column] = v;
    // 0 / 0 without an epsilon: what has no moment does not move.
    directions[to + column] =
      m === 0 ? 0 : m / firstCorrection / (Math.sqrt(v / secondCorrection) + epsilon);
  }
  return stillMoves;
}

function decayed(decay: number, values: Float32Array, start: number, width: number): void {
  for (let at = start; at < start + width; at += 1) {
    const value = decay * (values[at] ?? 0);
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
