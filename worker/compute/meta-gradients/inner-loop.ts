/**
 * The inner loop: each task takes its own steps on its support set with the trunk frozen, all tasks at once,
 *
 *   phi_i <- step(phi_i, innerRate * grad L(phi_i ; S_i))
 *
 * A task without support rows has no gradient.
 */

import type * as tfjs from '@tensorflow/tfjs';
import type { AdaptingTasks, InnerLoop } from '../../../shared/methods/inner-loop/inner-loop.js';
import type { Variables } from '../models/staged-pass.js';
import { adaptingTasksOf } from './adapting-tasks.js';
import { named, type TensorsByName } from './tensors-by-name.js';
import { logitsOf, lossesOf, withTrunk, type Pass, type RowsWithTrunk } from './passes.js';
import { supportBatchOf } from './support-batches.js';

/** Personal blocks by name, and with momentum each one's velocity as `velocity/NAME`. */
export type LoopState = TensorsByName;

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

/** An inner step of a loop. */
export interface StepAt {
  readonly loop: InnerLoop;
  /** From 0. */
  readonly stepIndex: number;
  /** The inner rate of each task, `[taskCount]`. */
  readonly rates: tfjs.Tensor1D;
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

/** The gradient of the support losses at given blocks; empty without personal blocks. */
export function supportGradient(
  rows: RowsWithTrunk,
  blocks: Variables,
  rates: tfjs.Tensor1D,
): SupportGradient {
  const { pass } = rows;
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
 * The scaled gradients of a step at a state, and the losses before it of the rows it sees.
 *
 * @param support all support rows.
 */
export function stepGradient(
  { loop, stepIndex, rates }: StepAt,
  support: RowsWithTrunk,
  state: LoopState,
): SupportGradient {
  const { supportBatches, proximalWeight } = loop.steps;
  const tasks = adaptingTasksOf(support.pass.job);
  const seen = supportBatchOf(support, supportBatches, stepIndex);
  const found = supportGradient(seen, blocksOf(tasks, state), rates);
  if (proximalWeight === undefined) return found;
  const { tf } = tasks;
  const start = startState(loop, tasks);
  const pull = tf.mul(rates, proximalWeight);
  const pulled = Object.entries(found.scaledGradients).map(([name, gradient]) => {
    const away = tf.sub(named(state, name), named(start, name));
    return [name, tf.add(gradient, tf.mul(away, byTask(tf, pull, away.rank)))];
  });
  return { ...found, scaledGradients: Object.fromEntries(pulled) as TensorsByName };
}

/** `[taskCount]` as factors of tensors `[taskCount, ...]`. */
export function byTask(tf: typeof tfjs, factors: tfjs.Tensor, rank: number): tfjs.Tensor {
  return tf.reshape(factors, [-1, ...Array.from({ length: rank - 1 }, () => 1)]);
}

interface Descended {
  readonly state: LoopState;
  /** Losses before the first step, of the rows it sees. */
  readonly losses: tfjs.Tensor1D;
}

/** The state after all inner steps on the rows of a pass. */
export function descended(loop: InnerLoop, pass: Pass, start: LoopState): Descended {
  const tasks = adaptingTasksOf(pass.job);
  const { tf } = tasks;
  const rows = withTrunk(pass);
  const rates = ratesOf(loop, tasks);
  let state = start;
  let losses: tfjs.Tensor1D | null = null;
  for (let stepIndex = 0; stepIndex < loop.steps.count; stepIndex += 1) {
    const step: StepAt = { loop, stepIndex, rates };
    // The tidy frees everything that a step makes beside its results.
    const moved: Descended = tf.tidy(() => {
      const found = stepGradient(step, rows, state);
      return {
        state: steppedState(step, tasks, state, found.scaledGradients),
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
  { loop, stepIndex, rates }: StepAt,
  tasks: AdaptingTasks,
  state: LoopState,
  scaledGradients: TensorsByName,
): LoopState {
  const { tf, personal } = tasks;
  const { momentum, count } = loop.steps;
  if (personal.length === 0) return state;
  const velocities =
    momentum === 0
      ? scaledGradients
      : Object.fromEntries(
          personal.map((name) => {
            const before = state[VELOCITY + name];
            const gradient = named(scaledGradients, name);
            return [
              name,
              before === undefined ? gradient : tf.add(tf.mul(before, momentum), gradient),
            ];
          }),
        );
  const blocks = Object.fromEntries(personal.map((name) => [name, named(state, name)]));
  const ownIndex = Math.min(stepIndex, count - 1);
  const step = { blocks, scaledGradients: velocities, rates, stepIndex: ownIndex };
  const moved =
    loop.step?.blocksAfter(tasks, step) ??
    Object.fromEntries(
      personal.map((name) => [name, tf.sub(named(blocks, name), named(velocities, name))]),
    );
  if (momentum === 0) return moved;
  return {
    ...moved,
    ...Object.fromEntries(personal.map((name) => [VELOCITY + name, named(velocities, name)])),
  };
}
