/**
 * The adgroups of a bundle in the order of their blocks, adapted shard by shard on whatever workers there are. A group
 * adapts alike; within it, adgroups are in the order of the store. Groups follow the split, so that held-out adgroups
 * which are all served alike are adapted in the same jobs as by an evaluation, and get the same bits. A shard that is
 * done is kept under the address of the bundles, so that an export which was killed goes on where it ended.
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
import {
  TASKS_PER_JOB_MAX,
  adaptTasks,
  type AdaptableModel,
  type TaskJobContext,
} from '../evaluation/task-jobs.js';
import { type QianmoError, errorOf } from '../../shared/base/errors.js';
import { methodPlanOf, type MethodConfig } from '../../shared/methods/methods.js';
import { adapts } from '../../shared/methods/inner-loop/method.js';
import type { EvaluationReport } from '../scoring/evaluation-report.js';
import { EVERY_ADGROUP } from '../scoring/size-buckets.js';
import { at } from '../../shared/base/arrays.js';
import {
  adaptedLayoutOf,
  type AdaptedTask,
  decodeAdaptedTasks,
  encodeAdaptedTasks,
} from '../../shared/bundle/adapted-tasks.js';
import type { ObjectStore } from '../../shared/storage/object-store.js';
import { sha256Of } from '../../shared/tensors/sha256.js';

/** The rows that adgroups adapt on. */
export type AdaptedRows = BundleManifest['blocks']['rows'];

/** The adgroups of a shard, unless it is the last of its group. Jobs of evaluations end there as well. */
const TASKS_PER_SHARD = TASKS_PER_JOB_MAX;

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
export function needsEvaluation(method: MethodConfig): boolean {
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
  const served = `${servedLevelOf(selection)}-adapted`;
  const cell = selection.chosen.find(({ arm }) => arm === served)?.cell;
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

/** The arms that a bundle serves: with blocks of crowds or without. */
export function servedLevelOf({
  crowds,
}: Pick<EvaluationReport['selection'], 'crowds'>): 'meta' | 'crowd' {
  return crowds?.serves === 'crowds' ? 'crowd' : 'meta';
}

/** Says that validation would choose another arm, by more than two standard errors, than the one that is served. */
export function otherChoice({
  selection,
  validation,
}: Pick<EvaluationReport, 'selection' | 'validation'>): string | null {
  const served =
    selection.blocks === undefined ? `${servedLevelOf(selection)}-adapted` : 'meta-chosen';
  const from = validation?.arms.find(({ arm }) => arm === served)?.fromChosen ?? null;
  if (validation === undefined || validation.chosen === null || from === null) return null;
  if (from.value <= 2 * from.standardError) return null;
  const worse = `${from.value.toFixed(4)} ± ${from.standardError.toFixed(4)}`;
  return `validation would choose ${validation.chosen}; the bundle serves ${served}, whose loss is higher by ${worse}`;
}

function requireEvaluation(
  report: EvaluationReport | null,
  { metaDigest, storeDigest, where }: ServingSource,
): EvaluationReport {
  const refused = (what: string, found?: string): QianmoError =>
    errorOf('usage', what, {
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

export const PROGRESS_KEY_PREFIX = 'progress/';
const DIGEST_BYTE_COUNT = 32;
const SHARD_DIGITS = 7;

interface ShardsSource {
  readonly shards: readonly ExportShard[];
  readonly model: AdaptableModel;
  readonly rows: AdaptedRows;
  /** Names what the shards are made of: another export never takes them for its own. */
  readonly meaning: string;
  readonly objects: ObjectStore;
}

export class AdaptedShards {
  readonly #source: ShardsSource;
  readonly #context: TaskJobContext;

  constructor(source: ShardsSource, context: TaskJobContext) {
    this.#source = source;
    this.#context = context;
  }

  /**
   * Adapts what an earlier export has not.
   *
   * @returns the number of adgroups that were already there.
   */
  async complete(): Promise<number> {
    const { shards } = this.#source;
    const found = await this.#soundShards();
    let keptCount = 0;
    for (let first = 0; first < shards.length;) {
      const shard = at(shards, first);
      if (found.has(first)) {
        keptCount += shard.taskIndices.length;
        this.#context.onTasksDone(shard.taskIndices.length);
        first += 1;
        continue;
      }
      first = await this.#adaptFrom(first, found);
    }
    return keptCount;
  }

  /** The adapted tasks of a shard, as they are kept. */
  async read(shardIndex: number): Promise<readonly AdaptedTask[]> {
    const { objects } = this.#source;
    const bytes = await this.#soundBytes(shardIndex);
    if (bytes === null)
      throw errorOf('data', 'adapted adgroups of this export are missing or damaged', {
        where: `${objects.address}/${this.#keyOf(shardIndex)}`,
        cure: 'run the same command again: it adapts them once more',
      });
    return this.#decoded(bytes, shardIndex);
  }

  /** Removes what is kept, once the bundle is published. */
  async remove(): Promise<void> {
    const { objects } = this.#source;
    for (const key of await objects.list(this.#prefix())) await objects.delete(key);
  }

  /**
   * Adapts the shards from `first` on that adapt alike and are not there, and keeps each when it is done.
   *
   * @returns the shard after the last of them.
   */
  async #adaptFrom(first: number, found: ReadonlySet<number>): Promise<number> {
    const { shards, model, rows, objects } = this.#source;
    const { adaptation, labelIndex } = at(shards, first);
    let end = first + 1;
    const goesOn = (shard: ExportShard | undefined): boolean =>
      shard?.adaptation === adaptation && shard.labelIndex === labelIndex && !found.has(end);
    // A job ends with a whole shard, so a shard that is adapted alone has the same jobs.
    const isWhole = (index: number): boolean =>
      at(shards, index).taskIndices.length === TASKS_PER_SHARD;
    while (isWhole(end - 1) && goesOn(shards[end])) end += 1;
    const taskIndices = shards.slice(first, end).flatMap((shard) => shard.taskIndices);
    const request = { ...model, taskIndices, adaptation, rows };
    const layout = adaptedLayoutOf(this.#context.spec);
    let shardIndex = first;
    let adapted: AdaptedTask[] = [];
    for await (const tasks of adaptTasks(this.#context, request)) {
      adapted.push(...tasks);
      for (; shardIndex < end; shardIndex += 1) {
        const { length } = at(shards, shardIndex).taskIndices;
        if (adapted.length < length) break;
        const payload = encodeAdaptedTasks(layout, adapted.slice(0, length));
        const digest = Buffer.from(sha256Of(payload), 'hex');
        const bytes = Buffer.concat([digest, payload]);
        await objects.put(this.#keyOf(shardIndex), bytes, { kind: 'always' });
        adapted = adapted.slice(length);
      }
    }
    return end;
  }

  async #soundShards(): Promise<Set<number>> {
    const keys = new Set(await this.#source.objects.list(this.#prefix()));
    const sound = new Set<number>();
    for (const shardIndex of this.#source.shards.keys())
      if (keys.has(this.#keyOf(shardIndex)) && (await this.#soundBytes(shardIndex)) !== null)
        sound.add(shardIndex);
    return sound;
  }

  async #soundBytes(shardIndex: number): Promise<Uint8Array | null> {
    const object = await this.#source.objects.get(this.#keyOf(shardIndex));
    if (object === null) return null;
    const { bytes } = object;
    const payload = bytes.subarray(DIGEST_BYTE_COUNT);
    const digest = Buffer.from(bytes.subarray(0, DIGEST_BYTE_COUNT)).toString('hex');
    return sha256Of(payload) === digest ? payload : null;
  }

  #decoded(bytes: Uint8Array, shardIndex: number): readonly AdaptedTask[] {
    const { shards, objects } = this.#source;
    const { taskIndices } = at(shards, shardIndex);
    const layout = adaptedLayoutOf(this.#context.spec);
    const where = `${objects.address}/${this.#keyOf(shardIndex)}`;
    return decodeAdaptedTasks(bytes, layout, taskIndices, where);
  }

  #prefix(): string {
    return `${PROGRESS_KEY_PREFIX}${this.#source.meaning}/`;
  }

  #keyOf(shardIndex: number): string {
    return `${this.#prefix()}${String(shardIndex).padStart(SHARD_DIGITS, '0')}`;
  }
}
