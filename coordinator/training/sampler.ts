/**
 * Decides which tasks an outer step trains on and how they are cut into jobs.
 * Pure in (seed, outer step, task list, config): the number of workers is not an input.
 */

import { QianmoError } from '../../shared/errors.js';
import { randomStream } from '../../shared/random.js';
import type { TaskEntry } from '../../shared/tasks/task-store.js';

export interface SamplingRule {
  readonly sampling: 'uniform' | 'rows';
  readonly tasksPerOuterStep: number;
  readonly tasksPerJob: number;
}

/** The jobs of an outer step in order of job index; a job is its tasks in order. */
export type SampledJobs = readonly (readonly TaskEntry[])[];

export type TaskSampler = (outerStep: number) => SampledJobs;

/** One epoch's order of the tasks, and the running total of their rows in that order. */
interface Epoch {
  readonly epoch: number;
  readonly order: Int32Array;
  readonly rowTotals: Float64Array;
}

/** An outer step may end one epoch and begin the next. */
const EPOCHS_KEPT_MAX = 2;

/** `taskSampler` for a single outer step. */
export function sampleTasks(
  seed: number,
  outerStep: number,
  tasks: readonly TaskEntry[],
  rule: SamplingRule,
): SampledJobs {
  return taskSampler(seed, tasks, rule)(outerStep);
}

/**
 * A sampler over the training tasks. It remembers the permutations of the latest epochs and nothing
 * else; what it returns for an outer step does not depend on what was asked before.
 *
 * - `uniform` reads one permutation of the tasks per epoch, epochs end to end, so that after any
 *   number of outer steps no task was drawn more than once more often than another.
 * - `rows` is systematic sampling (Madow, 1949): equally spaced points with one random offset on
 *   the running total of rows. A task's expected number of draws per outer step is exactly
 *   `tasksPerOuterStep * its rows / all rows`; a large task may be drawn more than once.
 *
 * @throws QianmoError of kind `data` when there is no task to train on.
 */
export function taskSampler(
  seed: number,
  tasks: readonly TaskEntry[],
  rule: SamplingRule,
): TaskSampler {
  if (tasks.length === 0)
    throw new QianmoError({
      kind: 'data',
      what: 'the task store has no training tasks',
      expected: 'at least one task of the split `train`',
      cure: 'lower the minimum rows in data.rowSplit or the shares in data.taskSplit, then prepare again',
    });
  const epochs = new Map<number, Epoch>();
  const epochAt = (epoch: number): Epoch => {
    const known = epochs.get(epoch);
    if (known !== undefined) return known;
    const made = epochOf(seed, epoch, tasks);
    for (const oldest of epochs.keys()) if (epochs.size >= EPOCHS_KEPT_MAX) epochs.delete(oldest);
    epochs.set(epoch, made);
    return made;
  };
  const draw = rule.sampling === 'uniform' ? drawUniform : drawByRows;
  return (outerStep) => {
    const drawn = draw(seed, outerStep, tasks, rule.tasksPerOuterStep, epochAt);
    // Tasks of like size share a job, so that padding to the longest costs little.
    drawn.sort((a, b) => rowCountOf(a) - rowCountOf(b) || a.taskIndex - b.taskIndex);
    const jobs: TaskEntry[][] = [];
    for (let start = 0; start < drawn.length; start += rule.tasksPerJob)
      jobs.push(drawn.slice(start, start + rule.tasksPerJob));
    return jobs;
  };
}

function drawUniform(
  _seed: number,
  outerStep: number,
  tasks: readonly TaskEntry[],
  count: number,
  epochAt: (epoch: number) => Epoch,
): TaskEntry[] {
  return Array.from({ length: count }, (_, draw) => {
    const position = outerStep * count + draw;
    const { order } = epochAt(Math.floor(position / tasks.length));
    return taskAt(tasks, order, position % tasks.length);
  });
}

function drawByRows(
  seed: number,
  outerStep: number,
  tasks: readonly TaskEntry[],
  count: number,
  epochAt: (epoch: number) => Epoch,
): TaskEntry[] {
  const { order, rowTotals } = epochAt(Math.floor((outerStep * count) / tasks.length));
  const rowTotal = rowTotals[rowTotals.length - 1] ?? 0;
  const offset = randomStream(seed, 'row sampling', outerStep).uniform();
  return Array.from({ length: count }, (_, draw) =>
    taskAt(tasks, order, firstAbove(rowTotals, ((offset + draw) / count) * rowTotal)),
  );
}

function epochOf(seed: number, epoch: number, tasks: readonly TaskEntry[]): Epoch {
  const order = Int32Array.from(tasks, (_, place) => place);
  randomStream(seed, 'task order', epoch).shuffle(order);
  let rowTotal = 0;
  const rowTotals = Float64Array.from(order, (place) => {
    const task = tasks[place];
    rowTotal += task === undefined ? 0 : rowCountOf(task);
    return rowTotal;
  });
  return { epoch, order, rowTotals };
}

/** Place of the first total above `point`; the last place when rounding put the point at the end. */
function firstAbove(totals: Float64Array, point: number): number {
  let low = 0;
  let high = totals.length - 1;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if ((totals[middle] ?? 0) > point) high = middle;
    else low = middle + 1;
  }
  return low;
}

function taskAt(tasks: readonly TaskEntry[], order: Int32Array, place: number): TaskEntry {
  const task = tasks[order[place] ?? -1];
  if (task === undefined) throw new Error(`no task at place ${place} of ${tasks.length}`);
  return task;
}

function rowCountOf(task: TaskEntry): number {
  return task.supportRowCount + task.queryRowCount;
}
