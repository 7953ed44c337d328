/** What every method is given and gives back, and the forward pass as methods use it. */

import type * as tfjs from '@tensorflow/tfjs';
import type { ModelSpec } from '../../../shared/models/model-spec.js';
import type { Engine } from '../engine/load-engine.js';
import type { BatchTensors } from '../models/batch-tensors.js';
import { variableOf, type Variables } from '../models/fields.js';
import { personalPass, trunkPass, type TrunkPass } from '../models/forward.js';
import { taskLosses } from '../models/lean-operations.js';
import { modelPlanOf, type ModelPlan } from '../models/model-plan.js';
import type { RowRole } from '../row-batch.js';

/**
 * What is computed at once: a micro-batch of a job's tasks, padded. Methods run while they are being
 * captured, so they must not read a value back, and settings are constants.
 */
export interface JobTensors {
  readonly engine: Engine;
  readonly spec: ModelSpec;
  readonly taskCount: number;
  /** The meta-parameters' dense variables, by name. */
  readonly dense: Variables;
  /** The row pack `[packExtent, tableRowWidth]`, or null when the model has no tables. */
  readonly rows: tfjs.Tensor2D | null;
  /** Null when no task has rows of the role: there is nothing to compute. */
  readonly batchOf: (role: RowRole) => BatchTensors | null;
}

/** `[taskCount]` each: of the outer loss after adaptation, and of its cold term before it. */
export interface TaskWeights {
  readonly warm: tfjs.Tensor1D;
  readonly cold: tfjs.Tensor1D;
}

/** Sums over the tasks of a micro-batch of taskWeight times the task's gradient; losses `[taskCount]`. */
export interface MethodResult {
  readonly gradients: ReadonlyMap<string, tfjs.Tensor>;
  /** Null when no rows or no tables are there. */
  readonly rowGradient: tfjs.Tensor2D | null;
  readonly queryLosses: tfjs.Tensor1D | null;
  readonly supportLosses: tfjs.Tensor1D | null;
}

/** One role's rows under one plan. */
export interface Pass {
  readonly job: JobTensors;
  readonly plan: ModelPlan;
  readonly data: BatchTensors;
}

/** Null when no task has rows of the role: there is nothing to compute. */
export function passOf(job: JobTensors, role: RowRole, adapts: boolean): Pass | null {
  const data = job.batchOf(role);
  return data === null ? null : { job, plan: modelPlanOf(job.spec, adapts), data };
}

export function trunkOf(
  pass: Pass,
  variables: Variables = pass.job.dense,
  rows = pass.job.rows,
): TrunkPass {
  const { engine } = pass.job;
  const pack = rows ?? engine.tf.zeros<tfjs.Rank.R2>([1, pass.job.spec.tableRowWidth]);
  return trunkPass(engine, pass.plan, pass.data, pack, variables);
}

export function logitsOf(
  pass: Pass,
  shared: TrunkPass,
  personal: Variables,
  trunk: Variables = pass.job.dense,
): tfjs.Tensor2D {
  return personalPass(pass.job.engine, pass.plan, shared, trunk, personal);
}

export function lossesOf(pass: Pass, logits: tfjs.Tensor2D): tfjs.Tensor1D {
  const { impressionShares, clickShares } = pass.data;
  return taskLosses(pass.job.engine, logits, impressionShares, clickShares);
}

/** The initial personal blocks once per task: `[taskCount, ...shape]`. */
export function personalCopies(
  { engine, taskCount, dense }: JobTensors,
  plan: ModelPlan,
): Map<string, tfjs.Tensor> {
  const copies = new Map<string, tfjs.Tensor>();
  for (const name of plan.personal)
    copies.set(name, engine.kernels.repeatByTask(variableOf(dense, name), taskCount));
  return copies;
}

/**
 * Losses `[taskCount]` of a pass and the gradient of sum_i taskWeights_i * loss_i with respect to
 * the row pack, the shared variables and the personal blocks (summed over tasks, in task order).
 */
export function lossGradient(
  pass: Pass,
  personal: Variables,
  taskWeights: tfjs.Tensor1D,
): {
  losses: tfjs.Tensor1D;
  gradients: Map<string, tfjs.Tensor>;
  rowGradient: tfjs.Tensor2D | null;
} {
  const { job, plan } = pass;
  const { tf } = job.engine;
  const pack = job.rows;
  const trunkNames = plan.trunk;
  const personalNames = [...plan.personal];
  const inputs: tfjs.Tensor[] = [
    ...(pack === null ? [] : [pack]),
    ...trunkNames.map((name) => variableOf(job.dense, name)),
    ...personalNames.map((name) => variableOf(personal, name)),
  ];
  const skipped = pack === null ? 0 : 1;
  const { value, grads } = tf.valueAndGrads((...tensors: tfjs.Tensor[]) => {
    // With a pack the first input is the pack.
    const rows = pack === null ? job.rows : (tensors[0] as tfjs.Tensor2D);
    const take = (names: readonly string[], start: number): Variables =>
      new Map(names.map((name, index) => [name, tensors[start + index] as tfjs.Tensor]));
    const trunk = take(trunkNames, skipped);
    const own = take(personalNames, skipped + trunkNames.length);
    return lossesOf(pass, logitsOf(pass, trunkOf(pass, trunk, rows), own, trunk));
  })(inputs, taskWeights);
  const gradients = new Map<string, tfjs.Tensor>();
  for (const [index, name] of [...trunkNames, ...personalNames].entries()) {
    const gradient = grads[skipped + index];
    if (gradient === undefined) throw new Error(`no gradient of ${name}`);
    gradients.set(name, plan.personal.has(name) ? tf.sum(gradient, 0) : gradient);
  }
  return {
    losses: value,
    gradients,
    rowGradient: pack === null ? null : (grads[0] as tfjs.Tensor2D),
  };
}
