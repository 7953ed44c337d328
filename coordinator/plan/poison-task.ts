/**
 * Finds the poison task of a job that was given up, by computing its tasks one by one, and describes it with
 * its key and its rows.
 */

import { at } from '../../shared/base/arrays.js';
import { QianmoError, errorOf } from '../../shared/base/errors.js';
import type { TaskStore } from '../../shared/tasks/task-store.js';
import {
  type CodedTensor,
  decodeTensors,
  encodeTensors,
  floatsOf,
} from '../../shared/tensors/tensor-codec.js';
import type { DeliveredResult, Dispatcher, Rejection, JobOrder } from '../dispatch/dispatcher.js';
import { givenUpJobOf } from '../dispatch/job-delivery.js';
import { drawnRowsOf, type GradientWork, idDropoutOf } from '../../shared/queue/protocol.js';
import { withDrawnRows, withDroppedIds } from '../../shared/tasks/task-copies.js';
import { type RowPackLayout, rowPackLayoutOf } from '../../shared/tasks/row-pack.js';

interface PoisonTask {
  readonly taskIndex: number;
  readonly key: string;
  readonly description: string;
  readonly reason: string;
}

export function poisonTaskError(
  { description, reason }: PoisonTask,
  cause: QianmoError,
  cure: string,
): QianmoError {
  const { where } = cause.report;
  return errorOf('failed', 'a task makes its job fail', {
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

/** A task is judged by two failures, on two workers where there are two. */
const TASK_ATTEMPTS_MAX = 2;
/** Where so many other tasks fail too, none is at fault. */
const OTHERS_TRIED_MAX = 3;
const LOG_ROWS_NAMED_MAX = 5;

/**
 * Computes each task of the job alone. A task is at fault only where others are sound, because a job that fails whatever
 * its tasks are (its model is too large, the numbers diverge) has no task at fault.
 *
 * @param orders the orders among which a job was given up.
 * @returns null when the error is not that of a given-up job, and when no single task is at fault.
 * @throws errors of the dispatcher that are no failure of a job.
 */
export async function poisonTaskOf(
  error: unknown,
  orders: readonly JobOrder[],
  terms: SearchTerms,
): Promise<PoisonTask | null> {
  const givenUp = givenUpJobOf(error);
  const order = orders.find(({ job }) => job.jobIndex === givenUp?.jobIndex);
  if (givenUp === null || order === undefined) return null;
  const { taskIndices } = order.job;
  if (taskIndices.length === 1)
    return found(order, { ...givenUp, orders: orders.filter((one) => one !== order) }, terms);
  let suspects: JobOrder[] = [];
  for (const place of taskIndices.keys()) suspects.push(await orderOfTask(order, place, terms));
  for (;;) {
    const failure = await failureAmong(suspects, terms, 1);
    const suspect = suspects.find(({ job }) => job.jobIndex === failure?.jobIndex);
    if (suspect === undefined) return null;
    suspects = suspects.filter((one) => one !== suspect);
    // The failure may be a passing one, and a worker that another task has killed may have held this one too.
    const alone = await failureAmong([suspect], terms);
    if (alone !== null) return found(suspect, { ...alone, orders: suspects }, terms);
  }
}

/** The task of the order, unless no other order is sound. */
async function found(
  { job }: JobOrder,
  { reason, orders }: { readonly reason: string; readonly orders: readonly JobOrder[] },
  terms: SearchTerms,
): Promise<PoisonTask | null> {
  for (const other of orders.slice(0, OTHERS_TRIED_MAX))
    if ((await failureAmong([other], terms)) === null)
      return described(job.taskIndices[0] ?? -1, reason, terms.store);
  return null;
}

/** Computes the orders. Returns which job was given up first and why, or null when all are sound. */
async function failureAmong(
  orders: readonly JobOrder[],
  { dispatcher, signal }: SearchTerms,
  attemptsMax = TASK_ATTEMPTS_MAX,
): Promise<ReturnType<typeof givenUpJobOf>> {
  const read = orders[0]?.job.work.kind === 'gradient' ? readFinite : readDecoded;
  try {
    const results = dispatcher.run(orders, read, signal, attemptsMax);
    for await (const _ of results);
    return null;
  } catch (error) {
    const givenUp = givenUpJobOf(error);
    if (givenUp === null) throw error;
    return givenUp;
  }
}

interface SoundOutput {
  readonly tensors: ReadonlyMap<string, CodedTensor>;
}

function readFinite(delivered: DeliveredResult): SoundOutput | Rejection {
  if (delivered.result.sums?.isFinite === false) return 'not_finite';
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

interface OrderStores {
  /** With its tasks divided as the job divides them. */
  readonly store: TaskStore;
}

/**
 * The order of one task of a job, with its weights and its rows of the row pack. Its sums are those of no outer step.
 *
 * @param place that of the task in the job, which becomes the index of its job
 */
async function orderOfTask(order: JobOrder, place: number, stores: OrderStores): Promise<JobOrder> {
  const { dense, frozen, rowPack } = order;
  const { keepsSums: _, ...job } = order.job;
  const { taskIndices } = job;
  const own: JobOrder['job'] = {
    ...{ ...job, jobIndex: place, taskIndices: [at(taskIndices, place)] },
    work: job.work.kind === 'gradient' ? gradientOfTask(job.work, place) : job.work,
  };
  if (rowPack === null) return { job: own, dense, frozen, rowPack };
  const [whole, part] = [await layoutOf(job, stores), await layoutOf(own, stores)];
  return { job: own, dense, frozen, rowPack: rowPackPart(rowPack, whole, part) };
}

/** The task is padded as before, as if its leaf were the outer step. */
function gradientOfTask(work: GradientWork, place: number): GradientWork {
  const { taskWeights, coldTaskWeights, drawnRows, drawnSupportCounts, leaves } = work;
  let end = 0;
  const leaf = leaves.shapes.findIndex(([taskCount]) => place < (end += taskCount));
  const [, ...extents] = at(leaves.shapes, leaf);
  return {
    ...{ ...work, taskWeights: [at(taskWeights, place)] },
    ...(coldTaskWeights === undefined ? {} : { coldTaskWeights: [at(coldTaskWeights, place)] }),
    ...(drawnRows === undefined ? {} : { drawnRows: [at(drawnRows, place)] }),
    ...(drawnSupportCounts === undefined
      ? {}
      : { drawnSupportCounts: [at(drawnSupportCounts, place)] }),
    leaves: { first: 0, stepLeafCount: 1, shapes: [[1, ...extents]] },
  };
}

/** As the worker derives it from the same job. */
async function layoutOf(
  { taskIndices, work, outerStep }: JobOrder['job'],
  { store }: OrderStores,
): Promise<RowPackLayout> {
  const own = withDroppedIds(
    withDrawnRows(await store.readTasks(taskIndices), drawnRowsOf(work)),
    store.manifest.features,
    idDropoutOf({ work, outerStep }),
  );
  return rowPackLayoutOf(own);
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
