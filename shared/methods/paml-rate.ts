/**
 * User-adaptive meta-learning (Yu et al., AAAI 2021): the inner rate of a task is that of tasks like
 * it, so that the many small tasks are not stepped at the pace of the few large ones,
 *
 *   phi_i <- phi_i - innerRate * r(h_i) .* grad L(phi_i ; S_i)
 *   r(h)  =  r~ + leafRateScale * sum over leaves l of  P_l(h) r_l      by personal block
 *
 * h_i are features of the task: how many impressions its support set has, their click rate, and what
 * attributes are named. Similar tasks are those that a tree sends to the same leaf; its branches are
 * soft, P_l(h) the product of sigmoid(w_j' h + b_j) along the way (Jordan and Jacobs, 1994), so that
 * they are learned with the rates in the outer loop. 2^depth leaves are all that is kept of any number
 * of tasks. At the beginning r~ = 1 and every r_l = 0: MAML.
 */

import type * as tfjs from '@tensorflow/tfjs';
import { z } from 'zod';
import type { Variable } from '../tensors/variable.js';
import { moved } from './inner-loop/inner-rates.js';
import {
  adaptationBy,
  derivativeBy,
  innerLoopSettings,
  orderSettings,
} from './inner-loop/inner-loop-settings.js';
import type { AdaptingTasks } from './inner-loop/inner-loop.js';
import { defineMethod, type ModelShape } from './inner-loop/method.js';
import { blockOf } from './inner-loop/personal-blocks.js';
import {
  requireFeatures,
  SUPPORT_FEATURE_COUNT,
  supportFeatures,
} from './inner-loop/support-features.js';

/** Branches and leaves start at random: leaves with equal shares would learn the same. */
const INITIAL_BRANCH_DEVIATION = 1;

export const pamlRate = defineMethod({
  settings: z.strictObject({
    kind: z.literal('paml-rate'),
    ...innerLoopSettings,
    ...orderSettings,
    treeDepth: z
      .int()
      .min(1)
      .max(8)
      .default(3)
      .describe('Depth of the tree, which has 2^depth leaves.'),
    leafRateScale: z
      .number()
      .positive()
      .max(1000)
      .default(1)
      .describe(
        'How far an outer step moves the rate of a leaf, divided by how far it moves the shared rate.',
      ),
    attributes: z
      .array(z.string().min(1))
      .default([])
      .describe('Features that all rows of a task share; their embeddings are task features.'),
  }),
  planOf: ({ treeDepth, leafRateScale, attributes, ...loop }) => ({
    ...adaptationBy(loop, {
      reads: {
        supportTotals: true,
        ...(attributes.length === 0 ? {} : { attributes: true as const }),
      },
      step: {
        blocksAfter: (tasks, step) => {
          const shares = tasks.tf.mul<tfjs.Tensor2D>(
            leafShares(tasks, taskFeatures(tasks, attributes), treeDepth),
            leafRateScale,
          );
          return moved(tasks, step, (name, gradient) => {
            const rate = rateOf(tasks, shares, blockOf(name));
            const byTask = [tasks.taskCount, ...gradient.shape.slice(1).map(() => 1)];
            return tasks.tf.mul(gradient, tasks.tf.reshape(rate, byTask));
          });
        },
        differsByStep: false,
      },
    }),
    outer: derivativeBy(loop),
    variables: (model) => {
      requireFeatures(model, attributes, 'method.attributes');
      return treeVariables(model, treeDepth, attributes.length);
    },
  }),
});

/** `[taskCount, featureCount]`, each of the order of 1. */
function taskFeatures(tasks: AdaptingTasks, attributes: readonly string[]): tfjs.Tensor2D {
  const parts = [supportFeatures(tasks)];
  if (attributes.length > 0) parts.push(tasks.attributes(attributes));
  return tasks.tf.concat(parts, 1);
}

/** The share of each leaf in each task, `[taskCount, 2^depth]`; rows sum to 1. */
function leafShares(
  { tf, taskCount, variable }: AdaptingTasks,
  features: tfjs.Tensor2D,
  depth: number,
): tfjs.Tensor2D {
  const weights = variable('tree.weight') as tfjs.Tensor2D;
  const logits = tf.add(tf.matMul(features, weights), variable('tree.bias'));
  const right = tf.sigmoid(logits);
  let shares = tf.ones<tfjs.Rank.R2>([taskCount, 1]);
  for (let level = 0; level < depth; level += 1) {
    const count = 2 ** level;
    // Branches lie level by level, each from left to right.
    const ofLevel = tf.slice(right, [0, count - 1], [taskCount, count]);
    const sides = [tf.mul(shares, tf.sub(1, ofLevel)), tf.mul(shares, ofLevel)];
    shares = tf.reshape(tf.stack(sides, 2), [taskCount, 2 * count]);
  }
  return shares;
}

/** `[taskCount, 1]`; `shares` times the leaves' scale. */
function rateOf(
  { tf, variable }: AdaptingTasks,
  shares: tfjs.Tensor2D,
  block: string,
): tfjs.Tensor {
  const leaves = tf.reshape<tfjs.Rank.R2>(variable(`leafRates/${block}`), [shares.shape[1], 1]);
  return tf.add(tf.matMul(shares, leaves), variable(`rates/${block}`));
}

function treeVariables(model: ModelShape, depth: number, attributeCount: number): Variable[] {
  const featureCount = SUPPORT_FEATURE_COUNT + attributeCount * model.tableRowWidth;
  const branchCount = 2 ** depth - 1;
  const normal = { kind: 'normal', deviation: INITIAL_BRANCH_DEVIATION } as const;
  const constant = (value: number) => ({ kind: 'constant', value }) as const;
  const personal = model.variables.filter(({ block }) => block === 'personal');
  const ofMethod = (
    name: string,
    shape: readonly number[],
    initial: Variable['initial'],
  ): Variable => ({ name, shape, block: 'method', initial });
  return [
    ofMethod('tree.weight', [featureCount, branchCount], normal),
    ofMethod('tree.bias', [branchCount], normal),
    ...[...new Set(personal.map(({ name }) => blockOf(name)))].flatMap((block) => [
      ofMethod(`rates/${block}`, [1], constant(1)),
      ofMethod(`leafRates/${block}`, [2 ** depth], constant(0)),
    ]),
  ];
}
