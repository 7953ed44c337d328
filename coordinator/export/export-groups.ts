/**
 * The adgroups of a bundle in the order of their blocks. A group adapts alike; within it, adgroups are in
 * the order of the store. Groups follow the split, so that held-out adgroups which are all served alike
 * are adapted in the same jobs as by an evaluation, and get the same bits.
 */

import { at } from '../../shared/base/arrays.js';
import type { BundleManifest, BundleServing } from '../../shared/bundle/bundle-manifest.js';
import type { Adaptation } from '../../shared/queue/protocol.js';
import { ADGROUP_SPLITS } from '../../shared/tasks/task-catalog.js';
import type { TaskEntry, TaskStore } from '../../shared/tasks/task-store.js';
import { UNADAPTED } from '../evaluation/selection.js';
import { servedBlocksOf } from './serving-choice.js';

/** The rows that adgroups adapt on. */
export type AdaptedRows = BundleManifest['blocks']['rows'];

/** Adgroups that are sent to the workers together. */
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
    tasksPerShard,
  }: {
    readonly serving: readonly BundleServing[];
    readonly rows: AdaptedRows;
    readonly tasksPerShard: number;
  },
): ExportShard[] {
  const shards: ExportShard[] = [];
  for (const [labelIndex, ofLabel] of serving.entries())
    for (const split of ADGROUP_SPLITS)
      for (const blocks of ['adapted', 'unadapted'] as const) {
        const taskIndices = store.tasks
          .filter((task) => task.split === split && (task.labelIndex ?? 0) === labelIndex)
          .filter((task) => servedBlocksOf(ofLabel, rowCountOf(task, rows)) === blocks)
          .map(({ taskIndex }) => taskIndex);
        const adaptation = blocks === 'adapted' ? ofLabel.adaptation : UNADAPTED;
        for (let first = 0; first < taskIndices.length; first += tasksPerShard)
          shards.push({
            ...{ labelIndex, adaptation },
            taskIndices: taskIndices.slice(first, first + tasksPerShard),
          });
      }
  return shards;
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

/** The first block of each shard. */
export function firstBlocksOf(shards: readonly ExportShard[]): number[] {
  const first = [1];
  for (const { taskIndices } of shards)
    first.push(at(first, first.length - 1) + taskIndices.length);
  return first.slice(0, shards.length);
}
