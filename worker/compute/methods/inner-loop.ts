/**
 * The inner loop: gradient descent of every task on its own support set, all tasks at once,
 *
 *   phi_i <- phi_i - innerRate * grad L(phi_i ; S_i)
 *
 * with the trunk frozen. A task without support rows keeps its initial blocks.
 */

import type * as tfjs from '@tensorflow/tfjs';
import { variableOf, type Variables } from '../models/fields.js';
import type { TrunkPass } from '../models/forward.js';
import { logitsOf, lossesOf, type Pass } from './method.js';

export interface InnerStep {
  readonly personal: Variables;
  /** Losses before the step, `[taskCount]`. */
  readonly losses: tfjs.Tensor1D;
}

/**
 * Does one inner step from `personal`; without personal blocks there is nothing to move.
 *
 * @param innerRate of all tasks, or one for each: `[taskCount]`.
 */
export function innerStep(
  pass: Pass,
  shared: TrunkPass,
  personal: Variables,
  innerRate: number | tfjs.Tensor1D,
): InnerStep {
  const { tf } = pass.job.engine;
  const names = [...pass.plan.personal];
  if (names.length === 0)
    return { personal, losses: lossesOf(pass, logitsOf(pass, shared, personal)) };
  // The rate rides on the loss: one number per task instead of a product per variable.
  const rates =
    typeof innerRate === 'number'
      ? tf.fill<tfjs.Rank.R1>([pass.job.taskCount], innerRate)
      : innerRate;
  const { value, grads } = tf.valueAndGrads((...blocks: tfjs.Tensor[]) => {
    const own = new Map(names.map((name, index) => [name, blocks[index] as tfjs.Tensor]));
    return lossesOf(pass, logitsOf(pass, shared, own));
  })(
    names.map((name) => variableOf(personal, name)),
    rates,
  );
  const moved = names.map((name, index): [string, tfjs.Tensor] => {
    const gradient = grads[index];
    if (gradient === undefined) throw new Error(`no gradient of ${name}`);
    return [name, tf.sub(variableOf(personal, name), gradient)];
  });
  return { personal: new Map(moved), losses: value };
}
