/**
 * Posterior blocks: the bias and the output weights of a task are the mode of their posterior under a learned normal
 * prior. The output layer reads the features h of the layer below it, so the logit is linear in them,
 *
 *   logit_i(x) = z(x) + [1, h(x)]' phi_i        phi_i ~ N(m_i, diag(tau^2))
 *   m_i        = theta + M' sum_r i_r e_r / (n_i + s)
 *
 * with e_r the fields of support row r, i_r its impressions, n_i their sum, s `meanShrinkage`, and no label. The mode is
 * found by Newton steps on the support rows, in which J has the rows [1, h(x_r)] and V their i_r p_r (1 - p_r),
 *
 *   phi <- phi - (J'VJ + T)^-1 (n_i grad L(phi ; S_i) + T (phi - m_i))       T = diag(tau^-2)
 *
 * (Laplace's method). At the mode, the diagonal of (J'VJ + T)^-1 has the variances by which predictions are moderated. The
 * outer gradient runs through the last step alone, which at the mode is exact: the derivative of a Newton step in the point it
 * begins from is 0 there. `theta`, `tau` and M learn from the query losses (ALPaCA: Harrison, Sharma and Pavone, WAFR 2018;
 * GLMix: Zhang et al., KDD 2016). With the bias alone it is one level per task.
 *
 * Batches of trunk rows start from theta + delta, and delta learns from them alone. Small adgroups often do worse; theta is
 * free of their level, since what moves theta for them moves delta as well.
 */

import type * as tfjs from '@tensorflow/tfjs';
import { z } from 'zod';
import { at } from '../base/arrays.js';
import { elementCountOf, type NamedTensors, type Variable } from '../tensors/named-tensors.js';
import {
  adaptationBy,
  innerLoopSettings,
  LOG_DEVIATION_SCALE,
} from './inner-loop/inner-loop-settings.js';
import type {
  AdaptingTasks,
  Blocks,
  InnerStep,
  NormalPrior,
  Uncertainty,
} from './inner-loop/inner-loop.js';
import { defineMethod, type ModelShape } from './inner-loop/method.js';
import {
  blockOf,
  CROWD_MODES,
  CROWD_VARIANCES,
  unknownBlockMisfits,
} from './inner-loop/personal-blocks.js';
import { featureNamesOf } from './inner-loop/support-features.js';

export const DEVIATION = 'posterior.deviation/';
export const MEAN_WEIGHT = 'posterior.mean/';
export const TRUNK_START = 'posterior.trunk/';
/** In logits of a support row: a logistic loss has hardly any curvature far from the mode. */
const STEP_LENGTH_MAX = 2;
/** Precisions are at least this share of 1 and the trace of the evidence, so that no matrix is singular, however wide a prior becomes. */
const PRECISION_MIN = 1e-6;
const PRIOR_DEVIATION = 0.5;
const BLOCKS = ['bias', 'output'];

const deviation = z.number().positive().max(1e3);

const settings = z.strictObject({
  kind: z.literal('posterior'),
  innerSteps: innerLoopSettings.innerSteps
    .unwrap()
    .default(3)
    .describe('Newton steps to the mode of the posterior.'),
  innerRate: innerLoopSettings.innerRate.describe(
    'How far its support rows move a task. Training learns the prior at this rate; an evaluated rate (the prior scale of reports) multiplies the prior variances by its ratio to this one.',
  ),
  coldShare: innerLoopSettings.coldShare,
  priorDeviation: z
    .union([deviation, z.record(z.string(), deviation)])
    .default(PRIOR_DEVIATION)
    .describe(
      'Prior standard deviation of personal parameters before training: one number for all, or one by personal block, as in `{ output: 2 }`, and the default for the others.',
    ),
  inputMeans: z
    .boolean()
    .default(true)
    .describe(
      "Makes the prior means a learned linear function of the mean of the support rows' inputs, without their labels. With false, all tasks share them.",
    ),
  meanShrinkage: z
    .number()
    .positive()
    .max(1e6)
    .default(3)
    .describe(
      'Impressions by which that mean is shrunk to 0. A few rows say little of an audience, and training with long tasks hardly shows it.',
    ),
  crowd: z
    .string()
    .min(1)
    .optional()
    .describe(
      'A category of the context, such as a segment of users or city and age: each of its values gets a block too, which is added to that of the adgroup. The model reads the category in no other way.',
    ),
});

type Settings = z.infer<typeof settings>;

export const posterior = defineMethod({
  settings,
  adaptationWords: { rate: 'prior scale', step: 'Newton step' },
  planOf: (own) => ({
    ...adaptationBy(own, {
      reads: {
        ...{ supportTotals: true, features: true, trunkFlags: true },
        ...(own.inputMeans ? { supportFields: true } : {}),
      },
      start: (tasks) => priorMeans(tasks, own),
      step: (tasks, step) => newtonStep(tasks, step, own),
      variances: (tasks, evidence) => variancesOf(tasks, evidence, own),
      prior: (dense, personal) => normalPriorOf(dense, personal, own),
    }),
    ...(own.crowd === undefined ? {} : { crowd: own.crowd }),
    outer: { kind: 'derivative', order: 'last-step' },
    variables: (model) => posteriorVariables(model, own),
  }),
  misfitsOf: ({ priorDeviation }, { personal, generated }) => {
    const isLinear = generated === undefined && personal.every((block) => BLOCKS.includes(block));
    if (personal.length === 0 || !isLinear)
      return [
        {
          path: ['kind'],
          message: `model.personal must be some of ${BLOCKS.join(', ')}, in which logits are linear, without model.generated`,
        },
      ];
    return typeof priorDeviation === 'number'
      ? []
      : unknownBlockMisfits('priorDeviation', priorDeviation, personal);
  },
});

function posteriorVariables(
  model: ModelShape,
  { priorDeviation, inputMeans, crowd }: Settings,
): Variable[] {
  const fieldWidth = featureNamesOf(model).length * model.tableRowWidth;
  const personal = model.variables.filter(({ block }) => block === 'personal');
  return [
    ...personal.flatMap(({ name, shape }): Variable[] => {
      const of =
        typeof priorDeviation === 'number' ? priorDeviation : priorDeviation[blockOf(name)];
      const value = Math.log(of ?? PRIOR_DEVIATION) / LOG_DEVIATION_SCALE;
      const size = shape.reduce((product, extent) => product * extent, 1);
      return [
        { name: DEVIATION + name, shape, block: 'method', initial: { kind: 'constant', value } },
        ...(inputMeans
          ? [
              {
                ...{
                  name: MEAN_WEIGHT + name,
                  shape: [fieldWidth, size],
                  block: 'method' as const,
                },
                initial: { kind: 'zeros' as const },
              },
            ]
          : []),
      ];
    }),
    ...personal.map(({ name, shape }): Variable => ({
      ...{ name: TRUNK_START + name, shape, block: 'method' },
      initial: { kind: 'zeros' },
    })),
    ...(crowd === undefined ? [] : crowdVariables(model, personal, crowd)),
  ];
}

function crowdVariables(
  { tables }: ModelShape,
  personal: readonly Variable[],
  crowd: string,
): Variable[] {
  const table = tables.find(({ name }) => name === crowd);
  if (table === undefined) throw new Error(`the model has no category ${crowd}`);
  const count = personal.reduce((sum, { shape }) => sum + elementCountOf(shape), 0);
  return [CROWD_MODES, CROWD_VARIANCES].map((name) => ({
    ...{ name, shape: [table.rowCount, count], block: 'method' },
    ...{ initial: { kind: 'zeros' }, isFixed: true },
  }));
}

function normalPriorOf(
  dense: NamedTensors,
  personal: readonly string[],
  { innerRate, inputMeans, meanShrinkage }: Settings,
): NormalPrior {
  const valuesOf = (name: string): Float32Array => {
    const values = dense.get(name)?.values;
    if (values === undefined) throw new Error(`no variable ${name}`);
    return values;
  };
  const joined = (prefix: string): number[] =>
    personal.flatMap((name) => [...valuesOf(prefix + name)]);
  const means = Float32Array.from(joined(''));
  const sizes = personal.map((name) => valuesOf(name).length);
  const fieldCount = inputMeans ? valuesOf(MEAN_WEIGHT + at(personal, 0)).length / at(sizes, 0) : 0;
  const rowOf = (field: number): number[] =>
    personal.flatMap((name, place) => {
      const size = at(sizes, place);
      return [...valuesOf(MEAN_WEIGHT + name).subarray(field * size, (field + 1) * size)];
    });
  return {
    means,
    precisions: Float32Array.from(
      joined(DEVIATION),
      (value) => Math.exp(-2 * LOG_DEVIATION_SCALE * value) + PRECISION_MIN,
    ),
    fieldWeights: Float32Array.from(Array.from({ length: fieldCount }, (_, f) => rowOf(f)).flat()),
    ...{ fieldShrinkage: meanShrinkage, stepLengthMax: STEP_LENGTH_MAX },
    ...{ precisionMin: PRECISION_MIN, innerRate },
  };
}

/** A task without support rows has the means that all tasks share, a batch of trunk rows those of all batches. */
function priorMeans(tasks: AdaptingTasks, { meanShrinkage, inputMeans }: Settings): Blocks {
  const { tf, taskCount, personal, variable, repeatByTask } = tasks;
  const support = inputMeans ? tasks.supportFields() : null;
  const trunkFlags = tasks.trunkFlags();
  const { impressions } = tasks.supportTotals();
  const pooled =
    support === null
      ? null
      : tf.mul(
          tf.reshape(
            tf.matMul(tf.expandDims<tfjs.Tensor3D>(support.impressionShares, 1), support.fields),
            [taskCount, -1],
          ),
          tf.expandDims(tf.div(impressions, tf.add(impressions, meanShrinkage)), 1),
        );
  return Object.fromEntries(
    personal.map((name) => {
      const theta = variable(name);
      let shared = repeatByTask(theta);
      if (trunkFlags !== null) {
        const flags = tf.reshape(trunkFlags, [taskCount, ...theta.shape.map(() => 1)]);
        shared = tf.add(shared, tf.mul(flags, repeatByTask(variable(TRUNK_START + name))));
      }
      if (pooled === null) return [name, shared];
      const moved = tf.matMul(pooled, variable(MEAN_WEIGHT + name));
      return [name, tf.add(shared, tf.reshape(moved, [taskCount, ...theta.shape]))];
    }),
  );
}

function newtonStep(
  tasks: AdaptingTasks,
  { blocks, scaledGradients, rates, supportCurvature }: InnerStep,
  own: Settings,
): Blocks {
  const { tf, taskCount, personal, variable } = tasks;
  const { impressions } = tasks.supportTotals();
  const curvature = supportCurvature();
  const { innerRate } = own;
  const means = priorMeans(tasks, own);
  const joined = (of: (name: string) => tfjs.Tensor): tfjs.Tensor2D => sideBySide(tasks, of);
  const precisions = precisionsOf(tasks);
  const before = joined((name) => blockIn(blocks, name));
  const distances = tf.sub(
    before,
    joined((name) => blockIn(means, name)),
  );
  // Prior variances times a factor, with both sides multiplied by it.
  const slope = tf.add(
    tf.mul(
      joined((name) => blockIn(scaledGradients, name)),
      tf.expandDims(tf.div(impressions, innerRate), 1),
    ),
    tf.mul(precisions, distances),
  );
  const length = tasks.solve(
    precisionMatrices(tasks, { rates, supportCurvature: curvature }, innerRate),
    tf.expandDims<tfjs.Tensor3D>(slope, 2),
  );
  const furthest = tf.max(tf.abs(tf.matMul(curvature.slopes, length)), [1, 2]);
  const share = tf.div(STEP_LENGTH_MAX, tf.maximum(furthest, STEP_LENGTH_MAX));
  const after = tf.sub(before, tf.mul(tf.squeeze(length, [2]), tf.expandDims(share, 1)));
  let start = 0;
  return Object.fromEntries(
    personal.map((name) => {
      const { shape, size } = variable(name);
      const own = tf.slice(after, [0, start], [taskCount, size]);
      start += size;
      return [name, tf.reshape(own, [taskCount, ...shape])];
    }),
  );
}

/** The personal parameters of a task side by side, `[taskCount, count]`. */
function sideBySide(
  { tf, taskCount, personal }: AdaptingTasks,
  of: (name: string) => tfjs.Tensor,
): tfjs.Tensor2D {
  return tf.concat(
    personal.map((name) => tf.reshape<tfjs.Rank.R2>(of(name), [taskCount, -1])),
    1,
  );
}

/** The precisions of the prior, `[taskCount, count]`. */
function precisionsOf(tasks: AdaptingTasks): tfjs.Tensor2D {
  const { tf, variable, repeatByTask } = tasks;
  return sideBySide(tasks, (name) => {
    const learned = tf.exp(tf.mul(variable(DEVIATION + name), -2 * LOG_DEVIATION_SCALE));
    return repeatByTask(tf.add(learned, PRECISION_MIN));
  });
}

/** The precisions of the posterior times the factor of the prior variances, `[taskCount, count, count]`. */
function precisionMatrices(
  tasks: AdaptingTasks,
  { rates, supportCurvature }: Uncertainty,
  innerRate: number,
): tfjs.Tensor3D {
  const { tf } = tasks;
  const precisions = precisionsOf(tasks);
  const prior = tf.mul<tfjs.Tensor3D>(tf.eye(precisions.shape[1]), tf.expandDims(precisions, 1));
  if (supportCurvature === null) return prior;
  const { slopes, variances } = supportCurvature;
  const { impressions } = tasks.supportTotals();
  const weights = tf.mul(
    variances,
    tf.expandDims(tf.div(tf.mul(impressions, rates), innerRate), 1),
  );
  const weighted = tf.mul(slopes, tf.expandDims(weights, 2));
  const least = tf.mul(tf.sum(tf.mul(slopes, weighted), [1, 2], true), PRECISION_MIN);
  const evidence = tf.matMul(slopes, weighted, true);
  return tf.add(evidence, tf.add(prior, tf.mul(tf.eye(precisions.shape[1]), least)));
}

/** The diagonal of Laplace's covariance at the mode; without support rows these are the variances of the prior. */
function variancesOf(
  tasks: AdaptingTasks,
  at: Uncertainty,
  { innerRate }: Settings,
): tfjs.Tensor2D {
  const { tf, taskCount } = tasks;
  const precisions = precisionMatrices(tasks, at, innerRate);
  const identity = tf.eye(precisions.shape[1]);
  const columns = tf.tile(tf.expandDims<tfjs.Tensor3D>(identity, 0), [taskCount, 1, 1]);
  const covariances = tasks.solve(precisions, columns);
  const factors = tf.expandDims(tf.div(at.rates, innerRate), 1);
  return tf.mul(tf.sum<tfjs.Tensor2D>(tf.mul(covariances, identity), 2), factors);
}

function blockIn(blocks: Blocks, name: string): tfjs.Tensor {
  const block = blocks[name];
  if (block === undefined) throw new Error(`no block ${name}`);
  return block;
}
