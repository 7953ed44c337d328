/**
 * A support-set encoder: adaptation by one forward pass, amortised over tasks as in conditional neural
 * processes (Garnelo et al., ICML 2018, equations 3 to 5),
 *
 *   h_r   = tanh([e_r ; y_r] E + b)                 every support row by itself
 *   t_i   = tanh([sum_r i_r h_r ; size ; level] A)  the task's embedding, whatever the rows' order
 *   phi_i = theta + t_i W                           a shift of each personal parameter
 *   phi_i <- phi_i - r .* (innerRate * grad L(phi_i ; S_i))   innerSteps times, r by personal block
 *
 * e_r embeds the features of row r, with or without the linear weights of their values,
 * y_r is its label beyond the task's level in standard deviations,
 * i_r its share of the impressions. Behind the pool there is no bias, so a task without support rows
 * starts from theta itself. No inner step is needed: with innerSteps 0 the encoder adapts alone; with
 * more, the factors r are learned and may fall to 0. At the beginning W = 0 and r = 1: MAML.
 */

import type * as tfjs from '@tensorflow/tfjs';
import { z } from 'zod';
import type { Variable } from '../tensors/named-tensors.js';
import {
  adaptationBy,
  derivativeBy,
  innerLoopSettings,
  orderSettings,
} from './inner-loop/inner-loop-settings.js';
import type { AdaptingTasks, Blocks, InnerLoop } from './inner-loop/inner-loop.js';
import { defineMethod, type ModelShape, type MethodPlan } from './inner-loop/method.js';
import {
  featureNamesOf,
  requireFeatures,
  standardisedShares,
  SUPPORT_FEATURE_COUNT,
  supportFeatures,
} from './inner-loop/support-features.js';
import { blockOf } from './inner-loop/personal-blocks.js';

export const ROW_WEIGHT = 'encoder.row.weight';
export const ROW_BIAS = 'encoder.row.bias';
export const TASK_WEIGHT = 'encoder.task.weight';
export const SHIFT = 'encoder.shift/';

const width = z.int().min(1).max(1024);

const settings = z.strictObject({
  kind: z.literal('encoder'),
  ...innerLoopSettings,
  ...orderSettings,
  innerSteps: z
    .int()
    .nonnegative()
    .max(100)
    .default(1)
    .describe('Gradient steps after the encoded start; 0 takes none.'),
  rowWidth: width.default(32).describe('Width of the encoding of a support row.'),
  taskWidth: width.default(16).describe('Width of the encoding of a task.'),
  features: z
    .array(z.string().min(1))
    .min(1)
    .optional()
    .describe('Features of support rows that are encoded with their label; all when absent.'),
  linearWeights: z
    .boolean()
    .optional()
    .describe(
      'False to encode embeddings without the linear weights of their values, so that the model can be averaged with others (`training.startFrom.average`).',
    ),
});

type Settings = z.infer<typeof settings>;

export const encoder = defineMethod({
  settings,
  planOf: (own) => ({
    ...adaptationBy(own, {
      reads: { supportTotals: true, supportFields: true },
      start: (tasks) => shifted(tasks, taskEmbeddings(tasks, own)),
      step: LEARNED_RATES.step,
    }),
    outer: derivativeBy(own),
    variables: (model) => [...encoderVariables(model, own), ...LEARNED_RATES.variables(model)],
  }),
});

/** `[taskCount, taskWidth]`; null where no task has support rows. */
function taskEmbeddings(
  tasks: AdaptingTasks,
  { features, rowWidth }: Settings,
): tfjs.Tensor2D | null {
  const { tf, taskCount, variable } = tasks;
  const support = tasks.supportFields(features);
  if (support === null) return null;
  const [, rowExtent] = support.fields.shape;
  const { impressionShares } = support;
  const weight = variable(ROW_WEIGHT) as tfjs.Tensor2D;
  const inputWidth = weight.shape[0];
  const labels = tf.div(
    standardisedShares(tasks, support),
    tf.maximum(impressionShares, SHARE_MIN),
  );
  const fields = inputWidth === 1 ? [] : [withoutLinear(tasks, support.fields, inputWidth - 1)];
  const rows = tf.reshape<tfjs.Rank.R2>(tf.concat([...fields, tf.expandDims(labels, 2)], 2), [
    taskCount * rowExtent,
    inputWidth,
  ]);
  const sums = tf.matMul(rows, weight);
  const encoded = tf.tanh(tf.add(sums, variable(ROW_BIAS)));
  const pooled = tf.matMul(
    tf.reshape(impressionShares, [taskCount, 1, rowExtent]),
    tf.reshape(encoded, [taskCount, rowExtent, rowWidth]),
  );
  const known = [tf.reshape<tfjs.Rank.R2>(pooled, [taskCount, rowWidth]), evidenceOf(tasks)];
  const weights = variable(TASK_WEIGHT) as tfjs.Tensor2D;
  return tf.tanh(tf.matMul<tfjs.Tensor2D>(tf.concat(known, 1), weights));
}

/**
 * `[taskCount, rowExtent, width]`: the fields without their last columns, their linear weights, if they are wider than that.
 */
function withoutLinear(
  { tf, taskCount }: AdaptingTasks,
  fields: tfjs.Tensor3D,
  width: number,
): tfjs.Tensor3D {
  const [, rowExtent, fieldWidth] = fields.shape;
  const fieldCount = fieldWidth - width;
  if (fieldCount === 0) return fields;
  const placeCount = taskCount * rowExtent * fieldCount;
  const apart = tf.reshape<tfjs.Rank.R2>(fields, [placeCount, fieldWidth / fieldCount]);
  const kept = tf.slice(apart, [0, 0], [placeCount, width / fieldCount]);
  return tf.reshape(kept, [taskCount, rowExtent, width]);
}

/** Padding has no share. */
const SHARE_MIN = 1e-12;

/** `[taskCount, 2]`: size and level, both 0 without support rows. */
function evidenceOf(tasks: AdaptingTasks): tfjs.Tensor2D {
  const { tf } = tasks;
  return tf.add<tfjs.Tensor2D>(supportFeatures(tasks), tf.tensor2d([[1, 0]]));
}

function shifted(tasks: AdaptingTasks, embeddings: tfjs.Tensor2D | null): Blocks {
  const { tf, taskCount, personal, variable, repeatByTask } = tasks;
  return Object.fromEntries(
    personal.map((name) => {
      const theta = variable(name);
      const shared = repeatByTask(theta);
      if (embeddings === null) return [name, shared];
      const shift = tf.matMul(embeddings, variable(SHIFT + name));
      return [name, tf.add(shared, tf.reshape(shift, [taskCount, ...theta.shape]))];
    }),
  );
}

function encoderVariables(model: ModelShape, own: Settings): Variable[] {
  const { rowWidth, taskWidth, features = featureNamesOf(model) } = own;
  requireFeatures(model, features, 'method.features');
  const width = own.linearWeights === false ? model.embeddingWidth : model.tableRowWidth;
  const ofMethod = (
    name: string,
    shape: readonly number[],
    initial: Variable['initial'] = { kind: 'zeros' },
  ): Variable => ({ name, shape, block: 'method', initial });
  /** Initialised as by Glorot and Bengio. */
  const weight = (name: string, inWidth: number, outWidth: number): Variable => {
    const bound = Math.sqrt(6 / (inWidth + outWidth));
    return ofMethod(name, [inWidth, outWidth], { kind: 'uniform', bound });
  };
  return [
    weight(ROW_WEIGHT, features.length * width + 1, rowWidth),
    ofMethod(ROW_BIAS, [rowWidth]),
    weight(TASK_WEIGHT, rowWidth + SUPPORT_FEATURE_COUNT, taskWidth),
    ...model.variables
      .filter(({ block }) => block === 'personal')
      .map(({ name, shape }) => {
        const size = shape.reduce((product, extent) => product * extent, 1);
        return ofMethod(SHIFT + name, [taskWidth, size]);
      }),
  ];
}

const rateNameOf = (variableName: string): string => `rates/${blockOf(variableName)}`;

/** The step along learned rates, and the variables that hold them. */
const LEARNED_RATES: Required<Pick<InnerLoop, 'step'> & Pick<MethodPlan, 'variables'>> = {
  step: ({ tf, personal, variable }, { blocks, scaledGradients }) =>
    Object.fromEntries(
      personal.map((name) => {
        const [block, gradient] = [blocks[name], scaledGradients[name]];
        if (block === undefined || gradient === undefined) throw new Error(`no block ${name}`);
        return [name, tf.sub(block, tf.mul(gradient, variable(rateNameOf(name))))];
      }),
    ),
  variables: (model) => {
    const personal = model.variables.filter(({ block }) => block === 'personal');
    const names = new Set(personal.map(({ name }) => rateNameOf(name)));
    return [...names].map((name): Variable => ({
      ...{ name, shape: [1], block: 'method' },
      initial: { kind: 'constant', value: 1 },
    }));
  },
};
