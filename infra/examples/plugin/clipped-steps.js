/**
 * A custom method in its own file: MAML whose inner steps are clipped. The step of a task on a
 * block is at most `stepNormMax` long, so that a task with few, unusual rows cannot diverge.
 *
 *   d     = innerRate * grad L(phi_i ; S_i)
 *   phi_i <- phi_i - d * min(1, stepNormMax / |d|)      block by block
 *
 *   qianmo train run.yaml --plugin clipped-steps.js
 */

import {
  adaptationBy,
  defineMethod,
  derivativeBy,
  innerLoopSettings,
  orderSettings,
  z,
} from 'qianmo/plugin';

export default defineMethod({
  settings: z.strictObject({
    kind: z.literal('clipped-steps'),
    ...innerLoopSettings,
    ...orderSettings,
    stepNormMax: z
      .number()
      .positive()
      .default(1)
      .describe("Maximum length of a task's step on a block."),
  }),
  planOf: (settings) => ({
    ...adaptationBy(settings, {
      step: ({ tf }, { blocks, scaledGradients }) =>
        Object.fromEntries(
          Object.entries(blocks).map(([name, block]) => [
            name,
            tf.sub(block, clipped(tf, scaledGradients[name], settings.stepNormMax)),
          ]),
        ),
    }),
    outer: derivativeBy(settings),
  }),
});

/** @param steps `[taskCount, ...shape]`; each task's step is clipped separately. */
function clipped(tf, steps, normMax) {
  const axes = steps.shape.slice(1).map((_, axis) => axis + 1);
  const norms = tf.sqrt(tf.add(tf.sum(tf.square(steps), axes, true), 1e-12));
  return tf.mul(steps, tf.div(normMax, tf.maximum(norms, normMax)));
}
