/**
 * The labelled rows of an adgroup as a network reads them: field vectors and linear terms, of which those that no block
 * changes are computed once.
 */

import { at, float64At } from '../../../shared/base/arrays.js';
import type { RankingModel } from '../../../shared/bundle/ranking-model.js';
import { PaddedTables } from '../padded-tables.js';
import type { RankingRequest } from '../ranking-request.js';
import { denseOf, type ScoredField, type ScoringPlan } from '../scoring-plan.js';

/** Values of the personal variables by name. */
export type MovingBlocks = ReadonlyMap<string, Float64Array>;

/** A field that a personal block fills, with the same vector in every row. */
interface OwnField {
  readonly place: number;
  readonly name: string;
  readonly hasLinear: boolean;
}

/** Shared variables in double precision, which all adgroups of a model read. */
const frozenOfModels = new WeakMap<RankingModel, Map<string, Float64Array>>();

function frozenOf(model: RankingModel): Map<string, Float64Array> {
  const known = frozenOfModels.get(model) ?? new Map<string, Float64Array>();
  frozenOfModels.set(model, known);
  return known;
}

export class SupportRows {
  readonly rowCount: number;
  readonly own: readonly OwnField[];
  /** `[rowCount, fieldCount, embeddingWidth]`; vectors of blocks are written before each pass. */
  readonly vectors: Float64Array;
  /** `[rowCount]`: the linear terms of the fields that no block fills. */
  readonly linear: Float64Array;
  readonly #model: RankingModel;
  readonly #plan: ScoringPlan;
  readonly #frozen: Map<string, Float64Array>;

  /** @param rows the rows as candidates, without a context. */
  constructor(model: RankingModel, plan: ScoringPlan, rows: RankingRequest) {
    this.#model = model;
    this.#plan = plan;
    this.#frozen = frozenOf(model);
    this.rowCount = rows.candidateCount;
    this.own = plan.fields.flatMap((field, place) =>
      field.source === 'block' ? [{ place, name: field.name, hasLinear: field.hasLinear }] : [],
    );
    const width = plan.embeddingWidth;
    this.vectors = new Float64Array(this.rowCount * plan.fields.length * width);
    this.linear = new Float64Array(this.rowCount);
    const tables = new PaddedTables(model);
    for (let row = 0; row < this.rowCount; row += 1)
      for (const [place, field] of plan.fields.entries()) {
        const vector = this.vectorsOf(row).subarray(place * width, (place + 1) * width);
        const linear = writeField({ model, plan, tables, rows }, { field, row }, vector);
        this.linear[row] = float64At(this.linear, row) + linear;
      }
  }

  /** `[fieldCount, embeddingWidth]` of one row. */
  vectorsOf(row: number): Float64Array {
    const count = this.#plan.fields.length * this.#plan.embeddingWidth;
    return this.vectors.subarray(row * count, (row + 1) * count);
  }

  /** The values of a variable: those of the block where it is personal. */
  valuesOf(name: string, blocks: MovingBlocks): Float64Array {
    return blocks.get(name) ?? this.frozen(name);
  }

  /** The values of a shared variable. */
  frozen(name: string): Float64Array {
    let values = this.#frozen.get(name);
    if (values === undefined) {
      values = new Float64Array(denseOf(this.#model, name));
      this.#frozen.set(name, values);
    }
    return values;
  }

  placeOwn(blocks: MovingBlocks): void {
    const { embeddingWidth: width, fields } = this.#plan;
    for (const { place, name } of this.own) {
      const vector = this.valuesOf(name, blocks).subarray(0, width);
      for (let row = 0; row < this.rowCount; row += 1)
        this.vectors.set(vector, (row * fields.length + place) * width);
    }
  }

  /** Adds sum_{f < g} <e_f, e_g> over the factorised fields to the logit of each row. */
  addPairTerms(logits: Float64Array): void {
    const { embeddingWidth: width, factorised } = this.#plan;
    for (let row = 0; row < this.rowCount; row += 1) {
      const vectors = this.vectorsOf(row);
      let twice = 0;
      for (let k = 0; k < width; k += 1) {
        let sum = 0;
        for (const field of factorised) {
          const value = vectors[field * width + k] ?? NaN;
          sum += value;
          twice -= value * value;
        }
        twice += sum * sum;
      }
      logits[row] = float64At(logits, row) + twice / 2;
    }
  }

  /** Adds the gradient of the pair terms for the vector of a block's field. */
  addPairGradient(field: number, slopes: Float64Array, gradient: Float64Array): void {
    const { embeddingWidth: width, factorised } = this.#plan;
    if (!factorised.includes(field)) return;
    const others = factorised.filter((other) => other !== field);
    for (let row = 0; row < this.rowCount; row += 1) {
      const slope = float64At(slopes, row);
      const vectors = this.vectorsOf(row);
      for (const other of others)
        for (let k = 0; k < width; k += 1)
          gradient[k] = (gradient[k] ?? NaN) + slope * (vectors[other * width + k] ?? NaN);
    }
  }
}

/** Rows, and what their fields are read from. */
interface FieldRows {
  readonly model: RankingModel;
  readonly plan: ScoringPlan;
  readonly tables: PaddedTables;
  /** As candidates, without a context. */
  readonly rows: RankingRequest;
}

/** Writes the vector of a field and returns its linear term; nothing and 0 where a block fills the field. */
export function writeField(
  { model, plan, tables, rows }: FieldRows,
  { field, row }: { readonly field: ScoredField; readonly row: number },
  vector: Float64Array,
): number {
  const { request, hasLinear, embeddingWidth: width } = plan;
  if (field.source === 'block') return 0;
  const { firstPlace, placeCount } = field.place;
  if (field.source === 'ids') {
    const from = row * request.idCounts.candidate + firstPlace;
    return tables.meanOf(field, rows.candidateIds.subarray(from, from + placeCount), vector);
  }
  const value = at(rows.candidateNumbers, row * request.numberCounts.candidate + firstPlace);
  if (width > 0) {
    const factors = denseOf(model, 'numbers.factors');
    for (let k = 0; k < width; k += 1)
      vector[k] = value * (factors[field.number * width + k] ?? NaN);
  }
  return hasLinear ? value * at(denseOf(model, 'numbers.linear'), field.number) : 0;
}
