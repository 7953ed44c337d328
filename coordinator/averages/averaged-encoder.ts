/**
 * The variables of an encoder of support rows in an average. With w = 1 / members, encodings of rows and of tasks have those of
 * the members side by side; as embeddings of the average are sqrt(w) times those of a member, the weights that read
 * them are divided by that, and shifts of blocks are placed and scaled as the blocks are. Pure.
 */

import { at } from '../../shared/base/arrays.js';
import { ROW_BIAS, ROW_WEIGHT, SHIFT, TASK_WEIGHT } from '../../shared/methods/encoder.js';
import type { ModelSpec } from '../../shared/models/model-spec.js';
import type { DenseTensor } from '../../shared/tensors/named-tensors.js';
import { addMatrix, columnsOf, type Placement } from './placement.js';

/** Units of an encoder; 0 without one. */
export interface EncoderWidths {
  readonly row: number;
  readonly task: number;
}

export const NO_ENCODER: EncoderWidths = { row: 0, task: 0 };

export function encoderWidthsOf({ variables }: ModelSpec): EncoderWidths {
  const shapeOf = (wanted: string): readonly number[] =>
    variables.find(({ name }) => name === wanted)?.shape ?? [0, 0];
  return { row: at(shapeOf(ROW_BIAS), 0), task: at(shapeOf(TASK_WEIGHT), 1) };
}

interface EncoderPlaces {
  /** The first of the member's units. */
  readonly first: EncoderWidths;
  /** The encodings of rows of the member, and of the average. */
  readonly own: EncoderWidths;
  readonly all: EncoderWidths;
  /** Rows of weights that read the fields of a row; labels follow the fields. */
  readonly inputRowOf: (row: number) => number;
  readonly inputCounts: { readonly own: number; readonly all: number };
  readonly share: number;
}

/** Null for variables that are not of an encoder, or are shifts of blocks. */
export function encoderPlacementOf(name: string, places: EncoderPlaces): Placement | null {
  const { first, own, all, inputRowOf, inputCounts, share } = places;
  switch (name) {
    case ROW_WEIGHT:
      return {
        rowOf: (row) => (row === inputCounts.own ? inputCounts.all : inputRowOf(row)),
        firstColumn: first.row,
        factorOf: (row) => (row === inputCounts.own ? 1 : 1 / Math.sqrt(share)),
      };
    case ROW_BIAS:
      return { rowOf: (row) => first.row + row, firstColumn: 0, factorOf: () => 1 };
    case TASK_WEIGHT:
      return {
        // Size and level follow the encodings of rows.
        rowOf: (row) => (row < own.row ? first.row + row : all.row + row - own.row),
        firstColumn: first.task,
        factorOf: () => 1,
      };
    default:
      return null;
  }
}

/** The variable whose shifts these are; null for other variables. */
export function shiftedName(name: string): string | null {
  return name.startsWith(SHIFT) ? name.slice(SHIFT.length) : null;
}

interface ShiftedBlock {
  /** That of the block in the average. */
  readonly shape: readonly number[];
  readonly ownShape: readonly number[];
  readonly placement: Placement;
  readonly firstTaskUnit: number;
}

/** Adds the shifts of a block, `[taskWidth, size of the block]`, to those of the average. */
export function addShifts(
  sums: Float64Array,
  { shape: [taskWidth = 0, size = 0], values }: DenseTensor,
  { shape, ownShape, placement, firstTaskUnit }: ShiftedBlock,
): void {
  const sizeOfAll = shape.reduce((product, extent) => product * extent, 1);
  for (let unit = 0; unit < taskWidth; unit += 1) {
    const first = (firstTaskUnit + unit) * sizeOfAll;
    const own = values.subarray(unit * size, (unit + 1) * size);
    const target = sums.subarray(first, first + sizeOfAll);
    addMatrix(target, columnsOf(shape), { shape: ownShape, values: own }, placement);
  }
}
