/**
 * The adgroups of a bundle in the order of their blocks. A group adapts alike; within it, adgroups are in
 * the order of the store. Groups follow the split, so that held-out adgroups which are all served alike
 * are adapted in the same jobs as by an evaluation, and get the same bits.
 */

import type { BundleManifest, BundleServing } from '../../shared/bundle/bundle-manifest.js';
import type { Adaptation } from '../../shared/queue/protocol.js';
import { ADGROUP_SPLITS } from '../../shared/tasks/task-catalog.js';
import type { TaskEntry, TaskStore } from '../../shared/tasks/task-store.js';
import { UNADAPTED } from '../evaluation/arms.js';
import { TASKS_PER_JOB_MAX } from '../evaluation/task-jobs.js';
import { servedBlocksOf } from './serving-choice.js';

/** The rows that adgroups adapt on. */
export type AdaptedRows = BundleManifest['blocks']['rows'];

/** The adgroups of a shard, unless it is the last of its group. Jobs of evaluations end there as well. */
export const TASKS_PER_SHARD = TASKS_PER_JOB_MAX;

/** Adgroups whose adapted blocks are kept together. */
export interface ExportShard {
  readonly labelIndex: number;
  readonly adaptation: Adaptation;
  readonly taskIndices: readonly number[];
}

/** The shards of all groups, in the order of their blocks. The first adgroup has block 1. */
export function exportShardsOf(
  store: Pick<TaskStore, 'tasks'>,
  {
    serving,
    rows,
    tasksPerShard = TASKS_PER_SHARD,
  }: {
    readonly serving: readonly BundleServing[];
    readonly rows: AdaptedRows;
    readonly tasksPerShard?: number;
  },
): ExportShard[] {
  const groups = serving.map((ofLabel, labelIndex) =>
    ADGROUP_SPLITS.map((split) => ({
      ...{ labelIndex, ofLabel, split },
      taskIndices: { adapted: Array<number>(), unadapted: Array<number>() },
    })),
  );
  for (const task of store.tasks) {
    const group = groups[task.labelIndex ?? 0]?.find(({ split }) => split === task.split);
    if (group === undefined) continue;
    const blocks = servedBlocksOf(group.ofLabel, rowCountOf(task, rows));
    group.taskIndices[blocks].push(task.taskIndex);
  }
  return groups.flat().flatMap(({ labelIndex, ofLabel, taskIndices: { adapted, unadapted } }) => {
    const cut = (taskIndices: readonly number[], adaptation: Adaptation): ExportShard[] =>
      Array.from({ length: Math.ceil(taskIndices.length / tasksPerShard) }, (_, shard) => ({
        ...{ labelIndex, adaptation },
        taskIndices: taskIndices.slice(shard * tasksPerShard, (shard + 1) * tasksPerShard),
      }));
    return [...cut(adapted, ofLabel.adaptation), ...cut(unadapted, UNADAPTED)];
  });
}

/** The rows that an adgroup adapts on. */
export function rowCountOf(
  { supportRowCount, queryRowCount }: Pick<TaskEntry, 'supportRowCount' | 'queryRowCount'>,
  rows: AdaptedRows,
): number {
  return rows === 'all' ? supportRowCount + queryRowCount : supportRowCount;
}

/** The task of each block from block 1 on. */
export function tasksInBlockOrder(shards: readonly ExportShard[]): number[] {
  return shards.flatMap(({ taskIndices }) => taskIndices);
}
