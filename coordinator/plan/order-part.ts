/**
 * The order of a part of a job: some of its tasks, with their weights and their rows of the row pack. Such
 * an order serves to find out which task makes the job fail; its sums are those of no outer step.
 */

import {
  divisionOf,
  drawnRowsOf,
  idDropoutOf,
  type GradientWork,
  type JobWork,
} from '../../shared/queue/protocol.js';
import { withDrawnRows } from '../../shared/tasks/rows/drawn-rows.js';
import { withDroppedIds } from '../../shared/tasks/rows/dropped-ids.js';
import { neighbourRowsOf } from '../../shared/tasks/rows/neighbour-rows.js';
import { rowPackLayoutOf, type RowPackLayout } from '../../shared/tasks/row-pack.js';
import type { TaskStore } from '../../shared/tasks/task-store.js';
import { decodeTensors, encodeTensors, floatsOf } from '../../shared/tensors/tensor-codec.js';
import type { TaskOrder } from '../dispatch/dispatcher.js';

type Leaves = GradientWork['leaves'];

export interface OrderStores {
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
