/** An adgroup as a method sees it that adapts it (`AdaptingTasks` of `shared/methods/inner-loop/inner-loop.ts`). */

import { at, float64At } from '../../../shared/base/arrays.js';
import type { RankingModel } from '../../../shared/bundle/ranking-model.js';
import { featureNamesOf } from '../../../shared/methods/inner-loop/support-features.js';
import type { AddProduct } from '../dense-product.js';
import { PaddedTables } from '../padded-tables.js';
import type { RankingRequest } from '../ranking-request.js';
import { denseOf, scoringPlanOf, type ScoredField, type ScoringPlan } from '../scoring-plan.js';
import { withSupportColumns, type LabelledRows } from './support-evidence.js';
import { writeField } from './support-rows.js';
import { taskEvidenceOf, type TaskEvidence } from './task-evidence.js';

export interface AdaptingAdgroup {
  readonly model: RankingModel;
  readonly plan: ScoringPlan;
  readonly support: LabelledRows;
  /** The same rows with the support inputs of the model: at least one. */
  readonly rows: RankingRequest;
  readonly evidence: TaskEvidence;
  readonly addProduct: AddProduct;
}

export function adaptingAdgroupOf(
  model: RankingModel,
  support: LabelledRows,
  addProduct: AddProduct,
): AdaptingAdgroup {
  return {
    ...{ model, support, addProduct },
    plan: scoringPlanOf(model, []),
    rows: withSupportColumns(model.spec, support),
    evidence: taskEvidenceOf(support),
  };
}

/** Embedded features, `[rowCount, width]`. */
interface EmbeddedRows {
  readonly values: Float64Array;
  readonly width: number;
}

interface WantedFields {
  /** All when absent. */
  readonly names?: readonly string[] | undefined;
  readonly rowCount: number;
  readonly hasLinear: boolean;
}

/** Features of the first rows as the tables have them, each with its linear term behind its vector where that is wanted. */
export function embeddedRows(
  { model, plan, rows }: AdaptingAdgroup,
  { names, rowCount, hasLinear }: WantedFields,
): EmbeddedRows {
  const { spec } = model;
  const places = featureNamesOf(spec);
  const fields = (names ?? places).map((name) => {
    const place = places.indexOf(name);
    if (place < 0) throw new Error(`the model has no feature ${name}`);
    return unadaptedField(plan, place);
  });
  const from = { model, plan, rows, tables: new PaddedTables(model) };
  const fieldWidth = plan.embeddingWidth + (hasLinear && plan.hasLinear ? 1 : 0);
  const width = fields.length * fieldWidth;
  const values = new Float64Array(rowCount * width);
  for (let row = 0; row < rowCount; row += 1)
    for (const [index, field] of fields.entries()) {
      const first = row * width + index * fieldWidth;
      const end = first + plan.embeddingWidth;
      const linear = writeField(from, { field, row }, values.subarray(first, end));
      if (fieldWidth > plan.embeddingWidth) values[end] = linear;
    }
  return { values, width };
}

/** The field of a feature, which a table fills also where a block takes its place in the model. */
function unadaptedField({ fields, request }: ScoringPlan, place: number): ScoredField {
  const field = at(fields, place);
  if (field.source !== 'block') return field;
  return { source: 'ids', table: place, place: at(request.ids, place), isBag: false };
}

/** Embedded features that all rows of the adgroup share. */
export function attributesOf(adgroup: AdaptingAdgroup, names: readonly string[]): Float64Array {
  return embeddedRows(adgroup, { names, rowCount: 1, hasLinear: true }).values;
}

/** Adds `vector` x the dense variable `[vector.length, target.length]` to `target`. */
export function addTimes(
  { model, addProduct }: AdaptingAdgroup,
  vector: Float64Array,
  variable: string,
  target: Float64Array,
): void {
  addProduct({
    ...{ first: vector, second: Float64Array.from(denseOf(model, variable)), target },
    ...{ rows: 1, inner: vector.length, columns: target.length },
  });
}

/** Vectors one behind the other. */
export function joined(...parts: readonly ArrayLike<number>[]): Float64Array {
  return Float64Array.from(parts.flatMap((part) => Array.from(part)));
}

/** The hyperbolic tangent of each value, in place. */
export function toTanh(values: Float64Array): Float64Array {
  for (let index = 0; index < values.length; index += 1)
    values[index] = Math.tanh(float64At(values, index));
  return values;
}
