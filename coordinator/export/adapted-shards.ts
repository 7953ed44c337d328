/**
 * Adapts the adgroups of a bundle, shard by shard, on whatever workers there are. A shard that is done is
 * kept under the address of the bundles, so that an export which was killed goes on where it ended.
 */

import { at } from '../../shared/base/arrays.js';
import { QianmoError } from '../../shared/base/errors.js';
import {
  adaptedLayoutOf,
  type AdaptedTask,
  decodeAdaptedTasks,
  encodeAdaptedTasks,
} from '../../shared/bundle/adapted-tasks.js';
import type { ObjectStore } from '../../shared/storage/object-store.js';
import { sha256Of } from '../../shared/tensors/sha256.js';
import { adaptTasks } from '../evaluation/task-jobs.js';
import type { AdaptableModel, TaskJobContext } from '../evaluation/task-jobs.js';
import { type AdaptedRows, type ExportShard, TASKS_PER_SHARD } from './export-groups.js';

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
      throw new QianmoError({
        kind: 'data',
        what: 'adapted adgroups of this export are missing or damaged',
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
