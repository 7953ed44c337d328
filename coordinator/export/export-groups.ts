/**
 * The adgroups of a bundle in the order of their blocks. A group adapts alike; within it, adgroups are in
 * the order of the store. Groups follow the split, so that held-out adgroups which are all served alike
 * are adapted in the same jobs as by an evaluation, and get the same bits.
 */

import {
  isForSize,
  type BundleManifest,
  type BundleServing,
} from '../../shared/bundle/bundle-manifest.js';
import type { Adaptation } from '../../shared/queue/protocol.js';
import { ADGROUP_SPLITS } from '../../shared/tasks/task-catalog.js';
import type { TaskEntry, TaskStore } from '../../shared/tasks/task-store.js';
import { adaptationOf, UNADAPTED } from '../evaluation/arms.js';
import { TASKS_PER_JOB_MAX } from '../evaluation/task-jobs.js';
import { QianmoError } from '../../shared/base/errors.js';
import { methodPlanOf, type MethodConfig } from '../../shared/methods/methods.js';
import { adapts } from '../../shared/methods/inner-loop/method.js';
import type { EvaluationReport } from '../scoring/evaluation-report.js';
import { EVERY_ADGROUP } from '../scoring/size-buckets.js';

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

/** The checkpoint and the store that an evaluation must have been made of. */
interface Evaluated {
  readonly metaDigest: string;
  readonly storeDigest: string;
}

interface ServingSource extends Evaluated {
  readonly method: MethodConfig;
  /** The address of the report, for messages. */
  readonly where: string;
}

/** Returns whether an evaluation chooses the blocks that are served. */
function needsEvaluation(method: MethodConfig): boolean {
  return adapts(methodPlanOf(method));
}

/**
 * @param report of the label's adgroups; null if there is none.
 * @throws QianmoError of kind `usage` if the method adapts and this checkpoint was not evaluated.
 */
export function servingOf(report: EvaluationReport | null, source: ServingSource): BundleServing {
  const { method } = source;
  const { supportRowCountMin, supportRowCountMax } = EVERY_ADGROUP;
  const everywhere = (blocks: 'adapted' | 'unadapted') => [
    { supportRowCountMin, supportRowCountMax, blocks },
  ];
  if (!needsEvaluation(method)) return { adaptation: UNADAPTED, served: everywhere('unadapted') };
  const { selection } = requireEvaluation(report, source);
  const cell = selection.chosen.find(({ arm }) => arm === 'meta-adapted')?.cell;
  const { count, rate } = methodPlanOf(method).innerLoop.steps;
  return {
    adaptation: cell === undefined ? { innerRate: rate, innerSteps: count } : adaptationOf(cell),
    served:
      selection.blocks?.buckets.map((bucket) => ({
        supportRowCountMin: bucket.supportRowCountMin,
        supportRowCountMax: bucket.supportRowCountMax,
        blocks: bucket.serves,
      })) ?? everywhere('adapted'),
  };
}

function requireEvaluation(
  report: EvaluationReport | null,
  { metaDigest, storeDigest, where }: ServingSource,
): EvaluationReport {
  const refused = (what: string, found?: string): QianmoError =>
    new QianmoError({
      kind: 'usage',
      what,
      where,
      expected: 'an evaluation of this checkpoint, which chooses what adgroups are served',
      ...(found === undefined ? {} : { found }),
      cure: 'evaluate it first: qianmo evaluate run.yaml',
    });
  if (report === null) throw refused('the run was not evaluated');
  if (report.run.metaDigest !== metaDigest)
    throw refused(
      'the evaluation is of other parameters',
      `${report.run.metaDigest} evaluated, ${metaDigest} in the checkpoint`,
    );
  if (report.run.storeDigest === storeDigest) return report;
  throw refused('the evaluation is of another task store', report.run.storeDigest);
}

/** The blocks that an adgroup of this size is served. */
export function servedBlocksOf(
  { served }: Pick<BundleServing, 'served'>,
  supportRowCount: number,
): 'adapted' | 'unadapted' {
  return served.find((entry) => isForSize(entry, supportRowCount))?.blocks ?? 'unadapted';
}
