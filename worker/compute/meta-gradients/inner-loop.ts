/**
 * The inner loop: every task's own steps on its support set, all tasks at once, the trunk frozen,
 *
 *   phi_i <- step(phi_i, innerRate * grad L(phi_i ; S_i))
 *
 * A task without support rows has no gradient.
 */

import type * as tfjs from '@tensorflow/tfjs';
import type { AdaptingTasks, InnerLoop } from '../../../shared/methods/method.js';
import type { Variables } from '../models/fields.js';
import type { TrunkPass } from '../models/forward.js';
import { named, type NamedTensors } from './named-tensors.js';
import { logitsOf, lossesOf, type Pass } from './passes.js';

/** Personal blocks by name, and with momentum each one's velocity as `velocity/NAME`. */
export type LoopState = NamedTensors;

const VELOCITY = 'velocity/';

export function blocksOf({ personal }: AdaptingTasks, state: LoopState): Variables {
  return new Map(personal.map((name) => [name, named(state, name)]));
}

export function startState(loop: InnerLoop, tasks: AdaptingTasks): LoopState {
  if (loop.start !== undefined) return loop.start(tasks);
  return Object.fromEntries(
    tasks.personal.map((name) => [name, tasks.repeatByTask(tasks.variable(name))]),
  );
}

export interface SupportGradient {
  /** Rate times the gradient of each task's support loss, by personal variable. */
  readonly scaledGradients: NamedTensors;
  /** Losses before the step, `[taskCount]`. */
  readonly losses: tfjs.Tensor1D;
}

/** The rate of a loop for every task, `[taskCount]`. */
export function ratesOf({ innerRate }: InnerLoop, { tf, taskCount }: AdaptingTasks): tfjs.Tensor1D {
  return tf.fill<tfjs.Rank.R1>([taskCount], innerRate);
}

/** The gradient of the support losses at a state; without personal blocks, of nothing. */
export function supportGradient(
  pass: Pass,
  shared: TrunkPass,
  blocks: Variables,
  rates: tfjs.Tensor1D,
): SupportGradient {
  const { tf } = pass.job.engine;
  const names = [...blocks.keys()];
  if (names.length === 0)
    return { scaledGradients: {}, losses: lossesOf(pass, logitsOf(pass, shared, blocks)) };
  // The rate rides on the loss: one number per task instead of a product per variable.
  const { value, grads } = tf.valueAndGrads((...tensors: tfjs.Tensor[]) => {
    const own = new Map(names.map((name, index) => [name, tensors[index] as tfjs.Tensor]));
    return lossesOf(pass, logitsOf(pass, shared, own));
  })([...blocks.values()], rates);
  return {
    scaledGradients: Object.fromEntries(names.map((name, index) => [name, grads[index]])) as {
      [name: string]: tfjs.Tensor;
    },
    losses: value,
  };
}

/** The state after a step along given gradients. */
export function steppedState(
  loop: InnerLoop,
  tasks: AdaptingTasks,
  state: LoopState,
  scaledGradients: NamedTensors,
  rates: tfjs.Tensor1D,
  stepIndex: number,
): LoopState {
  const { tf, personal } = tasks;
  if (personal.length === 0) return state;
  const velocities =
    loop.momentum === 0
      ? scaledGradients
      : Object.fromEntries(
          personal.map((name) => {
            const before = state[VELOCITY + name];
            const gradient = named(scaledGradients, name);
            return [
              name,
              before === undefined ? gradient : tf.add(tf.mul(before, loop.momentum), gradient),
            ];
          }),
        );
  const blocks = Object.fromEntries(personal.map((name) => [name, named(state, name)]));
  const step = { blocks, scaledGradients: velocities, rates, stepIndex };
  const moved =
    loop.step?.(tasks, step) ??
    Object.fromEntries(
      personal.map((name) => [name, tf.sub(named(blocks, name), named(velocities, name))]),
    );
  if (loop.momentum === 0) return moved;
  return {
    ...moved,
    ...Object.fromEntries(personal.map((name) => [VELOCITY + name, named(velocities, name)])),
  };
}
