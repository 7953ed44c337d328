/**
 * A learned update rule in the inner loop (after Wang et al., CIKM 2021; the same form as the rule for
 * streams in `shared/streaming`), with G the scaled gradient of one personal variable, all entries:
 *
 *   phi_i <- phi_i - (r(evidence_i) G + Q Q^T G)
 *
 * r is piecewise linear in log2(1 + evidence), a value per knot learned in the outer loop, 1 at first;
 * the evidence of a task is the Fisher information of its support labels, `4 n c (1 - c)` with n their
 * impressions and c = (clicks + 1/2) / (n + 1); of values `4 n`. Q, `[entries, rank]`, smooths over the variable's
 * entries: P F of the low-rank part P M P^T with M = F F^T. All tasks share r and Q.
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
import { labelVariances, type AdaptingTasks, type InnerLoop } from './inner-loop/inner-loop.js';
import { defineMethod, type MethodPlan, type ModelShape } from './inner-loop/method.js';

/** Knots lie at evidence 2^0 - 1, 2^2 - 1, 2^4 - 1, ... */
const KNOT_COUNT = 6;
const KNOT_DOUBLINGS = 2;
/** The counts from which the click rate of the evidence starts. */
const SMOOTHING = { clicks: 0.5, impressions: 1 };
/** Q Q^T starts far below r, and not at 0, where its gradient is 0. */
const INITIAL_ASSOCIATION_DEVIATION = 0.02;

export const learnedRule = defineMethod({
  settings: z.strictObject({
    kind: z.literal('learned-rule'),
    ...innerLoopSettings,
    ...orderSettings,
    order: orderSettings.order.default('second'),
    rank: z
      .int()
      .min(0)
      .max(64)
      .default(4)
      .describe('Rank of the part of the update that couples parameters; 0 leaves it out.'),
  }),
  planOf: ({ rank, ...loop }) => {
    const { variables, ...stepping } = learnedRuleStep(rank);
    return { ...adaptationBy(loop, stepping), outer: derivativeBy(loop), variables };
  },
});

/** The rule as the step of any method with an inner loop, and the variables that hold it. */
function learnedRuleStep(
  rank: number,
): Required<Pick<InnerLoop, 'reads' | 'step'> & Pick<MethodPlan, 'variables'>> {
  return {
    reads: { supportTotals: true },
    step: {
      blocksAfter: (tasks, step) => {
        const weights = knotWeights(tasks);
        return moved(tasks, step, (name, gradient) =>
          byRule(tasks, { name, rank }, gradient, weights),
        );
      },
      differsByStep: false,
    },
    variables: (model) => ruleVariables(model, rank),
  };
}

/** Share of each knot in r, `[taskCount, KNOT_COUNT]`. */
function knotWeights({ tf, supportTotals }: AdaptingTasks): tfjs.Tensor {
  const totals = supportTotals();
  const variances = labelVariances(tf, totals, SMOOTHING);
  const evidence = tf.mul(tf.mul(totals.impressions, 4), variances);
  const doublings = tf.div(tf.log(tf.add(evidence, 1)), Math.LN2 * KNOT_DOUBLINGS);
  const place = tf.reshape(tf.minimum(doublings, KNOT_COUNT - 1), [-1, 1]);
  const shares = Array.from({ length: KNOT_COUNT }, (_, knot) =>
    tf.relu(tf.sub(1, tf.abs(tf.sub(place, knot)))),
  );
  return tf.concat(shares, 1);
}

/** The update that is subtracted from a variable: `r G + Q Q^T G`, `[taskCount, ...shape]`. */
function byRule(
  { tf, taskCount, variable }: AdaptingTasks,
  { name, rank }: { readonly name: string; readonly rank: number },
  gradient: tfjs.Tensor,
  weights: tfjs.Tensor,
): tfjs.Tensor {
  const flat = tf.reshape<tfjs.Rank.R2>(gradient, [taskCount, -1]);
  const factor = tf.matMul(weights, tf.reshape(variable(`rule/${name}`), [KNOT_COUNT, 1]));
  let rated = tf.mul<tfjs.Tensor2D>(flat, factor);
  if (rank > 0) {
    const association = variable(`association/${name}`);
    const projected = tf.matMul(flat, association);
    rated = tf.add(rated, tf.matMul(projected, association, false, true));
  }
  return tf.reshape(rated, gradient.shape);
}

function ruleVariables(model: ModelShape, rank: number): Variable[] {
  return model.variables
    .filter(({ block }) => block === 'personal')
    .flatMap(({ name, shape }): Variable[] => {
      const knots: Variable = {
        name: `rule/${name}`,
        shape: [KNOT_COUNT],
        block: 'method',
        initial: { kind: 'constant', value: 1 },
      };
      if (rank === 0) return [knots];
      const entryCount = shape.reduce((product, size) => product * size, 1);
      const initial = { kind: 'normal', deviation: INITIAL_ASSOCIATION_DEVIATION } as const;
      return [
        knots,
        { name: `association/${name}`, shape: [entryCount, rank], block: 'method', initial },
      ];
    });
}
