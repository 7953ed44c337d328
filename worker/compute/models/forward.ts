/**
 * The forward pass of DeepFM (Guo et al., IJCAI 2017), of its MLP alone and of logistic regression:
 *
 *   logit = bias + linear(x) + 0.5 sum_k ((sum_f e_fk)^2 - sum_f e_fk^2) + output(layers(e))
 *
 * cut in two by `model-plan.ts`. What is shared runs over all places of a batch alike,
 * `[placeCount, ...]`, what is personal over places by task, `[taskCount, rowExtent, ...]`, where
 * each task meets its own variables `[taskCount, ...]`.
 */

import type * as tfjs from '@tensorflow/tfjs';
import type { Engine } from '../engine/load-engine.js';
import { placeCountsOf, type BatchTensors } from './batch-tensors.js';
import { personalFields, sharedFields, variableOf, type Variables } from './fields.js';
import { fieldSums } from './lean-operations.js';
import type { ModelPlan } from './model-plan.js';

/** All that shared parameters say of a batch, by task; what a plan has no use for is absent. */
export type TrunkPass = {
  /** Sum of the logit's shared terms `[taskCount, rowExtent]`. */
  readonly logits: tfjs.Tensor2D;
  /** Column sums of the shared fields for products with personal ones: `[.., .., 2 * width]`. */
  readonly sums?: tfjs.Tensor3D;
  /**
   * Input of the first layer of the personal pass `[.., .., width]`. With personal fields and a
   * shared first layer: what the shared fields add to that layer's product.
   */
  readonly hidden?: tfjs.Tensor3D;
  readonly numbersByTask?: tfjs.Tensor3D;
};

export function trunkPass(
  engine: Engine,
  plan: ModelPlan,
  data: BatchTensors,
  rows: tfjs.Tensor2D,
  trunk: Variables,
): TrunkPass {
  const { tf } = engine;
  const { spec } = plan;
  const width = spec.tableRowWidth;
  const { taskCount, rowExtent, placeCount } = placeCountsOf(data);
  const byTask = (x: tfjs.Tensor2D): tfjs.Tensor3D =>
    tf.reshape(x, [taskCount, rowExtent, x.shape[1]]);
  const fields = sharedFields(engine, plan, data, rows, trunk);
  const terms: tfjs.Tensor[] = [];
  const personal: { -readonly [Name in 'sums' | 'hidden' | 'numbersByTask']?: tfjs.Tensor3D } = {};
  if (fields !== null && spec.hasLinear) {
    const fieldCount = fields.shape[1] / width;
    const sums = fieldSums(engine, tf.reshape(fields, [placeCount, fieldCount, width]));
    if (plan.hasPersonalFields) personal.sums = byTask(sums);
    else terms.push(logitOfSums(engine, plan, sums));
  }
  if (fields !== null && plan.layers.length > 0) {
    const hidden = trunkLayers(engine, plan, fields, trunk);
    if (plan.trunkLayerCount === plan.layers.length) terms.push(tf.reshape(hidden, [-1]));
    else personal.hidden = byTask(hidden);
  }
  if (plan.hasPersonalNumbers && data.numbers !== undefined)
    personal.numbersByTask = byTask(data.numbers);
  return { ...personal, logits: sharedLogits(engine, plan, data, terms, trunk) };
}

function sharedLogits(
  engine: Engine,
  plan: ModelPlan,
  data: BatchTensors,
  terms: readonly tfjs.Tensor[],
  trunk: Variables,
): tfjs.Tensor2D {
  const { tf } = engine;
  const { taskCount, rowExtent } = placeCountsOf(data);
  const byTask: [number, number] = [taskCount, rowExtent];
  const logits =
    terms.length === 0
      ? tf.zeros<tfjs.Rank.R2>(byTask)
      : tf.reshape<tfjs.Rank.R2>(
          terms.reduce((sum, term) => tf.add(sum, term)),
          byTask,
        );
  return plan.personal.has('bias') ? logits : tf.add(logits, variableOf(trunk, 'bias'));
}

/** Logit terms `[..]` of column sums `[.., 2 * width]`: factor products and linear terms. */
function logitOfSums(engine: Engine, plan: ModelPlan, sums: tfjs.Tensor): tfjs.Tensor {
  const { tf } = engine;
  const { tableRowWidth: width, embeddingWidth, hasFactorisation } = plan.spec;
  const half = Array.from({ length: width }, (_, column) =>
    hasFactorisation && column < embeddingWidth ? 0.5 : 0,
  );
  const linear = half.map((_, column) => (column < embeddingWidth ? 0 : 1));
  const [sum, squares] = tf.split(sums, 2, -1);
  if (sum === undefined || squares === undefined) throw new Error('split in two');
  // sum * (sum / 2 + linear) - squares / 2 in one product per column.
  const columns = tf.sub(
    tf.mul(sum, tf.add(tf.mul(sum, tf.tensor1d(half)), tf.tensor1d(linear))),
    tf.mul(squares, tf.tensor1d(half)),
  );
  return tf.sum(columns, -1);
}

/** The shared layers from the fields on; with personal fields, the shared part of a product. */
function trunkLayers(
  engine: Engine,
  plan: ModelPlan,
  fields: tfjs.Tensor2D,
  trunk: Variables,
): tfjs.Tensor2D {
  const { tf } = engine;
  if (plan.hasPersonalFields) {
    const [first] = plan.layers;
    if (first === undefined || first.isPersonal) return fields;
    return tf.matMul(fields, fieldWeights(engine, plan, first.weight, trunk).shared);
  }
  let x: tfjs.Tensor = fields;
  for (const [index, layer] of plan.layers.slice(0, plan.trunkLayerCount).entries()) {
    const weight =
      index === 0
        ? fieldWeights(engine, plan, layer.weight, trunk).shared
        : variableOf(trunk, layer.weight);
    x = tf.matMul(x, weight);
    if (layer.bias !== null) x = tf.add(x, variableOf(trunk, layer.bias));
    if (layer.hasRelu) x = engine.kernels.relu(x);
  }
  return x as tfjs.Tensor2D;
}

/**
 * The first layer's weights `[(taskCount,) fieldCount * embeddingWidth, out]`, widened by zeros for
 * the fields' linear column and cut between shared fields, personal numbers and adgroup embedding.
 */
function fieldWeights(
  { tf }: Engine,
  plan: ModelPlan,
  name: string,
  variables: Variables,
): { shared: tfjs.Tensor2D; personal: tfjs.Tensor[] } {
  const { spec } = plan;
  const { fieldCount, embeddingWidth, tableRowWidth: width } = spec;
  const weight = variableOf(variables, name);
  const out = weight.shape[weight.rank - 1] ?? 0;
  const lead = weight.shape.slice(0, -2);
  let wide = weight;
  if (width > embeddingWidth) {
    const byField = tf.reshape(weight, [...lead, fieldCount, embeddingWidth, out]);
    const none: [number, number] = [0, 0];
    wide = tf.pad(byField, [...lead.map(() => none), none, [0, width - embeddingWidth], none]);
    wide = tf.reshape(wide, [...lead, fieldCount * width, out]);
  }
  const cuts: number[] = [];
  if (plan.hasPersonalNumbers) cuts.push(plan.numberFieldCount);
  if (plan.personal.has('adgroupEmbedding')) cuts.push(1);
  const sharedCount = fieldCount - cuts.reduce((sum, count) => sum + count, 0);
  if (cuts.length === 0) return { shared: wide as tfjs.Tensor2D, personal: [] };
  // Slices, not one split: the gradient of a split needs that of every part.
  let start = 0;
  const cut = (count: number): tfjs.Tensor => {
    const begin = [...lead.map(() => 0), start * width, 0];
    const part = tf.slice(wide, begin, [...lead, count * width, out]);
    start += count;
    return part;
  };
  // Without shared fields nobody reads the shared part.
  const shared = sharedCount > 0 ? cut(sharedCount) : wide;
  return { shared: shared as tfjs.Tensor2D, personal: cuts.map(cut) };
}

/**
 * The logits `[taskCount, rowExtent]` of each task under its own variables. `trunk` holds the
 * shared variables that lie above the first personal block.
 */
export function personalPass(
  engine: Engine,
  plan: ModelPlan,
  shared: TrunkPass,
  trunk: Variables,
  personal: Variables,
): tfjs.Tensor2D {
  const { tf } = engine;
  const fields = personalFields(engine, plan, shared.numbersByTask, personal);
  const terms: tfjs.Tensor[] = [shared.logits];
  if (plan.hasPersonalFields && plan.spec.hasLinear) {
    const sums = fields.map((field): tfjs.Tensor => {
      const [taskCount, rowCount, fieldCount, width] = field.shape;
      const flat = tf.reshape<tfjs.Rank.R3>(field, [taskCount * rowCount, fieldCount, width]);
      return tf.reshape(fieldSums(engine, flat), [taskCount, rowCount, 2 * width]);
    });
    const all: tfjs.Tensor[] = shared.sums === undefined ? sums : [shared.sums, ...sums];
    terms.push(
      logitOfSums(
        engine,
        plan,
        all.reduce((sum, other) => tf.add(sum, other)),
      ),
    );
  }
  if (plan.trunkLayerCount < plan.layers.length)
    terms.push(personalLayers(engine, plan, shared, trunk, personal, fields));
  if (plan.personal.has('bias')) terms.push(variableOf(personal, 'bias'));
  return terms.reduce((sum, term) => tf.add(sum, term)) as tfjs.Tensor2D;
}

function personalLayers(
  engine: Engine,
  plan: ModelPlan,
  shared: TrunkPass,
  trunk: Variables,
  personal: Variables,
  fields: readonly tfjs.Tensor4D[],
): tfjs.Tensor {
  const { tf, kernels } = engine;
  let x: tfjs.Tensor | undefined = shared.hidden;
  for (const [offset, layer] of plan.layers.slice(plan.trunkLayerCount).entries()) {
    const variables = layer.isPersonal ? personal : trunk;
    if (offset === 0 && plan.trunkLayerCount === 0)
      x = firstProduct(engine, plan, layer, variables, x, fields);
    else if (x === undefined) throw new Error('a model with layers has fields');
    else x = product(engine, x, variableOf(variables, layer.weight));
    if (layer.bias !== null) {
      const bias = variableOf(variables, layer.bias);
      x = tf.add(x, layer.isPersonal ? tf.expandDims(bias, 1) : bias);
    }
    if (layer.hasRelu) x = kernels.relu(x);
  }
  if (x === undefined) throw new Error('a model with layers has fields');
  return tf.squeeze(x, [2]);
}

/** The product of the first layer with all fields, as a sum over groups of fields. */
function firstProduct(
  engine: Engine,
  plan: ModelPlan,
  layer: { readonly weight: string; readonly isPersonal: boolean },
  variables: Variables,
  hidden: tfjs.Tensor | undefined,
  fields: readonly tfjs.Tensor4D[],
): tfjs.Tensor {
  const { tf } = engine;
  const weights = fieldWeights(engine, plan, layer.weight, variables);
  const terms = fields.map((field, index) => {
    const [taskCount, rowCount, count, width] = field.shape;
    const weight = weights.personal[index];
    if (weight === undefined) throw new Error('a group of fields has no weights');
    return product(engine, tf.reshape(field, [taskCount, rowCount, count * width]), weight);
  });
  if (hidden !== undefined)
    terms.unshift(layer.isPersonal ? product(engine, hidden, weights.shared) : hidden);
  return terms.reduce((sum, term) => tf.add(sum, term));
}

/** `[taskCount, rows, in]` by shared weights `[in, out]` or personal ones `[taskCount, in, out]`. */
function product({ tf }: Engine, x: tfjs.Tensor, weight: tfjs.Tensor): tfjs.Tensor {
  if (weight.rank === 3) return tf.matMul(x, weight);
  const [taskCount = 0, rowCount = 0, width = 0] = x.shape;
  const flat = tf.matMul(tf.reshape(x, [taskCount * rowCount, width]), weight);
  return tf.reshape(flat, [taskCount, rowCount, weight.shape[1] ?? 0]);
}
