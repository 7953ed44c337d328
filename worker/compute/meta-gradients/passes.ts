/** A micro-batch of tasks as tensors, the forward pass over the rows of one role, its losses and its gradients. */

import type * as tfjs from '@tensorflow/tfjs';
import { learnedVariables, type ModelSpec } from '../../../shared/models/model-spec.js';
import type { Engine } from '../engine/load-engine.js';
import {
  placeCountsOf,
  type BagTensors,
  type BatchTensors,
  type LossTerms,
  type TaskBatches,
} from '../models/device-tasks.js';
import {
  bagRows,
  modelPlanOf,
  type ModelPlan,
  type TableRows,
  variableOf,
  type TrunkPass,
  type Variables,
} from '../models/fields.js';
import { personalPass, trunkPass } from '../models/forward.js';
import type { RowRole } from '../models/row-batch.js';

/**
 * A padded micro-batch of a job's tasks, which is computed at once. Everything here runs while it is
 * being captured, so no value may be read back, and settings are constants.
 */
export interface JobTensors {
  readonly engine: Engine;
  readonly spec: ModelSpec;
  readonly taskCount: number;
  /** The meta-parameters' dense variables, by name. */
  readonly dense: Variables;
  /** The row pack `[packExtent, tableRowWidth]`, or null when the model has no tables. */
  readonly rows: tfjs.Tensor2D | null;
  /** Null when the model has no bags. */
  readonly bags: BagTensors | null;
  /** Null when no task has rows of the role: there is nothing to compute. */
  readonly batchOf: (role: RowRole) => BatchTensors | null;
  /** 1 for batches of trunk rows, `[taskCount]`; absent outside of gradients, and where the method does not read them. */
  readonly trunkFlags?: tfjs.Tensor1D | undefined;
}

/** The inputs that the outer gradient is taken with respect to. */
export function learnedInputs({ spec, dense, rows }: JobTensors): {
  readonly dense: TensorsByName;
  readonly rows: TensorsByName;
} {
  const names = learnedVariables(spec).map(({ name }) => name);
  return {
    dense: Object.fromEntries(names.map((name) => [name, variableOf(dense, name)])),
    rows: spec.learned.tables.length > 0 ? packGroup(rows) : {},
  };
}

/** Weights of the tasks in the outer loss after adaptation, and in its cold term before it. */
export interface TaskWeights {
  /** `[taskCount]`, as `cold` */
  readonly warm: tfjs.Tensor1D;
  readonly cold: tfjs.Tensor1D;
}

/** Sums over a micro-batch's tasks of taskWeight times gradient, and losses, `[taskCount]`. */
export interface MetaGradientResult {
  /** By variable; one that no loss depends on is absent. */
  readonly gradients: ReadonlyMap<string, tfjs.Tensor>;
  /** Null without rows or without tables. */
  readonly rowGradient: tfjs.Tensor2D | null;
  readonly queryLosses: tfjs.Tensor1D | null;
  readonly supportLosses: tfjs.Tensor1D | null;
}

/** The rows of one role under one plan. */
export interface Pass {
  readonly job: JobTensors;
  readonly plan: ModelPlan;
  readonly data: BatchTensors;
}

/** Rows with their trunk pass. */
export interface RowsWithTrunk {
  readonly pass: Pass;
  readonly trunk: TrunkPass;
}

/** Null when no task has rows of the role: there is nothing to compute. */
export function passOf(job: JobTensors, role: RowRole, adapts: boolean): Pass | null {
  const data = job.batchOf(role);
  if (data === null) return null;
  return { job, plan: modelPlanOf(job.spec, adapts, Object.keys(data.unitMasks ?? {})), data };
}

/** A row of zeros without tables. */
export function tableRowsOf({ engine, spec, rows, bags }: JobTensors): TableRows {
  const pack = rows ?? engine.tf.zeros<tfjs.Rank.R2>([1, spec.tableRowWidth]);
  return { pack, bags: bags === null ? null : bagRows(engine, pack, bags) };
}

function trunkOf(pass: Pass): TrunkPass {
  const { engine, dense } = pass.job;
  return trunkPass(engine, pass.plan, {
    data: pass.data,
    rows: tableRowsOf(pass.job),
    trunk: dense,
  });
}

export function withTrunk(pass: Pass): RowsWithTrunk {
  return { pass, trunk: trunkOf(pass) };
}

export function logitsOf({ pass, trunk }: RowsWithTrunk, personal: Variables): tfjs.Tensor2D {
  const { engine, dense } = pass.job;
  return personalPass(engine, pass.plan, { trunkPass: trunk, trunk: dense, personal });
}

/** The loss of each task, `[taskCount]`. */
export function lossesOf(pass: Pass, logits: tfjs.Tensor2D): tfjs.Tensor1D {
  const { job, data } = pass;
  const { taskOfPlace } = data;
  return taskOfPlace === undefined
    ? taskLosses(job.engine, logits, data)
    : flatTaskLosses(job.engine, logits, data, { taskOfPlace, taskCount: job.taskCount });
}

/**
 * Loss of each row: i softplus(z) - c z, where i and c are the row's shares of the task's impressions;
 * with the squared loss, i z^2 / 2 - c z + c^2 / (2 i).
 */
function rowLosses(tf: typeof tfjs, z: tfjs.Tensor2D, terms: LossTerms): tfjs.Tensor2D {
  const { impressionShares, clickShares, squared } = terms;
  if (squared === undefined)
    return tf.sub(tf.mul(impressionShares, tf.softplus(z)), tf.mul(clickShares, z));
  const halves = tf.mul(squared.impressionShares, tf.mul(z, 0.5));
  return tf.add(
    tf.mul(tf.sub(impressionShares, squared.impressionShares), tf.softplus(z)),
    tf.add(tf.mul(tf.sub(halves, clickShares), z), squared.constants),
  );
}

/** The expected share of clicks of each row: i sigmoid(z); with the squared loss, i z. */
function rowMeans(tf: typeof tfjs, z: tfjs.Tensor, terms: LossTerms): tfjs.Tensor {
  const { impressionShares, squared } = terms;
  if (squared === undefined) return tf.mul(impressionShares, tf.sigmoid(z));
  const ofBinary = tf.sub(impressionShares, squared.impressionShares);
  return tf.add(tf.mul(ofBinary, tf.sigmoid(z)), tf.mul(squared.impressionShares, z));
}

/** The derivative of `rowMeans` by z: i p (1 - p) with p = sigmoid(z); with the squared loss, i. */
export function rowVariances(tf: typeof tfjs, z: tfjs.Tensor, terms: LossTerms): tfjs.Tensor {
  const { impressionShares, squared } = terms;
  const probability = tf.sigmoid(z);
  const variances = (shares: tfjs.Tensor): tfjs.Tensor =>
    tf.mul(tf.mul(shares, probability), tf.sub(1, probability));
  if (squared === undefined) return variances(impressionShares);
  const ofBinary = tf.sub(impressionShares, squared.impressionShares);
  return tf.add(variances(ofBinary), squared.impressionShares);
}

/** Loss of each task, `[taskCount]`: the sum over its rows. */
export function taskLosses({ tf }: Engine, logits: tfjs.Tensor2D, terms: LossTerms): tfjs.Tensor1D {
  return tf.customGrad((input, save) => {
    const z = input as tfjs.Tensor2D;
    (save as (tensors: tfjs.Tensor[]) => void)([z]);
    return {
      value: tf.sum(rowLosses(tf, z, terms), 1),
      gradFunc: (dy, saved) =>
        tf.mul(tf.expandDims(dy, 1), tf.sub(rowMeans(tf, saved[0] ?? z, terms), terms.clickShares)),
    };
  })(logits) as tfjs.Tensor1D;
}

/**
 * The same losses of flat rows: terms `[1, rowExtent]`, and for each row its task. Rows of a task are
 * added in their order.
 */
export function flatTaskLosses(
  { tf, kernels }: Engine,
  logits: tfjs.Tensor2D,
  terms: LossTerms,
  { taskOfPlace, taskCount }: { readonly taskOfPlace: tfjs.Tensor1D; readonly taskCount: number },
): tfjs.Tensor1D {
  return tf.customGrad((input, save) => {
    const z = input as tfjs.Tensor2D;
    (save as (tensors: tfjs.Tensor[]) => void)([z]);
    const column = tf.reshape<tfjs.Rank.R2>(rowLosses(tf, z, terms), [-1, 1]);
    return {
      value: tf.reshape(kernels.sumSegments(column, taskOfPlace, taskCount), [taskCount]),
      gradFunc: (dy, saved) => {
        const byRow = kernels.gatherRows(tf.reshape(dy, [taskCount, 1]), taskOfPlace);
        const slopes = tf.sub(rowMeans(tf, saved[0] ?? z, terms), terms.clickShares);
        return tf.mul(tf.reshape(byRow, z.shape), slopes);
      },
    };
  })(logits) as tfjs.Tensor1D;
}

function taskCountOf({ batches }: BatchInput): number {
  const { flat: _flat, ...byTask } = batches;
  const [any] = Object.values(byTask);
  if (any === undefined) throw new Error('no rows that lie by task');
  return placeCountsOf(any).taskCount;
}

/** The tensors of a micro-batch, as captured functions take them. */
export type BatchInput = {
  readonly dense: TensorsByName;
  /** The row pack `[packExtent, tableRowWidth]`; absent when the model has no tables. */
  readonly rows?: tfjs.Tensor2D;
} & TaskBatches;

export function jobTensorsOf(
  engine: Engine,
  spec: ModelSpec,
  input: BatchInput,
  taskCount = taskCountOf(input),
): JobTensors {
  const { dense, rows, bags, batches } = input;
  return {
    engine,
    spec,
    taskCount,
    dense: new Map(Object.entries(dense)),
    rows: rows ?? null,
    bags: bags ?? null,
    batchOf: (role) => batches[role] ?? null,
  };
}

export type TensorsByName = { readonly [name: string]: tfjs.Tensor };
type Groups<Name extends string> = { readonly [Group in Name]: TensorsByName };

export function named(tensors: TensorsByName, name: string): tfjs.Tensor {
  const tensor = tensors[name];
  if (tensor === undefined) throw new Error(`no tensor ${name}`);
  return tensor;
}

/** `pullBack` by name; what no weighted result depends on has no gradient. */
export function gradientsOf<Group extends string>(
  tf: typeof tfjs,
  compute: () => readonly tfjs.Tensor[],
  inputs: Groups<Group>,
  weights: readonly (tfjs.Tensor | null)[],
): { readonly results: readonly tfjs.Tensor[]; readonly gradients: Groups<Group> } {
  const places = (Object.keys(inputs) as Group[]).flatMap((group) =>
    Object.entries(inputs[group]).map(([name, tensor]) => ({ group, name, tensor })),
  );
  const pulled = pullBack(
    tf,
    compute,
    places.map(({ tensor }) => tensor),
    weights,
  );
  const gradients: Record<string, TensorsByName> = {};
  for (const group of Object.keys(inputs)) gradients[group] = {};
  for (const [place, { group, name }] of places.entries()) {
    const gradient = pulled.gradients[place] ?? null;
    if (gradient !== null) gradients[group] = { ...gradients[group], [name]: gradient };
  }
  // Every group has its record.
  return { results: pulled.results, gradients: gradients as Groups<Group> };
}

/** The row pack as a group of inputs of its own: empty when there is none. */
function packGroup(rows: tfjs.Tensor2D | null | undefined): TensorsByName {
  return rows === null || rows === undefined ? {} : { rows };
}

export function packIn(rows: TensorsByName): tfjs.Tensor2D | null {
  return (rows['rows'] as tfjs.Tensor2D | undefined) ?? null;
}

interface PulledBack {
  /** Not connected to the inputs. The caller owns them, as it owns the gradients. */
  readonly results: tfjs.Tensor[];
  /** By index of the input; null if no weighted result depends on it. */
  readonly gradients: (tfjs.Tensor | null)[];
}

/**
 * @param compute a function of the inputs, which it closes over; it may itself take gradients.
 * @param weights one for each result, of its shape; null if only the value of the result is needed.
 */
function pullBack(
  tf: typeof tfjs,
  compute: () => readonly tfjs.Tensor[],
  inputs: readonly tfjs.Tensor[],
  weights: readonly (tfjs.Tensor | null)[],
): PulledBack {
  if (inputs.length === 0)
    return { results: compute().map((result) => tf.clone(result)), gradients: [] };
  const kept: tfjs.Tensor[] = [];
  try {
    const weighted = (): tfjs.Tensor => {
      const results = compute();
      // Copies share the memory. A result may be an input, which the caller owns.
      for (const result of results) kept.push(tf.keep(tf.clone(result)));
      const pairs = results.flatMap((result, place): [tfjs.Tensor, tfjs.Tensor][] => {
        const weight = weights[place] ?? null;
        return weight === null ? [] : [[result, weight]];
      });
      return seed(tf, pairs);
    };
    const { grads } = tf.engine().gradients(weighted, [...inputs], undefined, true);
    return {
      results: kept.map((result) => tf.clone(result)),
      // Typed as if every input had one.
      gradients: inputs.map((_, place) => (grads as (tfjs.Tensor | undefined)[])[place] ?? null),
    };
  } finally {
    tf.dispose(kept);
  }
}

/** An unused scalar whose gradient with respect to each result is that result's weight. */
function seed(
  tf: typeof tfjs,
  pairs: readonly (readonly [result: tfjs.Tensor, weight: tfjs.Tensor])[],
): tfjs.Tensor {
  return tf.customGrad(() => ({
    value: tf.scalar(0),
    gradFunc: () => pairs.map(([, weight]) => tf.clone(weight)),
  }))(...pairs.map(([result]) => result));
}
