/**
 * The parameters of the average of several models (`averaged-model.ts`). With w = 1 / members, an embedding of the average has
 * the members' embeddings side by side, each times sqrt(w), so that the products of fields are w times those of the
 * members; the tower's first weights are divided by sqrt(w), and its last multiplied by w. Pure.
 */

import { at, float32At } from '../../shared/base/arrays.js';
import type { MetaParameters } from '../../shared/models/initial-values.js';
import type { ModelSpec } from '../../shared/models/model-spec.js';
import type { EmbeddingTable } from '../../shared/tensors/embedding-table.js';
import { elementCountOf, type DenseTensor } from '../../shared/tensors/named-tensors.js';

export interface AveragedMember {
  readonly spec: ModelSpec;
  readonly parameters: MetaParameters;
}

/** A member with the place of its part in the average. */
interface PlacedMember extends AveragedMember {
  /** The first of its factors in an embedding of the average. */
  readonly firstFactor: number;
  /** The first of its units, by hidden layer. */
  readonly firstUnits: readonly number[];
  /** The number feature of the average, by that of the member. */
  readonly numberPlaces: readonly number[];
}

/** The place of a member's matrix in that of the average. */
interface Placement {
  /** The row of the average, by that of the member. */
  readonly rowOf: (row: number) => number;
  readonly firstColumn: number;
  readonly factor: number;
}

/** @param spec that of the average, on the same features. */
export function averagedParameters(
  spec: ModelSpec,
  members: readonly AveragedMember[],
): MetaParameters {
  const share = 1 / members.length;
  const placed = placedMembers(spec, members);
  const dense = spec.variables.map(({ name, shape }): [string, DenseTensor] => {
    const sums = new Float64Array(elementCountOf(shape));
    for (const member of placed) {
      const own = member.parameters.dense.get(name);
      if (own !== undefined)
        addMatrix(sums, columnsOf(shape), own, placementOf(name, { spec, member, share }));
    }
    return [name, { shape, values: Float32Array.from(sums) }];
  });
  const tables = spec.tables.map(({ name, rowCount }): [string, EmbeddingTable] => [
    name,
    averagedTable(spec, placed, { name, rowCount, share }),
  ]);
  return { dense: new Map(dense), tables: new Map(tables) };
}

function placedMembers(spec: ModelSpec, members: readonly AveragedMember[]): PlacedMember[] {
  let firstFactor = 0;
  let firstUnits = spec.options.hiddenWidths.map(() => 0);
  return members.map((member) => {
    const { embeddingWidth, options, numberFeatures } = member.spec;
    const numberPlaces = numberFeatures.map((name) => {
      const place = spec.numberFeatures.indexOf(name);
      if (place < 0) throw new Error(`the average has no number feature ${name}`);
      return place;
    });
    const placed = { ...member, firstFactor, firstUnits, numberPlaces };
    firstFactor += embeddingWidth;
    firstUnits = firstUnits.map((first, layer) => first + (options.hiddenWidths[layer] ?? 0));
    return placed;
  });
}

/** Vectors are matrices of one column. */
function columnsOf(shape: readonly number[]): number {
  return shape[1] ?? 1;
}

function addMatrix(
  sums: Float64Array,
  columnCount: number,
  { shape, values }: DenseTensor,
  { rowOf, firstColumn, factor }: Placement,
): void {
  const ownColumns = columnsOf(shape);
  for (let row = 0, from = 0; from < values.length; row += 1) {
    const first = rowOf(row) * columnCount + firstColumn;
    for (let column = 0; column < ownColumns; column += 1, from += 1)
      sums[first + column] = at(sums, first + column) + factor * float32At(values, from);
  }
}

const LAYER = /^layer(\d+)\.(weight|bias)$/;

/** Variables of the method, such as the prior of a shift, have no place of their own: they are means. */
function placementOf(
  name: string,
  { spec, member, share }: { spec: ModelSpec; member: PlacedMember; share: number },
): Placement {
  const { firstFactor, firstUnits, numberPlaces } = member;
  const numberRow = (row: number): number => at(numberPlaces, row);
  const [, layerText, part] = LAYER.exec(name) ?? [];
  const lastLayer = firstUnits.length - 1;
  if (layerText !== undefined) {
    const layer = Number(layerText);
    const unit = at(firstUnits, layer);
    if (part === 'bias') return { rowOf: (row) => unit + row, firstColumn: 0, factor: 1 };
    if (layer > 0) {
      const before = at(firstUnits, layer - 1);
      return { rowOf: (row) => before + row, firstColumn: unit, factor: 1 };
    }
    return { rowOf: inputRowOf(spec, member), firstColumn: unit, factor: 1 / Math.sqrt(share) };
  }
  switch (name) {
    case 'numbers.linear':
      return { rowOf: numberRow, firstColumn: 0, factor: share };
    case 'numbers.factors':
      return { rowOf: numberRow, firstColumn: firstFactor, factor: Math.sqrt(share) };
    case 'output.weight':
      return { rowOf: (row) => at(firstUnits, lastLayer) + row, firstColumn: 0, factor: share };
    default:
      return { rowOf: (row) => row, firstColumn: 0, factor: share };
  }
}

/** Rows of the tower's first weights: the embeddings of all fields, numbers after categories and bags. */
function inputRowOf(spec: ModelSpec, member: PlacedMember): (row: number) => number {
  const { embeddingWidth: width, tables } = member.spec;
  return (row) => {
    const field = Math.floor(row / width);
    const place =
      field < tables.length
        ? field
        : tables.length + at(member.numberPlaces, field - tables.length);
    return place * spec.embeddingWidth + member.firstFactor + (row % width);
  };
}

interface AveragedTable {
  readonly name: string;
  readonly rowCount: number;
  readonly share: number;
}

function averagedTable(
  { tableRowWidth: width }: ModelSpec,
  members: readonly PlacedMember[],
  { name, rowCount, share }: AveragedTable,
): EmbeddingTable {
  const values = new Float32Array(rowCount * width);
  const linear = new Float64Array(rowCount);
  for (const { spec, parameters, firstFactor } of members) {
    const table = parameters.tables.get(name);
    if (table?.rowCount !== rowCount) throw new Error(`a member has another table ${name}`);
    const { embeddingWidth } = spec;
    for (let row = 0; row < rowCount; row += 1) {
      const from = row * table.width;
      for (let k = 0; k < embeddingWidth; k += 1)
        values[row * width + firstFactor + k] =
          Math.sqrt(share) * float32At(table.values, from + k);
      linear[row] = at(linear, row) + share * float32At(table.values, from + embeddingWidth);
    }
  }
  for (let row = 0; row < rowCount; row += 1) values[row * width + width - 1] = at(linear, row);
  return { rowCount, width, values };
}
