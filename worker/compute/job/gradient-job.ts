/**
 * A gradient job: one call of a captured function for each leaf, and one sum for each node of its leaves. A leaf has a
 * row pack of its own, so its gradient has the same bits whatever else the job computes.
 */

import type * as tfjs from '@tensorflow/tfjs';
import { at } from '../../../shared/base/arrays.js';
import { type QianmoError, errorOf } from '../../../shared/base/errors.js';
import { adapts } from '../../../shared/methods/inner-loop/method.js';
import { methodPlanOf } from '../../../shared/methods/methods.js';
import {
  type LearnedRows,
  learnedRowsOf,
  learnedVariables,
  type ModelSpec,
} from '../../../shared/models/model-spec.js';
import type { GradientWork } from '../../../shared/queue/protocol.js';
import type { DeliveredSums, TaskLosses } from '../../../shared/sums/delivered-sums.js';
import {
  denseCountOf,
  joinedIds,
  joinNodes,
  learnedIdsOf,
  type GradientNode,
} from '../../../shared/sums/gradient-node.js';
import { SumTree } from '../../../shared/sums/sum-tree.js';
import {
  packLayoutOf,
  rowPackLayoutOf,
  type RowPackLayout,
} from '../../../shared/tasks/row-pack.js';
import type { MicroBatch } from '../../../shared/tasks/micro-batches.js';
import type { TaskRows } from '../../../shared/tasks/task-store.js';
import { nativeRows } from '../../../shared/tensors/native-rows.js';
import { rolesOf } from '../meta-gradients/meta-gradient.js';
import { batchesOf } from '../models/device-tasks.js';
import type { Computations } from './computations.js';
import { packOnDevice, type DeviceJob, type SentPack } from './device-job.js';

/** A leaf of the job, its tasks, and their share of the work. */
export interface Leaf {
  readonly microBatch: MicroBatch;
  readonly tasks: readonly TaskRows[];
  readonly taskWeights: readonly number[];
  readonly coldTaskWeights: readonly number[] | undefined;
  /** The rows that it touches, as the coordinator derives them from the same tasks. */
  readonly layout: RowPackLayout;
}

/**
 * @param job without row packs; leaves have their own
 * @param sent the row pack of the job; null where the tables are frozen
 */
export function gradientOf(
  computations: Computations,
  job: DeviceJob,
  work: GradientWork,
  { leaves, sent }: { readonly leaves: readonly Leaf[]; readonly sent: SentPack | null },
): DeliveredSums {
  const { spec, tasks } = job;
  const { tf } = job.engine;
  const functions = functionsOf(computations, job, work);
  const { first, stepLeafCount } = work.leaves;
  const tree = new SumTree<GradientNode>(stepLeafCount, (left, right) =>
    joinNodes(left, right, spec.tableRowWidth),
  );
  const losses: TaskLosses = {
    query: new Float32Array(tasks.length),
    support: new Float32Array(tasks.length),
    queryBefore: functions.queryLoss === null ? null : new Float32Array(tasks.length),
  };
  let placedCount = 0;
  for (const [index, leaf] of leaves.entries()) {
    const progress = { number: index + 1, count: leaves.length };
    computations.onProgress({ phase: 'computing', microBatch: progress });
    const layout = sent === null ? null : leaf.layout;
    tf.tidy(() => {
      const onDevice = {
        ...job,
        ...(sent === null
          ? {}
          : packOnDevice(computations, spec, leaf.layout, (rows) =>
              gatherLeafRows(sent, leaf.layout, spec.tableRowWidth, rows),
            )),
        tasks: leaf.tasks,
      };
      const output = runLeaf(functions, onDevice, work, leaf);
      tree.add({ first: first + index, end: first + index + 1 }, nodeOf(output, spec, layout));
      if (output === null) return;
      placeLosses(output.queryLosses, losses.query, placedCount, leaf);
      placeLosses(output.supportLosses, losses.support, placedCount, leaf);
      if (losses.queryBefore !== null)
        placeLosses(output.queryLossesBefore, losses.queryBefore, placedCount, leaf);
    });
    placedCount += leaf.tasks.length;
  }
  const nodes = tree.heldNodes().map(({ sum }) => sum);
  return { nodes, losses };
}

/** @throws QianmoError of kind `data` when the leaves do not fit the tasks */
export function leavesOf(tasks: readonly TaskRows[], work: GradientWork): Leaf[] {
  const { taskWeights, coldTaskWeights, leaves, method } = work;
  const hasTaskAxis = adapts(methodPlanOf(method));
  let start = 0;
  const found = leaves.shapes.map(
    ([ownCount, taskCount, supportExtent, queryExtent, flatExtent]) => {
      const end = start + ownCount;
      const own = tasks.slice(start, end);
      const leaf: Leaf = {
        microBatch: {
          taskPlaces: Array.from({ length: ownCount }, (_, place) => place),
          ...{ taskCount, supportExtent, queryExtent, flatExtent },
        },
        tasks: own,
        layout: rowPackLayoutOf(own),
        taskWeights: taskWeights.slice(start, end),
        coldTaskWeights: coldTaskWeights?.slice(start, end),
      };
      start = end;
      if (!fits(leaf, hasTaskAxis)) throw misfit(`the tasks of a leaf exceed its padded extents`);
      return leaf;
    },
  );
  if (start !== tasks.length) throw misfit(`${start} tasks in leaves, ${tasks.length} in the job`);
  return found;
}

/** Rows beyond the extents would be placed among those of other tasks. */
function fits({ tasks, microBatch }: Leaf, hasTaskAxis: boolean): boolean {
  const { taskCount, supportExtent, queryExtent, flatExtent } = microBatch;
  const rowCount = tasks.reduce((sum, task) => sum + task.rowCount, 0);
  if (!hasTaskAxis) return rowCount <= flatExtent && tasks.length <= taskCount;
  return (
    tasks.length <= taskCount &&
    rowCount <= flatExtent &&
    tasks.every(
      (task) =>
        task.supportRowCount <= supportExtent &&
        task.rowCount - task.supportRowCount <= queryExtent,
    )
  );
}

function misfit(found: string): QianmoError {
  return errorOf('data', 'the leaves of a job do not fit its tasks', {
    found,
    cure: 'coordinator and worker must run the same version on the same store',
  });
}

/** The row pack of leaves together. */
export function jointLayoutOf(leaves: readonly Leaf[]): RowPackLayout {
  return packLayoutOf(joinedIds(leaves.map(({ layout }) => layout.idsByTable)));
}

/** Makes the row pack of a leaf from that of its job. */
function gatherLeafRows(
  { rows, layout: sent }: SentPack,
  layout: RowPackLayout,
  width: number,
  target: Float32Array,
): void {
  if (layout.rowCount === sent.rowCount) {
    target.set(rows);
    return;
  }
  const places = placesIn(sent, layout);
  const native = nativeRows();
  if (native !== null) {
    native.gather(rows, width, places, target, 0);
    return;
  }
  for (const [row, place] of places.entries())
    target.set(rows.subarray(place * width, (place + 1) * width), row * width);
}

/** The rows of a pack that a smaller one has. In each table both lists of ids ascend, and the pack has every id. */
function placesIn(pack: RowPackLayout, layout: RowPackLayout): Int32Array {
  const places = new Int32Array(layout.rowCount);
  let next = 0;
  for (const [table, ids] of layout.idsByTable.entries()) {
    const packIds = at(pack.idsByTable, table);
    const start = at(pack.startByTable, table);
    let place = 0;
    for (let index = 0; index < ids.length; index += 1) {
      while (place < packIds.length && packIds[place] !== ids[index]) place += 1;
      places[next] = start + place;
      next += 1;
    }
  }
  return places;
}

interface GradientFunctions {
  readonly gradient: ReturnType<Computations['gradientOf']>;
  /** Null where the work does not ask for the query loss before adaptation. */
  readonly queryLoss: ReturnType<Computations['queryLossOf']> | null;
}

function functionsOf(
  computations: Computations,
  { spec }: DeviceJob,
  { method, queryLossBefore }: GradientWork,
): GradientFunctions {
  return {
    gradient: computations.gradientOf(spec, method),
    queryLoss: queryLossBefore === true ? computations.queryLossOf(spec, method) : null,
  };
}

type LeafOutput = ReturnType<GradientFunctions['gradient']['run']> & {
  readonly queryLossesBefore?: tfjs.Tensor1D;
};

/** Null when there are no rows. */
function runLeaf(
  { gradient, queryLoss }: GradientFunctions,
  job: DeviceJob,
  { method }: GradientWork,
  { microBatch, tasks, taskWeights, coldTaskWeights }: Leaf,
): LeafOutput | null {
  if (microBatch.flatExtent === 0) return null;
  const plan = methodPlanOf(method);
  const { tf } = job.engine;
  const padded = (weights: readonly number[]): tfjs.Tensor1D => {
    const values = new Float32Array(microBatch.taskCount);
    values.set(weights);
    return tf.tensor1d(values);
  };
  const input = {
    dense: job.dense,
    ...job.pack,
    ...batchesOf(job, microBatch, {
      roles: rolesOf(plan),
      hasSupportTotals: plan.innerLoop.reads.supportTotals === true,
      unitDropout: job.unitDropout ?? null,
    }),
  };
  const before = queryLoss?.run(input) ?? null;
  const output = gradient.run({
    ...input,
    weights: {
      warm: padded(taskWeights),
      ...(coldTaskWeights === undefined || plan.cold === null
        ? {}
        : { cold: padded(coldTaskWeights) }),
    },
    ...(plan.innerLoop.reads.trunkFlags === true
      ? { trunkFlags: padded(tasks.map(({ isTrunk }) => (isTrunk === true ? 1 : 0))) }
      : {}),
  });
  return before === null ? output : { ...output, queryLossesBefore: before };
}

/** Zeros where nothing was computed. */
function nodeOf(
  output: LeafOutput | null,
  spec: ModelSpec,
  layout: RowPackLayout | null,
): GradientNode {
  const width = spec.tableRowWidth;
  const dense = new Float32Array(denseCountOf(spec));
  let start = 0;
  for (const { name, shape } of learnedVariables(spec)) {
    const values = output?.gradients[name]?.dataSync<'float32'>();
    if (values !== undefined) dense.set(values, start);
    start += shape.reduce((product, extent) => product * extent, 1);
  }
  if (layout === null) return { dense, idsByTable: [], rows: new Float32Array(0) };
  const learned = learnedRowsOf(spec, layout);
  const values = output?.rowGradient?.dataSync<'float32'>();
  return {
    dense,
    idsByTable: learnedIdsOf(spec, layout),
    rows:
      values === undefined
        ? new Float32Array(learned.rowCount * width)
        : learnedRowValues(values, learned, width),
  };
}

/** The rows of learned tables, end to end. Other rows of the pack and its padding are left out. */
function learnedRowValues(
  values: Float32Array,
  { rowCount, spans }: LearnedRows,
  width: number,
): Float32Array {
  if (spans.every(({ packStart, start }) => packStart === start))
    return values.subarray(0, rowCount * width);
  const learned = new Float32Array(rowCount * width);
  for (const { packStart, start, rowCount: ofTable } of spans)
    learned.set(values.subarray(packStart * width, (packStart + ofTable) * width), start * width);
  return learned;
}

function placeLosses(
  losses: tfjs.Tensor1D | undefined,
  target: Float32Array,
  start: number,
  { tasks }: Leaf,
): void {
  if (losses === undefined) return;
  target.set(losses.dataSync<'float32'>().subarray(0, tasks.length), start);
}
