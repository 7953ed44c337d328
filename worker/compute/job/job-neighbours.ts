/** Reads the neighbours that a job names, as tasks of support rows alone. No tensors here. */

import { QianmoError } from '../../../shared/base/errors.js';
import { methodPlanOf } from '../../../shared/methods/methods.js';
import type { Job } from '../../../shared/queue/protocol.js';
import { neighbourRowsOf } from '../../../shared/tasks/rows/neighbour-rows.js';
import { supportAlone } from '../../../shared/tasks/rows/row-division.js';
import { taskViewsOf, type TaskRows, type TaskStore } from '../../../shared/tasks/task-store.js';

/**
 * Returns as many neighbours for each task as its method reads, or none. Places without a neighbour
 * have no rows.
 *
 * @param prepared applied to the rows of neighbours, as to those of the job's tasks.
 */
export async function readNeighbours(
  store: Pick<TaskStore, 'readTasks' | 'viewTasks'>,
  { work, neighbours: named, ...job }: Job,
  tasks: readonly TaskRows[],
  prepared: (tasks: readonly TaskRows[]) => readonly TaskRows[],
): Promise<readonly (readonly TaskRows[])[]> {
  const count = methodPlanOf(work.method).innerLoop.reads.neighbours?.count ?? 0;
  if (count === 0) return [];
  if (named?.length !== tasks.length)
    throw new QianmoError({
      kind: 'data',
      what: 'a job names the neighbours of each of its tasks',
      where: `job ${job.jobIndex} of outer step ${job.outerStep} of run ${job.runId}`,
      expected: `${tasks.length} lists, as its method reads them`,
      found: String(named?.length ?? 'none'),
      cure: 'coordinator and worker must run the same version',
    });
  const indices = [...new Set(named.flat())];
  const rows = (await taskViewsOf(store, indices)).map((task) => neighbourRowsOf(task));
  const byIndex = new Map(prepared(rows).map((task) => [task.taskIndex, task]));
  return tasks.map((task, place) => {
    const nobody = supportAlone(task, 0);
    return Array.from(
      { length: count },
      (_, at) => byIndex.get(named[place]?.[at] ?? NOBODY) ?? nobody,
    );
  });
}

const NOBODY = -1;
