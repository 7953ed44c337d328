/** Products of field vectors, and their derivative with respect to one field's vector. */

import { float64At } from '../../../shared/base/arrays.js';
import type { Products, ScoringPlan } from '../scoring-plan.js';

type FieldsOf = Pick<ScoringPlan, 'embeddingWidth' | 'fields' | 'factorised'>;

export function productCountOf(
  { pairs, byField, hasOuter }: Products,
  { embeddingWidth }: FieldsOf,
): number {
  return pairs.length + byField.length + (hasOuter ? embeddingWidth * embeddingWidth : 0);
}

/** @param vectors `[fieldCount, embeddingWidth]` */
export function writeProducts(
  { pairs, byField, hasOuter }: Products,
  plan: FieldsOf,
  vectors: Float64Array,
  target: Float64Array,
): void {
  const { embeddingWidth: width, fields, factorised } = plan;
  const vectorOf = (field: number): Float64Array =>
    vectors.subarray(field * width, (field + 1) * width);
  let end = 0;
  for (const [f, g] of pairs) target[end++] = dot(vectorOf(f), vectorOf(g));
  if (byField.length > 0) {
    const all = sumOf(vectors, fields.keys(), width);
    for (const f of byField) target[end++] = dot(vectorOf(f), all) - dot(vectorOf(f), vectorOf(f));
  }
  if (!hasOuter) return;
  const outer = sumOf(vectors, factorised, width);
  for (const a of outer) for (const b of outer) target[end++] = a * b;
}

/** Adds what the products' gradient is for the vector of one field. */
export function addFieldGradient(
  { pairs, byField, hasOuter }: Products,
  plan: FieldsOf,
  {
    vectors,
    field,
    gradient,
  }: {
    readonly vectors: Float64Array;
    readonly field: number;
    /** Of the products, in their order. */
    readonly gradient: Float64Array;
  },
  target: Float64Array,
): void {
  const { embeddingWidth: width, fields, factorised } = plan;
  const addVector = (other: number, factor: number): void => {
    for (let k = 0; k < width; k += 1)
      target[k] = (target[k] ?? NaN) + factor * (vectors[other * width + k] ?? NaN);
  };
  let place = 0;
  for (const [f, g] of pairs) {
    const factor = float64At(gradient, place++);
    if (f === field) addVector(g, factor);
    if (g === field) addVector(f, factor);
  }
  for (const f of byField) {
    // <e_f, S - e_f>: every other field has e_f, and f itself has S - e_f.
    const factor = float64At(gradient, place++);
    if (f !== field) addVector(f, factor);
    else for (const other of fields.keys()) if (other !== field) addVector(other, factor);
  }
  if (!hasOuter || !factorised.includes(field)) return;
  const outer = sumOf(vectors, factorised, width);
  for (let a = 0; a < width; a += 1)
    for (let b = 0; b < width; b += 1) {
      const factor = float64At(gradient, place++);
      target[a] = float64At(target, a) + factor * float64At(outer, b);
      target[b] = float64At(target, b) + factor * float64At(outer, a);
    }
}

function sumOf(vectors: Float64Array, places: Iterable<number>, width: number): Float64Array {
  const sum = new Float64Array(width);
  for (const place of places)
    for (let k = 0; k < width; k += 1)
      sum[k] = (sum[k] ?? NaN) + (vectors[place * width + k] ?? NaN);
  return sum;
}

function dot(a: Float64Array, b: Float64Array): number {
  let sum = 0;
  for (let k = 0; k < a.length; k += 1) sum += (a[k] ?? NaN) * (b[k] ?? NaN);
  return sum;
}
