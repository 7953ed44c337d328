/**
 * A custom method in its own file: MAML of second order (Finn, Abbeel and Levine, ICML 2017), whose
 * outer gradient runs through the inner steps.
 *
 *   phi_i(theta) = theta after innerSteps steps on S_i        (personal blocks; the trunk stays)
 *   g            = sum_i w_i * d/dtheta L(phi_i(theta) ; Q_i)
 *
 * With `stepNormMax`, a task's step on a block is at most that long, so that a task with few,
 * unusual rows cannot diverge.
 *
 *   qianmo train run.yaml --plugin maml.js
 */

import { adaptationBy, defineMethod, innerLoopSettings, z } from 'qianmo/plugin';

export default defineMethod({
  settings: z.strictObject({
    kind: z.literal('maml'),
    ...innerLoopSettings,
    stepNormMax: z
      .number()
      .positive()
      .optional()
      .describe("Maximum length of a task's step on a block; without it, steps have any length."),
  }),
  planOf: ({ stepNormMax, ...settings }) => ({
    ...adaptationBy(settings, stepNormMax === undefined ? {} : { step: clippedTo(stepNormMax) }),
    outer: { kind: 'derivative', order: 'second' },
  }),
});

/** The step of a method: each task's own is clipped, block by block, `[taskCount, ...shape]`. */
function clippedTo(normMax) {
  return ({ tf }, { blocks, scaledGradients }) =>
    Object.fromEntries(
      Object.entries(scaledGradients).map(([name, step]) => {
        const axes = step.shape.slice(1).map((_, axis) => axis + 1);
        const norms = tf.sqrt(tf.add(tf.sum(tf.square(step), axes, true), 1e-12));
        const clipped = tf.mul(step, tf.div(normMax, tf.maximum(norms, normMax)));
        return [name, tf.sub(blocks[name], clipped)];
      }),
    );
}
