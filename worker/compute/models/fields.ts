/**
 * The fields of a model as tensors: `[.., fieldCount * width]`, where the width is that of a table
 * row. The last column of a field is its linear term, so sums over fields give factors and linear
 * terms at once and no big tensor is ever cut.
 */

import type * as tfjs from '@tensorflow/tfjs';
import type { Engine } from '../engine/load-engine.js';
import { placeCountsOf, type BatchTensors } from './batch-tensors.js';
import type { ModelPlan } from './model-plan.js';

export type Variables = ReadonlyMap<string, tfjs.Tensor>;

export function variableOf(variables: Variables, name: string): tfjs.Tensor {
  const variable = variables.get(name);
  if (variable === undefined) throw new Error(`the forward pass has no variable ${name}`);
  return variable;
}

/**
 * The fields that are the same function of a row for every task: `[placeCount, fieldCount * width]`,
 * or null when there are none. `rows` is the row pack.
 */
export function sharedFields(
  engine: Engine,
  plan: ModelPlan,
  data: BatchTensors,
  rows: tfjs.Tensor2D,
  trunk: Variables,
): tfjs.Tensor2D | null {
  const { tf, kernels } = engine;
  const { spec } = plan;
  const { categoryPlaces, members, numbers } = data;
  const { placeCount } = placeCountsOf(data);
  const width = spec.tableRowWidth;
  const parts: tfjs.Tensor2D[] = [];
  if (categoryPlaces !== undefined) {
    const gathered = kernels.gatherRows(rows, categoryPlaces);
    parts.push(tf.reshape(gathered, [placeCount, spec.categoryFeatures.length * width]));
  }
  if (members !== undefined) {
    const bagCount = spec.bagFeatures.length;
    const pooled = kernels.sumSegments(
      tf.mul(kernels.gatherRows(rows, members.places), members.weights),
      members.bags,
      placeCount * bagCount,
    );
    parts.push(tf.reshape(pooled, [placeCount, bagCount * width]));
  }
  if (numbers !== undefined && !plan.hasPersonalNumbers)
    parts.push(sharedNumberFields(engine, plan, numbers, trunk));
  if (spec.hasAdgroupEmbedding && !plan.personal.has('adgroupEmbedding')) {
    const field = tf.reshape<tfjs.Rank.R2>(adgroupField(engine, plan, trunk), [1, width]);
    parts.push(tf.tile(field, [placeCount, 1]));
  }
  const [first] = parts;
  if (first === undefined) return null;
  return parts.length === 1 ? first : tf.concat(parts, 1);
}

function sharedNumberFields(
  engine: Engine,
  plan: ModelPlan,
  numbers: tfjs.Tensor2D,
  trunk: Variables,
): tfjs.Tensor2D {
  const { tf } = engine;
  const [placeCount, count] = numbers.shape;
  const table = numberTable(engine, plan, trunk);
  const fields = tf.mul(tf.reshape(numbers, [placeCount, count, 1]), table);
  return tf.reshape(fields, [placeCount, count * plan.spec.tableRowWidth]);
}

/**
 * The fields that differ by task: `[taskCount, rowExtent or 1, fieldCount, width]` each, in
 * order. `numbersByTask` is `[taskCount, rowExtent, numberCount]`.
 */
export function personalFields(
  engine: Engine,
  plan: ModelPlan,
  numbersByTask: tfjs.Tensor3D | undefined,
  personal: Variables,
): tfjs.Tensor4D[] {
  const { tf } = engine;
  const width = plan.spec.tableRowWidth;
  const fields: tfjs.Tensor4D[] = [];
  if (plan.hasPersonalNumbers && numbersByTask !== undefined) {
    const [taskCount, rowExtent, count] = numbersByTask.shape;
    const table = tf.reshape(numberTable(engine, plan, personal), [taskCount, 1, count, width]);
    fields.push(tf.mul(tf.reshape(numbersByTask, [taskCount, rowExtent, count, 1]), table));
  }
  if (plan.personal.has('adgroupEmbedding')) {
    const field = adgroupField(engine, plan, personal);
    fields.push(tf.reshape(field, [field.size / width, 1, 1, width]));
  }
  return fields;
}

/** Factors and linear weight of each number: `[(taskCount,) numberCount, width]`. */
function numberTable({ tf }: Engine, { spec }: ModelPlan, variables: Variables): tfjs.Tensor {
  const parts: tfjs.Tensor[] = [];
  if (spec.embeddingWidth > 0) parts.push(variableOf(variables, 'numbers.factors'));
  if (spec.hasLinear) parts.push(tf.expandDims(variableOf(variables, 'numbers.linear'), -1));
  const [first] = parts;
  if (first === undefined) throw new Error('numbers have neither factors nor linear weights');
  return parts.length === 1 ? first : tf.concat(parts, -1);
}

/** `[(taskCount,) width]`; an adgroup embedding has no linear term. */
function adgroupField({ tf }: Engine, { spec }: ModelPlan, variables: Variables): tfjs.Tensor {
  const embedding = variableOf(variables, 'adgroupEmbedding');
  if (!spec.hasLinear) return embedding;
  const paddings = embedding.shape.map((_, axis): [number, number] => [
    0,
    axis === embedding.rank - 1 ? 1 : 0,
  ]);
  return tf.pad(embedding, paddings);
}
