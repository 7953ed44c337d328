/**
 * The inner loop: each task takes its own steps on its support set with the trunk frozen, all tasks at once,
 *
 *   phi_i <- step(phi_i, innerRate * grad L(phi_i ; S_i))
 *
 * A task without support rows has no gradient.
 */

import type * as tfjs from '@tensorflow/tfjs';
import type {
  AdaptingTasks,
  InnerLoop,
  InnerStep,
} from '../../../shared/methods/inner-loop/inner-loop.js';
import type { Variables } from '../models/variables.js';
import { adaptingTasksOf } from './adapting-tasks.js';
import { named, type TensorsByName } from './tensors-by-name.js';
import { logitsOf, lossesOf, type RowsWithTrunk } from './passes.js';

/** Personal blocks by name. */
export type LoopState = TensorsByName;

export function blocksOf({ personal }: AdaptingTasks, state: LoopState): Variables {
  return new Map(personal.map((name) => [name, named(state, name)]));
}

export function startState(loop: InnerLoop, tasks: AdaptingTasks): LoopState {
  if (loop.start !== undefined) return loop.start(tasks);
  return Object.fromEntries(
    tasks.personal.map((name) => [name, tasks.repeatByTask(tasks.variable(name))]),
  );
}

interface SupportGradient {
  /** Rate times the gradient of each task's support loss, by personal variable. */
  readonly scaledGradients: TensorsByName;
  /** Losses before the step, `[taskCount]`. */
  readonly losses: tfjs.Tensor1D;
}

/** The rate of a loop for every task, `[taskCount]`. */
export function ratesOf({ steps }: InnerLoop, { tf, taskCount }: AdaptingTasks): tfjs.Tensor1D {
  return tf.fill<tfjs.Rank.R1>([taskCount], steps.rate);
}

/**
 * The scaled gradients of a step at a state, and the losses before it. Without personal blocks there are no gradients.
 *
 * @param rates the inner rate of each task, `[taskCount]`
 */
export function stepGradient(
  rows: RowsWithTrunk,
  state: LoopState,
  rates: tfjs.Tensor1D,
): SupportGradient {
  const { pass } = rows;
  const blocks = blocksOf(adaptingTasksOf(pass.job), state);
  const { tf } = pass.job.engine;
  const names = [...blocks.keys()];
  if (names.length === 0)
    return { scaledGradients: {}, losses: lossesOf(pass, logitsOf(rows, blocks)) };
  // The rate multiplies the loss: one number per task instead of a product per variable.
  const { value, grads } = tf.valueAndGrads((...tensors: tfjs.Tensor[]) => {
    const own = new Map(names.map((name, index) => [name, tensors[index] as tfjs.Tensor]));
    return lossesOf(pass, logitsOf(rows, own));
  })([...blocks.values()], rates);
  return {
    scaledGradients: Object.fromEntries(names.map((name, index) => [name, grads[index]])) as {
      [name: string]: tfjs.Tensor;
    },
    losses: value,
  };
}

/**
 * The state after a step along given gradients.
 *
 * @param rates the inner rate of each task, `[taskCount]`
 */
export function steppedState(
  loop: InnerLoop,
  tasks: AdaptingTasks,
  state: LoopState,
  { scaledGradients, rates }: Pick<InnerStep, 'scaledGradients' | 'rates'>,
): LoopState {
  const { tf, personal } = tasks;
  if (personal.length === 0) return state;
  const blocks = Object.fromEntries(personal.map((name) => [name, named(state, name)]));
  return (
    loop.step?.(tasks, { blocks, scaledGradients, rates }) ??
    Object.fromEntries(
      personal.map((name) => [name, tf.sub(named(blocks, name), named(scaledGradients, name))]),
    )
  );
}
