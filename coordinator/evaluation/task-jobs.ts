/**
 * Jobs over any tasks of a store, chunk by chunk and wave by wave: what predictions and adaptations of
 * tasks have in common. Chunks follow from the list of tasks alone, so that jobs of both kinds over one
 * list hold the same tasks.
 */

import { at } from '../../shared/base/arrays.js';
import { QianmoError } from '../../shared/base/errors.js';
import type { RunConfig } from '../../shared/config/run-config.js';
import type { MethodConfig } from '../../shared/methods/methods.js';
import type { MetaParameters } from '../../shared/models/initial-values.js';
import type { ModelSpec } from '../../shared/models/model-spec.js';
import { PROTOCOL_VERSION, type JobWork } from '../../shared/queue/protocol.js';
import type { RowDivision } from '../../shared/tasks/rows/row-division.js';
import { rowPackLayoutOf } from '../../shared/tasks/row-pack.js';
import type { TaskRows, TaskStore } from '../../shared/tasks/task-store.js';
import type {
  CallTerms,
  DeliveredResult,
  Dispatcher,
  Rejection,
  TaskOrder,
} from '../dispatch/dispatcher.js';
import { jobNeighboursOf } from '../plan/job-neighbours.js';
import { poisonTaskError, poisonTaskOf } from '../plan/poison-task.js';
import {
  encodeDense,
  encodeRowPack,
  encodeUnchanging,
  type FrozenInput,
} from '../plan/row-pack-gather.js';

export interface TaskJobContext {
  readonly config: RunConfig;
  /** Unlike the training run's: its jobs must not be taken for ours. */
  readonly runId: string;
  readonly store: TaskStore;
  /** How `store` divides the rows of each task; absent when as on disk. */
  readonly division?: RowDivision;
  /** As it is on disk, where `store` is divided: what neighbours are read from. */
  readonly undividedStore?: TaskStore;
  readonly storeAddress: string;
  readonly spec: ModelSpec;
  readonly dispatcher: Dispatcher;
  readonly signal: AbortSignal;
  /** Those of each wave. */
  readonly terms?: CallTerms;
  /** Numbers the waves; a wave's number stands where a training job has its outer step. */
  readonly nextWave: () => number;
  readonly onTasksDone: (taskCount: number) => void;
  readonly onBackend: (backend: string) => void;
}

export interface AdaptableModel {
  readonly parameters: MetaParameters;
  /** How tasks adapt from them; `global` by plain gradient descent. */
  readonly method: MethodConfig;
}

/** Orders handed over together; bounds the row packs held in memory. */
const JOBS_PER_WAVE = 64;
const TASKS_PER_JOB = 16;

/** The tasks of one job. */
export interface TaskChunk {
  readonly jobIndex: number;
  readonly tasks: readonly TaskRows[];
  /** Place of the first of `tasks` in the list. */
  readonly firstTask: number;
}

/** The number of tasks that are handed over together. */
export function tasksPerWaveOf(): number {
  return JOBS_PER_WAVE * TASKS_PER_JOB;
}

/** The tasks of a list in chunks, as many as are handed over together. */
export async function* taskWaves(
  { store }: TaskJobContext,
  taskIndices: readonly number[],
): AsyncGenerator<readonly TaskChunk[]> {
  const tasksPerJob = TASKS_PER_JOB;
  const tasksPerWave = tasksPerWaveOf();
  for (let first = 0; first < taskIndices.length; first += tasksPerWave) {
    const tasks = await store.readTasks(taskIndices.slice(first, first + tasksPerWave));
    const chunks: TaskChunk[] = [];
    for (let start = 0; start < tasks.length; start += tasksPerJob)
      chunks.push({
        jobIndex: start / tasksPerJob,
        tasks: tasks.slice(start, start + tasksPerJob),
        firstTask: first + start,
      });
    yield chunks;
  }
}

/** A model whose parameters are encoded once for all of its jobs, which do not change them. */
type EncodedModel = AdaptableModel & {
  readonly frozen: FrozenInput;
  /** No variables: all of them are frozen. */
  readonly dense: Uint8Array;
};

/** @param model with the tasks of all jobs that it is encoded for. */
export function withEncodedParameters(
  { config, store, spec }: TaskJobContext,
  model: AdaptableModel & { readonly taskIndices: readonly number[] },
): EncodedModel {
  const { parameters, method, taskIndices } = model;
  const rowsRead = taskIndices.reduce((sum, taskIndex) => {
    const { supportRowCount, queryRowCount } = at(store.tasks, taskIndex);
    return sum + supportRowCount + queryRowCount;
  }, 0);
  const bounds = { tablesByteCountMax: config.queue.frozenTablesByteCountMax, rowsRead };
  const frozen = encodeUnchanging(parameters, spec.tableRowWidth, bounds);
  return { parameters, method, frozen, dense: encodeDense(parameters, []) };
}

/** The work on a chunk, and how its output is read. */
interface ChunkJobs<Chunk extends TaskChunk, Value extends object> {
  /** @param division as the work of a job states it. */
  readonly workOf: (division: { readonly division?: RowDivision }) => JobWork;
  /** The value of an output, or why the output cannot be used. */
  readonly read: (output: Uint8Array, chunk: Chunk) => Value | Rejection;
}

/** Sends each chunk as a job and yields the results in order of arrival, one for each chunk. */
export async function* chunkResults<Chunk extends TaskChunk, Value extends object>(
  context: TaskJobContext,
  model: EncodedModel,
  chunks: readonly Chunk[],
  { workOf, read }: ChunkJobs<Chunk, Value>,
): AsyncGenerator<{ readonly chunk: Chunk; readonly value: Value }> {
  if (chunks.length === 0) return;
  const { dispatcher, signal, terms, division, onBackend } = context;
  const outerStep = context.nextWave();
  const work = workOf(division === undefined ? {} : { division });
  const orders: TaskOrder[] = [];
  for (const chunk of chunks)
    orders.push(await orderOf(context, model, chunk, { outerStep, work }));
  const chunkOf = new Map(chunks.map((chunk) => [chunk.jobIndex, chunk]));
  const readChunk = (delivered: DeliveredResult): { chunk: Chunk; value: Value } | Rejection => {
    const chunk = chunkOf.get(delivered.result.jobIndex);
    if (chunk === undefined) return 'not_of_this_step';
    const value = read(delivered.output, chunk);
    return typeof value === 'string' ? value : { chunk, value };
  };
  try {
    for await (const { result, value } of dispatcher.run(orders, readChunk, signal, terms)) {
      onBackend(result.backend);
      yield value;
    }
  } catch (error) {
    throw await namingPoisonTask(error, orders, context);
  }
}

/** An evaluation without one of its tasks would be another one, so it ends and names the task. */
async function namingPoisonTask(
  error: unknown,
  orders: readonly TaskOrder[],
  context: TaskJobContext,
): Promise<unknown> {
  if (!(error instanceof QianmoError) || context.signal.aborted) return error;
  const found = await poisonTaskOf(error, orders, context);
  return found === null
    ? error
    : poisonTaskError(found, error, 'correct its rows, prepare again and train again');
}

async function orderOf(
  context: TaskJobContext,
  { parameters, method, dense, frozen }: EncodedModel,
  { jobIndex, tasks }: TaskChunk,
  { outerStep, work }: { readonly outerStep: number; readonly work: JobWork },
): Promise<TaskOrder> {
  const { config, store, undividedStore = store, division } = context;
  const { fingerprint } = config.compute;
  const neighbours = await jobNeighboursOf(undividedStore, method, tasks, division);
  return {
    job: {
      protocolVersion: PROTOCOL_VERSION,
      runId: context.runId,
      ...{ outerStep, jobIndex },
      store: {
        address: context.storeAddress,
        digest: store.digest,
        storage: config.storage,
      },
      model: config.model,
      taskIndices: tasks.map((task) => task.taskIndex),
      ...neighbours.named,
      microBatchRowsMax: config.training.microBatchRowsMax,
      device: config.compute.device,
      portable: config.compute.portable,
      ...(fingerprint === undefined ? {} : { fingerprint }),
      work,
      timeoutMs: config.queue.jobTimeoutMs,
      blobLifetimeMs: config.queue.blobLifetimeMs,
    },
    dense,
    rowPack: frozen.holdsTables
      ? null
      : encodeRowPack(
          parameters.tables,
          rowPackLayoutOf([...tasks, ...neighbours.rows]),
          context.spec.tableRowWidth,
        ),
    frozen: frozen.bytes,
  };
}

/** The decoded output of a job, or the rejection of bytes that are malformed. */
export function decodedOr<Value>(decode: () => Value): Value | 'layout_mismatch' {
  try {
    return decode();
  } catch (error) {
    if (error instanceof QianmoError) return 'layout_mismatch';
    throw error;
  }
}
