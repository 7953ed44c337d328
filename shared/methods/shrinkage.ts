/**
 * Shrinkage by evidence: empirical Bayes on the personal blocks. A task's blocks are the posterior mode
 * under a normal prior around the meta-parameters, whose precision is learned for each parameter,
 *
 *   phi_i = argmin  n_i L(phi ; S_i) + 1/2 sum_p lambda_p (phi_p - theta_p)^2
 *
 * sought by steps that are preconditioned with what evidence and prior say of the curvature,
 *
 *   phi <- phi - innerRate * (n_i grad L + lambda (phi - theta)) / (n_i c v_i + lambda)
 *
 * with n_i the impressions of the support set, v_i = q_i (1 - q_i) the variance of a click at its
 * smoothed click rate q_i (1 of a value), and c a learned curvature factor for each parameter. So a task with few rows
 * moves little and one with many goes all the way, by one rule that has no rate to tune: for a bias it
 * is the empirical-Bayes level shift. The prior is that of hierarchical regression (Gelman et al.,
 * Bayesian Data Analysis, chapter 5); MAML is its limit of early stopping (Grant et al., ICLR 2018).
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
import {
  labelVariances,
  type AdaptingTasks,
  type Blocks,
  type InnerStep,
} from './inner-loop/inner-loop.js';
import { defineMethod } from './inner-loop/method.js';
import { blockOf, unknownBlockMisfits } from './inner-loop/personal-blocks.js';
import { SMOOTHING } from './inner-loop/support-features.js';

const PRECISION = 'shrinkage.precision/';
const CURVATURE = 'shrinkage.curvature/';
/** Logarithm of a precision or curvature over its variable: a step of Adam moves it by a few percent. */
const LOG_SCALE = 10;

const scale = z.number().positive().max(1e6);
const scaleByBlock = z.union([scale, z.record(z.string(), scale)]);
const PRIOR_DEVIATION = 0.5;
const CURVATURE_OVER_BIAS = 1;

export const shrinkage = defineMethod({
  settings: z.strictObject({
    kind: z.literal('shrinkage'),
    ...innerLoopSettings,
    innerRate: innerLoopSettings.innerRate
      .unwrap()
      .default(1)
      .describe('The rate of the inner steps.'),
    ...orderSettings,
    priorDeviation: scaleByBlock
      .default(PRIOR_DEVIATION)
      .describe(
        'Prior standard deviation of personal parameters before training: one number for all, or one by personal block, as in `{ output: 2 }`, and the default for the others.',
      ),
    curvature: scaleByBlock
      .default(CURVATURE_OVER_BIAS)
      .describe(
        'Curvature of the loss in a parameter divided by that in the bias, before training: one number for all, or one by personal block.',
      ),
  }),
  planOf: (settings) => ({
    ...adaptationBy(settings, {
      reads: { supportTotals: true },
      step: blocksAfter,
    }),
    outer: derivativeBy(settings),
    variables: ({ variables }) =>
      variables
        .filter(({ block }) => block === 'personal')
        .flatMap(({ name, shape }): Variable[] => {
          const deviation = scaleOf(settings.priorDeviation, name) ?? PRIOR_DEVIATION;
          const precision = -2 * Math.log(deviation);
          const curvature = Math.log(scaleOf(settings.curvature, name) ?? CURVATURE_OVER_BIAS);
          const constant = (value: number) => ({ kind: 'constant', value }) as const;
          return [
            {
              name: PRECISION + name,
              shape,
              block: 'method',
              initial: constant(precision / LOG_SCALE),
            },
            {
              name: CURVATURE + name,
              shape,
              block: 'method',
              initial: constant(curvature / LOG_SCALE),
            },
          ];
        }),
  }),
  misfitsOf: ({ priorDeviation, curvature }, { personal }) =>
    Object.entries({ priorDeviation, curvature }).flatMap(([setting, scales]) =>
      typeof scales === 'number' ? [] : unknownBlockMisfits(setting, scales, personal),
    ),
});

/** Undefined where the variable's block is not named. */
function scaleOf(scales: z.infer<typeof scaleByBlock>, name: string): number | undefined {
  return typeof scales === 'number' ? scales : scales[blockOf(name)];
}

function blocksAfter(tasks: AdaptingTasks, { blocks, scaledGradients, rates }: InnerStep): Blocks {
  const { tf, personal, variable, repeatByTask } = tasks;
  const totals = tasks.supportTotals();
  const { impressions } = totals;
  const variances = labelVariances(tf, totals, SMOOTHING);
  const moved = personal.map((name): [string, tfjs.Tensor] => {
    const block = blocks[name];
    const gradient = scaledGradients[name];
    if (block === undefined || gradient === undefined) throw new Error(`no block ${name}`);
    /** One number per task, to be multiplied with the block. */
    const byTask = (x: tfjs.Tensor): tfjs.Tensor =>
      tf.reshape(x, [tasks.taskCount, ...block.shape.slice(1).map(() => 1)]);
    const precision = repeatByTask(tf.exp(tf.mul(variable(PRECISION + name), LOG_SCALE)));
    const curvature = repeatByTask(tf.exp(tf.mul(variable(CURVATURE + name), LOG_SCALE)));
    const pull = tf.mul(precision, tf.sub(block, repeatByTask(variable(name))));
    const slope = tf.add(tf.mul(byTask(impressions), gradient), tf.mul(byTask(rates), pull));
    const evidence = tf.mul(byTask(tf.mul(impressions, variances)), curvature);
    return [name, tf.sub(block, tf.div(slope, tf.add(evidence, precision)))];
  });
  return Object.fromEntries(moved);
}
