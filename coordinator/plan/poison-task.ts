/**
 * Finds the poison task of a job that was given up, by computing parts of the job, and describes it with
 * its key and its rows.
 */

import { QianmoError } from '../../shared/base/errors.js';
import type { TaskStore } from '../../shared/tasks/task-store.js';
import {
  type CodedTensor,
  decodeTensors,
  encodeTensors,
  floatsOf,
} from '../../shared/tensors/tensor-codec.js';
import type { DeliveredResult, Dispatcher, Rejection, TaskOrder } from '../dispatch/dispatcher.js';
import { givenUpJobOf } from '../dispatch/job-delivery.js';
import { TaskSearch } from './task-search.js';
import {
  divisionOf,
  drawnRowsOf,
  type GradientWork,
  idDropoutOf,
  type JobWork,
} from '../../shared/queue/protocol.js';
import { withDrawnRows } from '../../shared/tasks/rows/drawn-rows.js';
import { withDroppedIds } from '../../shared/tasks/rows/dropped-ids.js';
import { neighbourRowsOf } from '../../shared/tasks/rows/neighbour-rows.js';
import { type RowPackLayout, rowPackLayoutOf } from '../../shared/tasks/row-pack.js';

/** A task whose job fails with it and succeeds without it. */
interface PoisonTask {
  readonly taskIndex: number;
  readonly key: string;
  /** The task and its rows in words. */
  readonly description: string;
  /** The last failure of a job with this task. */
  readonly reason: string;
}

/** The error of a job whose poison task is known. */
export function poisonTaskError(
  { description, reason }: PoisonTask,
  cause: QianmoError,
  cure: string,
): QianmoError {
  const { where } = cause.report;
  return new QianmoError({
    kind: 'failed',
    what: 'a task makes its job fail',
    ...(where === undefined ? {} : { where }),
    found: `${description}: ${reason}`,
    cure,
    cause,
  });
}

interface SearchTerms extends OrderStores {
  readonly dispatcher: Dispatcher;
  readonly signal: AbortSignal;
}

/** A part of several tasks may fail by chance once; the search then finds nothing. */
const PART_ATTEMPTS_MAX = 1;
/** A single task is judged by two failures, on two workers where there are two. */
const TASK_ATTEMPTS_MAX = 2;
const LOG_ROWS_NAMED_MAX = 5;

/**
 * Returns null when the error is not that of a given-up job, and when no single task is at fault.
 *
 * @param orders the orders among which a job was given up.
 * @throws errors of the dispatcher that are no failure of a job.
 */
export async function poisonTaskOf(
  error: unknown,
  orders: readonly TaskOrder[],
  terms: SearchTerms,
): Promise<PoisonTask | null> {
  const givenUp = givenUpJobOf(error);
  const order = orders.find(({ job }) => job.jobIndex === givenUp?.jobIndex);
  if (givenUp === null || order === undefined) return null;
  const { taskIndices } = order.job;
  if (taskIndices.length === 1) return loneTask(order, orders, givenUp.reason, terms);
  const search = new TaskSearch(taskIndices.length);
  let { reason } = givenUp;
  for (;;) {
    const places = search.part;
    if (places === null) break;
    const failure = await failureOf(await orderPart(order, places, terms), terms);
    if (failure !== null && places.length === 1) reason = failure;
    search.note(failure === null ? 'sound' : 'failed');
  }
  const taskIndex = taskIndices[search.guilty ?? -1];
  return taskIndex === undefined ? null : described(taskIndex, reason, terms.store);
}

/** The only task of its job is at fault if another job of the call is sound. */
async function loneTask(
  { job }: TaskOrder,
  orders: readonly TaskOrder[],
  reason: string,
  terms: SearchTerms,
): Promise<PoisonTask | null> {
  const [taskIndex = -1] = job.taskIndices;
  const other = orders.find(({ job: { taskIndices } }) => !taskIndices.includes(taskIndex));
  if (other === undefined || (await failureOf(other, terms)) !== null) return null;
  return described(taskIndex, reason, terms.store);
}

/** Computes the order alone. Returns why its job was given up, or null when it is sound. */
async function failureOf(
  order: TaskOrder,
  { dispatcher, signal }: SearchTerms,
): Promise<string | null> {
  const attemptsMax = order.job.taskIndices.length === 1 ? TASK_ATTEMPTS_MAX : PART_ATTEMPTS_MAX;
  const read = order.job.work.kind === 'gradient' ? readFinite : readDecoded;
  const results = dispatcher.run([order], read, signal, { attemptsMax });
  try {
    for await (const _ of results);
    return null;
  } catch (error) {
    const givenUp = givenUpJobOf(error);
    if (givenUp === null) throw error;
    return givenUp.reason;
  }
}

interface SoundOutput {
  readonly tensors: ReadonlyMap<string, CodedTensor>;
}

function readFinite(delivered: DeliveredResult): SoundOutput | Rejection {
  const read = readDecoded(delivered);
  if (typeof read === 'string') return read;
  const isFinite = ({ values }: CodedTensor): boolean => values.every(Number.isFinite);
  return [...read.tensors.values()].every(isFinite) ? read : 'not_finite';
}

/** Logits may be infinite: an evaluation tries rates that diverge. */
function readDecoded({ output }: DeliveredResult): SoundOutput | Rejection {
  try {
    return { tensors: decodeTensors(output, 'output') };
  } catch (error) {
    if (error instanceof QianmoError) return 'layout_mismatch';
    throw error;
  }
}

async function described(taskIndex: number, reason: string, store: TaskStore): Promise<PoisonTask> {
  const key = (store.tasks[taskIndex]?.key ?? '').replaceAll('\u001f', ' / ');
  const [task] = await store.readTasks([taskIndex]);
  const supportRowCount = task?.supportRowCount ?? 0;
  const queryRowCount = (task?.rowCount ?? 0) - supportRowCount;
  const logRows = [...(task?.logRows ?? [])].sort((a, b) => a - b);
  const named = logRows.slice(0, LOG_ROWS_NAMED_MAX).join(', ');
  const restCount = logRows.length - Math.min(logRows.length, LOG_ROWS_NAMED_MAX);
  const rest = restCount === 0 ? '' : ` and ${restCount} more`;
  return {
    ...{ taskIndex, key, reason },
    description:
      `task ${key} (number ${taskIndex}, ${supportRowCount} support rows, ${queryRowCount} query ` +
      `rows; log rows ${named}${rest})`,
  };
}

type Leaves = GradientWork['leaves'];

interface OrderStores {
  /** With its tasks divided as the job divides them. */
  readonly store: TaskStore;
  /** As it is on disk; the same where absent. Neighbours are read from it. */
  readonly undividedStore?: TaskStore;
}

/** @param places the places of the tasks in the job, ascending. */
export async function orderPart(
  order: TaskOrder,
  places: readonly number[],
  stores: OrderStores,
): Promise<TaskOrder> {
  const { job, rowPack } = order;
  const part: TaskOrder['job'] = {
    ...job,
    taskIndices: chosen(job.taskIndices, places),
    ...(job.neighbours === undefined ? {} : { neighbours: chosen(job.neighbours, places) }),
    work: workPart(job.work, places),
  };
  if (rowPack === null) return { ...order, job: part };
  const [whole, ofPart] = [await layoutOf(job, stores), await layoutOf(part, stores)];
  return { ...order, job: part, rowPack: rowPackPart(rowPack, whole, ofPart) };
}

function chosen<Value>(values: readonly Value[], places: readonly number[]): Value[] {
  return places.flatMap((place) => values.slice(place, place + 1));
}

function workPart(work: JobWork, places: readonly number[]): JobWork {
  if (work.kind !== 'gradient') return work;
  const { taskWeights, coldTaskWeights, drawnRows, leaves, ...rest } = work;
  return {
    ...rest,
    taskWeights: chosen(taskWeights, places),
    ...(coldTaskWeights === undefined ? {} : { coldTaskWeights: chosen(coldTaskWeights, places) }),
    ...(drawnRows === undefined ? {} : { drawnRows: chosen(drawnRows, places) }),
    leaves: leavesPart(leaves, places),
  };
}

/** The leaves of the chosen tasks, padded as before, as if they were the outer step. */
function leavesPart({ shapes }: Leaves, places: readonly number[]): Leaves {
  let end = 0;
  const kept = shapes.flatMap(([taskCount, ...extents]): Leaves['shapes'] => {
    const start = end;
    end += taskCount;
    const keptCount = places.filter((place) => place >= start && place < end).length;
    return keptCount === 0 ? [] : [[keptCount, ...extents]];
  });
  return { first: 0, stepLeafCount: kept.length, shapes: kept };
}

/** As the worker derives it from the same job. */
async function layoutOf(
  { taskIndices, neighbours = [], work, outerStep }: TaskOrder['job'],
  { store, undividedStore = store }: OrderStores,
): Promise<RowPackLayout> {
  const division = divisionOf(work);
  const own = withDroppedIds(
    withDrawnRows(await store.readTasks(taskIndices), drawnRowsOf(work)),
    store.manifest.features,
    idDropoutOf({ work, outerStep }),
  );
  const named = await undividedStore.readTasks([...new Set(neighbours.flat())]);
  return rowPackLayoutOf([...own, ...named.map((task) => neighbourRowsOf(task, division))]);
}

function rowPackPart(bytes: Uint8Array, whole: RowPackLayout, part: RowPackLayout): Uint8Array {
  const rows = floatsOf(decodeTensors(bytes, 'row pack'))?.get('rows');
  const [, width = 0] = rows?.shape ?? [];
  const values = new Float32Array(part.rowCount * width);
  let end = 0;
  for (const [table, ids] of part.idsByTable.entries()) {
    const wholeIds = whole.idsByTable[table] ?? new Int32Array(0);
    const start = whole.startByTable[table] ?? 0;
    let place = 0;
    // Both lists ascend, and the whole has every id of the part.
    for (const id of ids) {
      while (wholeIds[place] !== id) place += 1;
      const from = (start + place) * width;
      values.set(rows?.values.subarray(from, from + width) ?? [], end);
      end += width;
    }
  }
  return encodeTensors(new Map([['rows', { shape: [part.rowCount, width], values }]]));
}
