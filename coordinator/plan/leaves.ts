/**
 * Cuts the tasks of an outer step into leaves: micro-batches of bounded cost over all of its tasks. The cut depends on
 * config, data and step alone, since it decides the bits of the step.
 */

import { at } from '../../shared/base/arrays.js';
import type { RunConfig } from '../../shared/config/run-config.js';
import { adapts } from '../../shared/methods/inner-loop/method.js';
import { methodPlanOf } from '../../shared/methods/methods.js';
import {
  CALL_OVERHEAD_ROWS,
  flatMicroBatchesOf,
  microBatchesOf,
  paddedRowCountOf,
  type MicroBatch,
  type TaskSize,
} from '../../shared/tasks/micro-batches.js';

interface CutTask extends TaskSize {
  /** The rows that are drawn one by one; 0 where all are read. */
  readonly drawnRowCount: number;
}

interface LeafCut {
  readonly microBatch: MicroBatch;
  /** Its padded rows, and those that a call is worth. */
  readonly cost: number;
  readonly jobByteCount: number;
}

/**
 * Leaves are asked for by default as long as each is worth its call, its row pack and its join, some milliseconds together: a step
 * of 16,384 rows took 81 ms in sixteen leaves and 52 ms in four. Fewer are cut where a step is small.
 */
const LEAVES_DEFAULT = 16;
const LEAF_ROWS_MIN = 8 * CALL_OVERHEAD_ROWS;

/** A leaf fits into a job with room to spare. */
const LEAF_JOB_BYTE_COUNT_MAX = 24 * 1024;
/** The longest numbers, with their commas. */
const INDEX_BYTE_COUNT = 9;
const WEIGHT_BYTE_COUNT = 25;
const PLACE_BYTE_COUNT = 7;
const LIST_BYTE_COUNT = 3;
const SHAPE_BYTE_COUNT = 48;

type LeafConfig = Pick<RunConfig, 'method'> & {
  readonly training: Pick<RunConfig['training'], 'microBatchRowsMax' | 'leavesPerOuterStepMin'>;
};

/** @returns leaves whose costs are spread evenly, so that halves and quarters of the tree cost about the same. */
export function cutIntoLeaves(tasks: readonly CutTask[], config: LeafConfig): LeafCut[] {
  const cut = cutWith(tasks, config, config.training.microBatchRowsMax);
  const leafCountMin = Math.min(leafCountMinOf(cut, config), tasks.length);
  let leaves = cut;
  let rowsMax = 2 ** Math.ceil(Math.log2(largestOf(cut)));
  while (leaves.length < leafCountMin && rowsMax > 1) {
    rowsMax /= 2;
    leaves = cutWith(tasks, config, rowsMax);
  }
  return spreadByCost(leaves, (microBatch) => jobByteCountOf(microBatch, tasks, config));
}

function leafCountMinOf(cut: readonly MicroBatch[], config: LeafConfig): number {
  const asked = config.training.leavesPerOuterStepMin;
  if (asked !== undefined) return asked;
  const rowCount = cut.reduce((sum, microBatch) => sum + paddedRowCountOf(microBatch), 0);
  return Math.min(LEAVES_DEFAULT, Math.max(1, Math.floor(rowCount / LEAF_ROWS_MIN)));
}

function largestOf(cut: readonly MicroBatch[]): number {
  return cut.reduce((most, microBatch) => Math.max(most, paddedRowCountOf(microBatch)), 1);
}

function cutWith(tasks: readonly CutTask[], config: LeafConfig, rowsMax: number): MicroBatch[] {
  // Tasks that do not adapt need no task axis.
  const cut = adapts(methodPlanOf(config.method)) ? episodesCut : flatMicroBatchesOf;
  return cut(tasks, rowsMax).flatMap((microBatch) => fitting(microBatch, tasks, config, cut));
}

/**
 * Episodes have support and query sets of all sizes, and a new shape takes as long as hundreds of rows more. So their
 * rows are padded to few extents.
 */
function episodesCut(tasks: readonly CutTask[], rowsMax: number): MicroBatch[] {
  const sizes = tasks.map((task) =>
    task.drawnRowCount === 0
      ? task
      : {
          supportRowCount: episodeExtent(task.supportRowCount),
          queryRowCount: episodeExtent(task.queryRowCount),
        },
  );
  return microBatchesOf(sizes, rowsMax);
}

/** 0, 8 and powers of four times that. */
function episodeExtent(rowCount: number): number {
  return rowCount === 0 ? 0 : 8 * 4 ** Math.ceil(Math.log2(Math.max(rowCount, 8) / 8) / 2);
}

/** The micro-batch, or smaller ones where its tasks would not fit into a job. */
function fitting(
  microBatch: MicroBatch,
  tasks: readonly CutTask[],
  config: LeafConfig,
  cut: (of: readonly CutTask[], rowsMax: number) => MicroBatch[],
): MicroBatch[] {
  const { taskPlaces } = microBatch;
  if (taskPlaces.length < 2) return [microBatch];
  if (jobByteCountOf(microBatch, tasks, config) <= LEAF_JOB_BYTE_COUNT_MAX) return [microBatch];
  const middle = taskPlaces.length >> 1;
  return [taskPlaces.slice(0, middle), taskPlaces.slice(middle)].flatMap((places) => {
    const own = places.map((place) => at(tasks, place));
    return cut(own, paddedRowCountOf(microBatch)).flatMap((half) => {
      const placed = { ...half, taskPlaces: half.taskPlaces.map((index) => at(places, index)) };
      return fitting(placed, tasks, config, cut);
    });
  });
}

function jobByteCountOf(
  { taskPlaces }: MicroBatch,
  tasks: readonly CutTask[],
  config: LeafConfig,
): number {
  const weightCount = methodPlanOf(config.method).cold === null ? 1 : 2;
  const ofTask = INDEX_BYTE_COUNT + WEIGHT_BYTE_COUNT * weightCount;
  return taskPlaces.reduce(
    (sum, place) =>
      sum + ofTask + listByteCountOf(at(tasks, place).drawnRowCount, PLACE_BYTE_COUNT),
    SHAPE_BYTE_COUNT,
  );
}

function listByteCountOf(count: number, byteCount: number): number {
  return count === 0 ? 0 : LIST_BYTE_COUNT + byteCount * count;
}

/** The leaves in the order of the sum tree. */
function spreadByCost(
  microBatches: readonly MicroBatch[],
  jobByteCountOf: (of: MicroBatch) => number,
): LeafCut[] {
  const leaves = microBatches.map((microBatch) => ({
    microBatch,
    cost: paddedRowCountOf(microBatch) + CALL_OVERHEAD_ROWS,
    jobByteCount: jobByteCountOf(microBatch),
  }));
  // The sort is stable, so equal costs keep the order of the cut.
  return spreadInHalves(leaves.sort((a, b) => b.cost - a.cost));
}

/**
 * Places items as competitors are seeded, the best two in opposite halves. Siblings in the sum tree then cost about the
 * same, and a worker's share is few whole subtrees.
 *
 * @param descending by cost
 */
export function spreadInHalves<Item>(descending: readonly Item[]): Item[] {
  if (descending.length < 3) return [...descending];
  const halves: [Item[], Item[]] = [[], []];
  for (const [rank, item] of descending.entries()) {
    const isFirstOfPair = rank % 2 === 0;
    // The better one of a pair goes left and right by turns. One without a pair goes left, where the tree has more.
    const isAlone = isFirstOfPair && rank === descending.length - 1;
    const isLeft = isAlone || isFirstOfPair === ((rank >> 1) % 2 === 0);
    halves[isLeft ? 0 : 1].push(item);
  }
  const [left, right] = halves;
  return [...spreadInHalves(left), ...spreadInHalves(right)];
}
