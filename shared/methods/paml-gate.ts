/**
 * Preference-adaptive meta-learning (Wang et al., IJCAI 2021): a task starts from the meta-parameters
 * gated by what its support rows say of it,
 *
 *   x_i   = [ sum_r i_r e_r ; sum_r y_r e_r ; size ; level ; attributes ]
 *   p_i   = tanh(V x_i + v)                                the preference
 *   phi_i = theta .* 2 sigmoid(W p_i + b)                  a gate for each personal parameter
 *   phi_i <- phi_i - innerRate * grad L(phi_i ; S_i)
 *
 * e_r embeds the features of support row r, i_r is its share of the impressions, y_r that of the labels
 * beyond their level, in standard deviations. As in the authors' code, the inner gradient is a constant,
 * while gate and preference have their exact gradient. At the beginning W and b are 0 and every gate is
 * 1: first-order MAML. (Theirs is sigmoid(.) alone, which begins by halving theta.)
 */

import type * as tfjs from '@tensorflow/tfjs';
import { z } from 'zod';
import { at } from '../base/arrays.js';
import { sigmoid } from '../base/logistic.js';
import type { Variable } from '../tensors/named-tensors.js';
import { adaptationBy, FIRST_ORDER, innerLoopSettings } from './inner-loop/inner-loop-settings.js';
import type { AdaptingTasks, AttributeStart, Blocks } from './inner-loop/inner-loop.js';
import { defineMethod, type ModelShape } from './inner-loop/method.js';
import {
  featureNamesOf,
  NO_SUPPORT_FEATURES,
  requireFeatures,
  standardisedShares,
  SUPPORT_FEATURE_COUNT,
  supportFeatures,
  timesVariable,
  variableNamed,
} from './inner-loop/support-features.js';

const PREFERENCE_WEIGHT = 'preference.weight';
const PREFERENCE_BIAS = 'preference.bias';
const GATE_WEIGHT = 'gate.weight/';
const GATE_BIAS = 'gate.bias/';
/** Support rows are pooled in two ways: by impressions and by labels. */
const POOL_COUNT = 2;

const settings = z.strictObject({
  kind: z.literal('paml-gate'),
  ...innerLoopSettings,
  preferenceWidth: z
    .int()
    .min(1)
    .max(1024)
    .default(32)
    .describe('Width of the preference vector of a task.'),
  features: z
    .array(z.string().min(1))
    .min(1)
    .optional()
    .describe('Features of support rows that the preference is made from; all when absent.'),
  attributes: z
    .array(z.string().min(1))
    .default([])
    .describe('Features that all rows of a task share. They are known without support rows.'),
});

type Settings = z.infer<typeof settings>;

export const pamlGate = defineMethod({
  settings,
  planOf: (own) => ({
    ...adaptationBy(own, {
      reads: {
        supportTotals: true,
        supportFields: true,
        ...(own.attributes.length === 0 ? {} : { attributes: true as const }),
      },
      start: (tasks) => gated(tasks, preferences(tasks, own)),
      ...(own.attributes.length === 0
        ? {}
        : { attributeStart: { attributes: own.attributes, blocksOf: gatedByAttributes } }),
    }),
    outer: FIRST_ORDER,
    variables: (model) => gateVariables(model, own),
  }),
});

/** `[taskCount, preferenceWidth]` */
function preferences(tasks: AdaptingTasks, { features, attributes }: Settings): tfjs.Tensor2D {
  const { tf, taskCount, variable } = tasks;
  const weights = variable(PREFERENCE_WEIGHT) as tfjs.Tensor2D;
  const known = [supportFeatures(tasks)];
  if (attributes.length > 0) known.push(tasks.attributes(attributes));
  const knownWidth = known.reduce((sum, part) => sum + part.shape[1], 0);
  const pooled =
    pooledRows(tasks, features) ??
    tf.zeros<tfjs.Rank.R2>([taskCount, weights.shape[0] - knownWidth]);
  const sums = tf.matMul(tf.concat([pooled, ...known], 1), weights);
  return tf.tanh(tf.add<tfjs.Tensor2D>(sums, variable(PREFERENCE_BIAS)));
}

/** `[taskCount, POOL_COUNT * width of a row]`, or null without support rows. */
function pooledRows(
  tasks: AdaptingTasks,
  features: readonly string[] | undefined,
): tfjs.Tensor2D | null {
  const { tf, taskCount } = tasks;
  const support = tasks.supportFields(features);
  if (support === null) return null;
  const shares = tf.stack([support.impressionShares, standardisedShares(tasks, support)], 1);
  return tf.reshape(tf.matMul(shares, support.fields), [taskCount, -1]);
}

function gated(tasks: AdaptingTasks, preference: tfjs.Tensor2D): Blocks {
  const { tf, taskCount, personal, variable, repeatByTask } = tasks;
  return Object.fromEntries(
    personal.map((name) => {
      const theta = variable(name);
      const weights = variable(GATE_WEIGHT + name) as tfjs.Tensor2D;
      const logits = tf.add(tf.matMul(preference, weights), variable(GATE_BIAS + name));
      const gate = tf.reshape(tf.mul(tf.sigmoid(logits), 2), [taskCount, ...theta.shape]);
      return [name, tf.mul(repeatByTask(theta), gate)];
    }),
  );
}

const gatedByAttributes: AttributeStart['blocksOf'] = (dense, personal, attributes) => {
  // Without support rows, what is pooled of them is 0.
  const known = [...NO_SUPPORT_FEATURES, ...attributes];
  const preference = timesVariable(known, dense, PREFERENCE_WEIGHT, PREFERENCE_BIAS).map(Math.tanh);
  return new Map(
    personal.map((name) => {
      const logits = timesVariable(preference, dense, GATE_WEIGHT + name, GATE_BIAS + name);
      const { shape, values } = variableNamed(dense, name);
      return [
        name,
        { shape, values: values.map((x, place) => 2 * x * sigmoid(at(logits, place))) },
      ];
    }),
  );
};

function gateVariables(model: ModelShape, own: Settings): Variable[] {
  const { preferenceWidth, features = featureNamesOf(model), attributes } = own;
  requireFeatures(model, features, 'method.features');
  requireFeatures(model, attributes, 'method.attributes');
  const inputWidth =
    (POOL_COUNT * features.length + attributes.length) * model.tableRowWidth +
    SUPPORT_FEATURE_COUNT;
  const ofMethod = (
    name: string,
    shape: readonly number[],
    initial: Variable['initial'] = { kind: 'zeros' },
  ): Variable => ({ name, shape, block: 'method', initial });
  return [
    // The bound of Glorot and Bengio.
    ofMethod(PREFERENCE_WEIGHT, [inputWidth, preferenceWidth], {
      kind: 'uniform',
      bound: Math.sqrt(6 / (inputWidth + preferenceWidth)),
    }),
    ofMethod(PREFERENCE_BIAS, [preferenceWidth]),
    ...model.variables
      .filter(({ block }) => block === 'personal')
      .flatMap(({ name, shape }) => {
        const size = shape.reduce((product, extent) => product * extent, 1);
        return [
          ofMethod(GATE_WEIGHT + name, [preferenceWidth, size]),
          ofMethod(GATE_BIAS + name, [size]),
        ];
      }),
  ];
}
