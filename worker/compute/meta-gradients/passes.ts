/** A micro-batch of tasks as tensors, and the forward pass over the rows of one role. */

import type * as tfjs from '@tensorflow/tfjs';
import { learnedVariables, type ModelSpec } from '../../../shared/models/model-spec.js';
import type { Engine } from '../engine/load-engine.js';
import {
  placeCountsOf,
  type BagTensors,
  type BatchTensors,
  type TaskBatches,
} from '../models/device-tasks.js';
import { bagRows, modelPlanOf, type ModelPlan, type TableRows } from '../models/fields.js';
import { personalPass, trunkPass } from '../models/forward.js';
import { variableOf, type TrunkPass, type Variables } from '../models/staged-pass.js';
import { flatTaskLosses, taskLosses } from '../models/lean-operations.js';
import type { RowRole } from '../models/row-batch.js';
import { pullBack } from '../engine/pull-back.js';

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

export function trunkOf(pass: Pass): TrunkPass {
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
