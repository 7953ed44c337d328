/**
 * Draws the batches of trunk rows beside the tasks of an outer step, so often that their rows are read as often as
 * the query rows of tasks are on average. Pure in (seed, outer step, task list, config).
 */

import { at } from '../../shared/base/arrays.js';
import { randomStream } from '../../shared/base/random.js';
import type { TrainingConfig } from '../../shared/config/training-config.js';
import type { TaskEntry } from '../../shared/tasks/task-store.js';
import { drawSharesOf, isDrawnByShare } from './draw-shares.js';

type DrawingRule = Pick<TrainingConfig, 'sampling' | 'sizeBucketEdges' | 'tasksPerOuterStep'>;

interface DrawnTasks {
  readonly tasks: readonly TaskEntry[];
  readonly trunkBatches: readonly TaskEntry[];
}

/**
 * With B batches and an expected share s of all query rows that the tasks of an outer step read, B s batches are
 * drawn in an outer step on average: those from floor(t B s) to floor((t + 1) B s) at outer step t, one
 * permutation of the batches after the other. With N tasks, s is tasksPerOuterStep / N where all tasks are drawn
 * alike. With sampling: sequential, the order is that of the catalog.
 */
export function trunkBatchDrawer(
  seed: number,
  { tasks, trunkBatches }: DrawnTasks,
  rule: DrawingRule,
): (outerStep: number) => TaskEntry[] {
  const count = trunkBatches.length;
  if (count === 0) return () => [];
  const perOuterStep = count * queryShareOf(tasks, rule);
  let latest: { readonly epoch: number; readonly order: Int32Array } | null = null;
  const orderAt = (epoch: number): Int32Array => {
    if (latest?.epoch === epoch) return latest.order;
    const inOrder = Int32Array.from({ length: count }, (_, place) => place);
    const order =
      rule.sampling === 'sequential'
        ? inOrder
        : randomStream(seed, 'trunk batch order', epoch).shuffle(inOrder);
    latest = { epoch, order };
    return order;
  };
  return (outerStep) => {
    const first = Math.floor(outerStep * perOuterStep);
    const end = Math.floor((outerStep + 1) * perOuterStep);
    return Array.from({ length: end - first }, (_, draw) => {
      const order = orderAt(Math.floor((first + draw) / count));
      return at(trunkBatches, at(order, (first + draw) % count));
    });
  };
}

/** The share of all query rows that the tasks of an outer step read on average; above 1 where they read rows twice. */
function queryShareOf(
  tasks: readonly TaskEntry[],
  { sampling, sizeBucketEdges, tasksPerOuterStep }: DrawingRule,
): number {
  if (!isDrawnByShare(sampling)) return tasksPerOuterStep / tasks.length;
  const shares = drawSharesOf(tasks, sampling, sizeBucketEdges);
  let [drawn, all, shareTotal] = [0, 0, 0];
  for (const [place, { queryRowCount }] of tasks.entries()) {
    drawn += at(shares, place) * queryRowCount;
    all += queryRowCount;
    shareTotal += at(shares, place);
  }
  return all === 0
    ? tasksPerOuterStep / tasks.length
    : (tasksPerOuterStep * drawn) / (shareTotal * all);
}
