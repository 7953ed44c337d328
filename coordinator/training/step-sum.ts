/**
 * Reads the deliveries of an outer step and joins their sums up to its meta-gradient. It knows no queue and no clock.
 * The sum tree fixes every rounding, so the order of arrival changes no bit.
 */

import { at, float32At } from '../../shared/base/arrays.js';
import { learnedVariables, type ModelSpec } from '../../shared/models/model-spec.js';
import {
  decodeSums,
  type DeliveredSums,
  type SumShapes,
  type TaskLosses,
} from '../../shared/sums/delivered-sums.js';
import {
  areFinite,
  denseCountOf,
  type GradientNode,
  joinNodes,
  learnedIdsOf,
} from '../../shared/sums/gradient-node.js';
import { type LeafRange, nodesIn, SumTree } from '../../shared/sums/sum-tree.js';
import { type DenseTensor, elementCountOf } from '../../shared/tensors/named-tensors.js';
import type { ReadResult } from '../dispatch/dispatcher.js';
import type { Delivery } from '../plan/deliveries.js';
import { tasksOf } from '../plan/step-orders.js';
import { layoutOf, type StepPlan, NO_SIZE_BUCKET } from '../plan/step-plan.js';
import type { MetaGradient, RowGradient } from './meta-optimizer.js';
import type { SizeLosses } from '../../shared/events/size-losses.js';

export interface ReadDelivery {
  readonly delivery: Delivery;
  readonly sums: DeliveredSums;
}

export class StepSum {
  readonly #spec: ModelSpec;
  readonly #plan: StepPlan;
  readonly #tree: SumTree<GradientNode>;
  readonly #losses: StepLossSums;
  #nodeCount = 0;

  constructor(spec: ModelSpec, plan: StepPlan) {
    this.#spec = spec;
    this.#plan = plan;
    this.#losses = new StepLossSums(plan.tasks);
    this.#tree = new SumTree(plan.leaves.length, (left, right) =>
      joinNodes(left, right, spec.tableRowWidth),
    );
  }

  add({ delivery, sums }: ReadDelivery): void {
    this.#nodeCount += sums.nodes.length;
    for (const [place, node] of nodesRead(delivery, this.#plan).entries()) {
      const { dense, ...rows } = at(sums.nodes, place);
      // Joining writes to the dense values, and the output must stay as it is.
      this.#tree.add(node, { ...rows, dense: dense.slice() });
    }
    if (delivery.parts === undefined)
      this.#losses.place(sums.losses, tasksOf(this.#plan, delivery)[0]);
  }

  /**
   * The sum over all leaves. The caller may write to its arrays.
   *
   * @throws Error while a leaf is missing
   */
  metaGradient(): MetaGradient {
    const joined = this.#tree.root();
    // A single node was never joined: its rows are a view on its output, which must stay as it is.
    const root = this.#nodeCount > 1 ? joined : { ...joined, rows: joined.rows.slice() };
    return metaGradientOf(root, this.#spec);
  }

  /** @param adapts whether tasks adapt on their support rows. */
  losses(adapts: boolean): StepLosses {
    return this.#losses.total(adapts);
  }
}

/** The shapes of what a delivery adds up, whether it comes to the coordinator or stays in the store. */
export function shapesOf(spec: ModelSpec, plan: StepPlan, delivery: Delivery): SumShapes {
  const isJoin = delivery.parts !== undefined;
  const [start, end] = isJoin ? [0, 0] : tasksOf(plan, delivery);
  return {
    idsByNode: nodesIn(delivery, plan.leaves.length).map((node) =>
      learnedIdsOf(spec, layoutOf(plan, node)),
    ),
    ...{ denseCount: denseCountOf(spec), tableRowWidth: spec.tableRowWidth },
    ...{ taskCount: end - start, asksBefore: plan.asksQueryLossBefore && !isJoin },
  };
}

/** Reads the output of a delivery. Refuses other shapes and what is not finite. */
export function deliveryReader(
  spec: ModelSpec,
  plan: StepPlan,
  deliveries: readonly Delivery[],
): ReadResult<ReadDelivery> {
  const overflown = new Set<number>();
  return ({ result: { jobIndex, sums: kept }, output }) => {
    const delivery = deliveries[jobIndex];
    if (delivery === undefined) return 'not_of_this_step';
    const sums = decodeSums(output, shapesOf(spec, plan, delivery), kept?.blob);
    if (sums === null) return 'layout_mismatch';
    const { query, support } = sums.losses;
    if (!query.every(Number.isFinite) || !support.every(Number.isFinite)) return 'not_finite';
    const areSound =
      kept?.isFinite ?? sums.nodes.every(({ dense, rows }) => areFinite([dense, rows]));
    if (areSound) return { delivery, sums };
    if (delivery.parts === undefined || !overflown.has(jobIndex)) {
      overflown.add(jobIndex);
      return 'not_finite';
    }
    // The sum of finite ones may overflow, which is for the meta-optimizer to judge, wherever they were added.
    return { delivery, sums };
  };
}

/** The nodes that come to the coordinator. */
function nodesRead(delivery: Delivery, { leaves }: Pick<StepPlan, 'leaves'>): LeafRange[] {
  return delivery.keepsSums === true ? [] : nodesIn(delivery, leaves.length);
}

function metaGradientOf(root: GradientNode, spec: ModelSpec): MetaGradient {
  const dense = new Map<string, DenseTensor>();
  let start = 0;
  for (const { name, shape } of learnedVariables(spec)) {
    const end = start + elementCountOf(shape);
    dense.set(name, { shape, values: root.dense.subarray(start, end) });
    start = end;
  }
  const rows = new Map<string, RowGradient>();
  start = 0;
  for (const [place, name] of spec.learned.tables.entries()) {
    const ids = at(root.idsByTable, place);
    const end = start + ids.length * spec.tableRowWidth;
    rows.set(name, { ids, values: root.rows.subarray(start, end) });
    start = end;
  }
  return { dense, rows };
}

/** Weighted as task gradients are. */
interface StepLosses {
  readonly queryLoss: number;
  /** Query loss before adaptation; null where it was not measured, and where it is not finite. */
  readonly queryLossBefore: number | null;
  /** Support loss before adaptation, over adgroups alone where tasks adapt: a batch of trunk rows has none. */
  readonly supportLoss: number;
  readonly bySize: Omit<SizeLosses, 'sizes'>;
}

type PlannedTasks = StepPlan['tasks'];
type LossOf = (task: number) => number;

export class StepLossSums {
  readonly #tasks: PlannedTasks;
  readonly #query: Float32Array;
  readonly #support: Float32Array;
  readonly #queryBefore: Float32Array;
  #hasBefore = true;

  constructor(tasks: PlannedTasks) {
    const { length } = tasks.taskIndices;
    this.#tasks = tasks;
    this.#query = new Float32Array(length);
    this.#support = new Float32Array(length);
    this.#queryBefore = new Float32Array(length);
  }

  /** @param start the place of the first of these tasks among those of the step */
  place({ query, support, queryBefore }: TaskLosses, start: number): void {
    this.#query.set(query, start);
    this.#support.set(support, start);
    if (queryBefore === null) this.#hasBefore = false;
    else this.#queryBefore.set(queryBefore, start);
  }

  /**
   * The losses of the step, to be called when those of all tasks are there.
   *
   * @param adapts whether tasks adapt on their support rows
   */
  total(adapts: boolean): StepLosses {
    const { bucketByTask, taskCounts } = this.#tasks.sizes;
    const share = this.#sum(() => 1);
    const isAdgroup = (task: number): number => Number(bucketByTask[task] !== NO_SIZE_BUCKET);
    // Without adgroups among them there is no support loss to divide.
    const supportShare = (adapts ? this.#sum(isAdgroup) : share) || share;
    const lossesIn =
      (losses: Float32Array): LossOf =>
      (task) =>
        float32At(losses, task);
    const [query, support] = [lossesIn(this.#query), lossesIn(this.#support)];
    const before = lossesIn(this.#queryBefore);
    const queryLossBefore = this.#sum(before) / share;
    const hasBefore = this.#hasBefore && Number.isFinite(queryLossBefore);
    const byBucket = (valueOf: LossOf): number[] =>
      taskCounts.map(
        (_, bucket) =>
          this.#sum((task) => (bucketByTask[task] === bucket ? valueOf(task) : 0)) / share,
      );
    return {
      queryLoss: this.#sum(query) / share,
      queryLossBefore: hasBefore ? queryLossBefore : null,
      supportLoss: this.#sum(support) / supportShare,
      bySize: {
        taskCounts: [...taskCounts],
        weights: byBucket(() => 1),
        queryLossSums: byBucket(query),
        supportLossSums: byBucket(support),
        ...(hasBefore ? { queryLossBeforeSums: byBucket(before) } : {}),
      },
    };
  }

  /** Weighted. */
  #sum(valueOf: (task: number) => number): number {
    let sum = 0;
    for (const [task, weight] of this.#tasks.taskWeights.entries()) sum += weight * valueOf(task);
    return sum;
  }
}
