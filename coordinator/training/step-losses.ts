/** The losses of an outer step, added up in the order of its tasks whatever the order of arrival. */

import type { SizeLosses } from '../../shared/events/size-losses.js';
import { float32At } from '../../shared/base/arrays.js';
import type { TaskLosses } from '../../shared/sums/delivered-sums.js';
import type { StepPlan } from '../plan/step-plan.js';
import { NO_SIZE_BUCKET } from '../plan/step-sizes.js';

/** Weighted as task gradients are. */
export interface StepLosses {
  readonly queryLoss: number;
  /** Query loss before adaptation; null where it was not measured, and where it is not finite. */
  readonly queryLossBefore: number | null;
  /** Support loss before adaptation, over adgroups alone where tasks adapt: a batch of trunk rows has none. */
  readonly supportLoss: number;
  /** Sums by bucket. */
  readonly bySize: Omit<SizeLosses, 'sizes'>;
}

type PlannedTasks = StepPlan['tasks'];
type LossOf = (task: number) => number;

export class StepLossSums {
  readonly #tasks: PlannedTasks;
  readonly #query: Float32Array;
  readonly #support: Float32Array;
  readonly #queryBefore: Float32Array;
  /** 1 for tasks whose losses have arrived. */
  readonly #hasArrived: Uint8Array;
  #hasBefore = true;

  constructor(tasks: PlannedTasks) {
    const { length } = tasks.taskIndices;
    this.#tasks = tasks;
    this.#query = new Float32Array(length);
    this.#support = new Float32Array(length);
    this.#queryBefore = new Float32Array(length);
    this.#hasArrived = new Uint8Array(length);
  }

  /** @param span of the tasks among those of the step. */
  place(
    { query, support, queryBefore }: TaskLosses,
    [start, end]: readonly [number, number],
  ): void {
    this.#query.set(query, start);
    this.#support.set(support, start);
    if (queryBefore === null) this.#hasBefore = false;
    else this.#queryBefore.set(queryBefore, start);
    this.#hasArrived.fill(1, start, end);
  }

  /**
   * The losses of the tasks that have arrived, as if they were all.
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
        taskCounts: taskCounts.map((_, bucket) => this.#countIn(bucket)),
        weights: byBucket(() => 1),
        queryLossSums: byBucket(query),
        supportLossSums: byBucket(support),
        ...(hasBefore ? { queryLossBeforeSums: byBucket(before) } : {}),
      },
    };
  }

  #countIn(bucket: number): number {
    let count = 0;
    for (const [task, own] of this.#tasks.sizes.bucketByTask.entries())
      if (own === bucket && this.#hasArrived[task] === 1) count += 1;
    return count;
  }

  /** Weighted, over the tasks that have arrived. */
  #sum(valueOf: (task: number) => number): number {
    let sum = 0;
    for (const [task, weight] of this.#tasks.taskWeights.entries())
      if (this.#hasArrived[task] === 1) sum += weight * valueOf(task);
    return sum;
  }
}
