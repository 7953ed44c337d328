/**
 * CAVIA (Zintgraf, Shiarli, Kurin, Hofmann and Whiteson, ICML 2019): a context vector, an input
 * beside the features, is all that a task adapts. It starts at 0; the outer loop learns everything else.
 *
 *   z_i = 0, then innerSteps times  z_i <- z_i - innerRate * grad_z L(theta, z_i ; S_i)
 *   g   = sum_i w_i * d/dtheta L(theta, z_i(theta) ; Q_i)
 *
 * The context vector is the model's adgroup embedding.
 */

import { z } from 'zod';
import {
  adaptationBy,
  derivativeBy,
  innerLoopSettings,
  orderSettings,
} from './inner-loop/inner-loop-settings.js';
import { defineMethod } from './inner-loop/method.js';

const CONTEXT = 'adgroupEmbedding';

export const cavia = defineMethod({
  settings: z.strictObject({
    kind: z.literal('cavia'),
    ...innerLoopSettings,
    ...orderSettings,
    order: orderSettings.order.default('second'),
  }),
  planOf: (settings) => ({
    ...adaptationBy(settings, {
      start: ({ tf, taskCount, personal, variable }) =>
        Object.fromEntries(
          personal.map((name) => [name, tf.zeros([taskCount, ...variable(name).shape])]),
        ),
    }),
    outer: derivativeBy(settings),
  }),
  misfitsOf: (_, { personal }) =>
    personal.length === 1 && personal[0] === CONTEXT
      ? []
      : [
          {
            path: ['kind'],
            message: `cavia adapts a context vector alone: set model.${CONTEXT}: true and model.personal: [${CONTEXT}]`,
          },
        ],
});
