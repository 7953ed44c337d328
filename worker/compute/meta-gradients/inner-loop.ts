/**
 * The inner loop: each task takes its own steps on its support set with the trunk frozen, all tasks at once,
 *
 *   phi_i <- step(phi_i, innerRate * grad L(phi_i ; S_i))
 *
 * A task without support rows has no gradient. Methods see the tasks as `shared/methods/inner-loop/inner-loop.ts` states.
 */

import type * as tfjs from '@tensorflow/tfjs';
import type {
  AdaptingTasks,
  InnerLoop,
  InnerStep,
  SupportCurvature,
  SupportFields,
} from '../../../shared/methods/inner-loop/inner-loop.js';
import { variableOf, type Variables } from '../models/fields.js';
import {
  named,
  logitsOf,
  lossesOf,
  tableRowsOf,
  type TensorsByName,
  type RowsWithTrunk,
  type JobTensors,
} from './passes.js';
import { featureNamesOf } from '../../../shared/methods/inner-loop/support-features.js';
import { placeCountsOf, type BatchTensors } from '../models/device-tasks.js';
import { modelPlanOf, sharedFields } from '../models/fields.js';
import { personalVariables } from '../../../shared/methods/inner-loop/personal-blocks.js';
import { curvatureOf } from './moderated-logits.js';

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

/** A step along given gradients, and the support rows; without these, only steps that do not read them can be taken. */
type GivenStep = Pick<InnerStep, 'scaledGradients' | 'rates'> & {
  readonly rows: RowsWithTrunk | null;
};

export function steppedState(
  loop: InnerLoop,
  tasks: AdaptingTasks,
  state: LoopState,
  { scaledGradients, rates, rows }: GivenStep,
): LoopState {
  const { tf, personal } = tasks;
  if (personal.length === 0) return state;
  const blocks = Object.fromEntries(personal.map((name) => [name, named(state, name)]));
  const supportCurvature = (): SupportCurvature => {
    if (rows === null) throw new Error('a step along recorded gradients has no rows');
    return curvatureOf(rows, new Map(Object.entries(blocks)));
  };
  return (
    loop.step?.(tasks, { blocks, scaledGradients, rates, supportCurvature }) ??
    Object.fromEntries(
      personal.map((name) => [name, tf.sub(named(blocks, name), named(scaledGradients, name))]),
    )
  );
}

export function adaptingTasksOf(job: JobTensors): AdaptingTasks {
  const { engine, spec, taskCount, dense } = job;
  const { tf, kernels } = engine;
  return {
    tf,
    taskCount,
    personal: personalVariables(spec).map(({ name }) => name),
    variable: (name) => variableOf(dense, name),
    repeatByTask: (x) => kernels.repeatByTask(x, taskCount),
    solve: kernels.solve,
    attributes: (names) => attributesOf(job, names),
    supportTotals: () => {
      const totals = job.batchOf('support')?.totals;
      const none = (): tfjs.Tensor1D => tf.zeros<tfjs.Rank.R1>([taskCount]);
      return totals ?? { impressions: none(), clicks: none() };
    },
    trunkFlags: () => job.trunkFlags ?? null,
    supportFields: (names) => supportFieldsOf(job, names ?? featureNamesOf(spec)),
  };
}

function supportFieldsOf(job: JobTensors, names: readonly string[]): SupportFields | null {
  const data = job.batchOf('support');
  if (data === null) return null;
  const { taskCount, rowExtent } = placeCountsOf(data);
  const fields = namedFields(job, data, names);
  return {
    fields: job.engine.tf.reshape(fields, [taskCount, rowExtent, -1]),
    impressionShares: data.impressionShares,
    clickShares: data.clickShares,
  };
}

function attributesOf(job: JobTensors, names: readonly string[]): tfjs.Tensor2D {
  const data = job.batchOf('first');
  if (data === null) throw new Error('the method reads no attributes');
  return namedFields(job, data, names);
}

/** Unadapted fields of rows in the order of `names`, `[placeCount, sum of widths]`. */
function namedFields(job: JobTensors, data: BatchTensors, names: readonly string[]): tfjs.Tensor2D {
  const { engine, spec, dense } = job;
  const { tf } = engine;
  const plan = modelPlanOf(spec, false);
  const fields = sharedFields(engine, plan, { data, rows: tableRowsOf(job), trunk: dense });
  if (fields === null) throw new Error('the model has no features');
  const places = featureNamesOf(spec);
  const width = spec.tableRowWidth;
  if (fields.shape[1] === names.length * width && names.every((name, at) => name === places[at]))
    return fields;
  const parts = names.map((name) => {
    const place = places.indexOf(name);
    if (place < 0) throw new Error(`the model has no feature ${name}`);
    return tf.slice(fields, [0, place * width], [fields.shape[0], width]);
  });
  return parts.length === 1 && parts[0] !== undefined ? parts[0] : tf.concat(parts, 1);
}
