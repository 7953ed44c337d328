/**
 * The inner loop: every task's own steps on its support set, all tasks at once, the trunk frozen,
 *
 *   phi_i <- step(phi_i, innerRate * grad L(phi_i ; S_i))
 *
 * A task without support rows has no gradient.
 */

import type * as tfjs from '@tensorflow/tfjs';
import type { AdaptingTasks, InnerLoop } from '../../../shared/methods/inner-loop/method.js';
import type { Variables } from '../models/fields.js';
import type { TrunkPass } from '../models/staged-pass.js';
import { adaptingTasksOf } from './adapting-tasks.js';
import { named, type NamedTensors } from './named-tensors.js';
import { logitsOf, lossesOf, trunkOf, type Pass } from './passes.js';
import { supportBatchOf } from './support-batches.js';

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

/**
 * The scaled gradients of a step at a state, and the losses, before it, of the rows it sees.
 *
 * @param shared the trunk pass of all rows of the pass.
 */
export function stepGradient(
  loop: InnerLoop,
  pass: Pass,
  shared: TrunkPass,
  state: LoopState,
  rates: tfjs.Tensor1D,
  stepIndex: number,
): SupportGradient {
  const tasks = adaptingTasksOf(pass.job);
  const seen = supportBatchOf(pass, shared, loop.supportBatches ?? 1, stepIndex);
  const found = supportGradient(seen.pass, seen.shared, blocksOf(tasks, state), rates);
  if (loop.proximalWeight === undefined) return found;
  const { tf } = tasks;
  const start = startState(loop, tasks);
  const pull = tf.mul(rates, loop.proximalWeight);
  const pulled = Object.entries(found.scaledGradients).map(([name, gradient]) => {
    const away = tf.sub(named(state, name), named(start, name));
    return [name, tf.add(gradient, tf.mul(away, byTask(tf, pull, away.rank)))];
  });
  return { ...found, scaledGradients: Object.fromEntries(pulled) as NamedTensors };
}

/** `[taskCount]` as factors of tensors `[taskCount, ...]`. */
export function byTask(tf: typeof tfjs, factors: tfjs.Tensor, rank: number): tfjs.Tensor {
  return tf.reshape(factors, [-1, ...Array.from({ length: rank - 1 }, () => 1)]);
}

export interface Descended {
  readonly state: LoopState;
  /** Of the rows that the first step sees, before it. */
  readonly losses: tfjs.Tensor1D;
}

/** The state after all inner steps on the rows of a pass. */
export function descended(loop: InnerLoop, pass: Pass, start: LoopState): Descended {
  const tasks = adaptingTasksOf(pass.job);
  const { tf } = tasks;
  const shared = trunkOf(pass);
  const rates = ratesOf(loop, tasks);
  let state = start;
  let losses: tfjs.Tensor1D | null = null;
  for (let step = 0; step < loop.innerSteps; step += 1) {
    // What a step made beside its results goes with it.
    const moved: Descended = tf.tidy(() => {
      const found = stepGradient(loop, pass, shared, state, rates, step);
      return {
        state: steppedState(loop, tasks, state, found.scaledGradients, rates, step),
        losses: found.losses,
      };
    });
    losses ??= moved.losses;
    state = moved.state;
  }
  if (losses === null) throw new Error('an inner loop has steps');
  return { state, losses };
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
  const ownIndex = Math.min(stepIndex, loop.innerSteps - 1);
  const step = { blocks, scaledGradients: velocities, rates, stepIndex: ownIndex };
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
