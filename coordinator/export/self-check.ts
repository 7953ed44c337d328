/** Self-check rows of a bundle: query rows, held-out adgroups first, which it has with their outputs. */

import { at, spanAt } from '../../shared/base/arrays.js';
import { randomStream } from '../../shared/base/random.js';
import type { NamedArray } from '../../shared/bundle/array-files.js';
import type { BundleManifest, BundleServing } from '../../shared/bundle/bundle-manifest.js';
import { blockOfKey, UNKNOWN_BLOCK, type KeyIndexArrays } from '../../shared/bundle/key-index.js';
import type { EncodedRows } from '../../shared/features/row-encoder.js';
import { labelOf } from '../../shared/tasks/task-label.js';
import { adgroupsOf, type TaskRows, type TaskStore } from '../../shared/tasks/task-store.js';
import type { TestLogits } from '../scoring/test-logits.js';
import { servedBlocksOf } from './adapted-shards.js';

/** An adgroup, and some of its rows that are scored under a block. */
export interface CheckedAdgroup {
  readonly block: number;
  readonly task: TaskRows;
  /** Places among the rows of the task. */
  readonly places: readonly number[];
}

const ROW_COUNT_MAX = 1_000;
/** So that many adgroups are among the rows. */
const ROWS_PER_ADGROUP = 8;
/** Rows of all adgroups that are looked at. */
const READ_ROW_COUNT_MAX = 100_000;

/** Held-out adgroups first. */
const SPLITS_IN_ORDER = ['test', 'validation', 'train'] as const;

/** Some query rows of adgroups, each under its own block; those of the first also under block 0. */
export async function checkedAdgroupsOf(
  store: TaskStore,
  index: KeyIndexArrays,
  seed: number,
): Promise<CheckedAdgroup[]> {
  const chosen = chosenAdgroups(store, seed);
  const checked: {
    readonly block: number;
    readonly taskIndex: number;
    readonly places: readonly number[];
  }[] = [];
  let rowCount = 0;
  const take = (taskIndex: number, block: number): void => {
    const { supportRowCount, queryRowCount } = at(store.tasks, taskIndex);
    const length = Math.min(ROWS_PER_ADGROUP, queryRowCount, ROW_COUNT_MAX - rowCount);
    if (length <= 0) return;
    const places = Array.from({ length }, (_, row) => supportRowCount + row);
    checked.push({ block, taskIndex, places });
    rowCount += length;
  };
  for (const taskIndex of chosen.slice(0, ROWS_PER_ADGROUP)) take(taskIndex, UNKNOWN_BLOCK);
  for (const taskIndex of chosen)
    take(taskIndex, blockOfKey(index, at(store.tasks, taskIndex).key));
  const tasks = await store.readTasks(checked.map(({ taskIndex }) => taskIndex));
  return checked.map(({ block, places }, place) => ({ block, places, task: at(tasks, place) }));
}

/** Adgroups in a seeded order, held-out ones first. */
function chosenAdgroups(store: TaskStore, seed: number): number[] {
  const adgroups = adgroupsOf(store).filter(({ queryRowCount }) => queryRowCount > 0);
  const chosen: number[] = [];
  let [readCount, rowCount] = [0, 0];
  for (const split of SPLITS_IN_ORDER) {
    const ofSplit = adgroups.filter((task) => task.split === split);
    const places = randomStream(seed, 'self-check', split).shuffle([...ofSplit.keys()]);
    for (const place of places) {
      const { taskIndex, queryRowCount } = at(ofSplit, place);
      if (readCount > 0 && readCount + queryRowCount > READ_ROW_COUNT_MAX) return chosen;
      if (rowCount >= ROW_COUNT_MAX) return chosen;
      readCount += queryRowCount;
      rowCount += Math.min(ROWS_PER_ADGROUP, queryRowCount);
      chosen.push(taskIndex);
    }
  }
  return chosen;
}

/** The encoded features of the rows. */
export function encodedRowsOf({ task, places }: CheckedAdgroup): EncodedRows {
  const ints = (values: Int32Array, width = 1): Int32Array =>
    Int32Array.from(places.flatMap((row) => [...values.subarray(row * width, (row + 1) * width)]));
  return {
    rowCount: places.length,
    categoryIds: task.categoryIds.map((ids) => ints(ids)),
    bagIds: task.bagIds.map((ids) => ints(ids, ids.length / task.rowCount)),
    numbers: task.numbers.map((values) => Float32Array.from(places, (row) => at(values, row))),
  };
}

/**
 * The rows with their outputs, as a bundle has them.
 *
 * @param outputs of each adgroup's rows, and what they stand for.
 */
export function selfCheckArrays(
  checked: readonly CheckedAdgroup[],
  { outputs, expected }: Record<'outputs' | 'expected', readonly Float32Array[]>,
  features: BundleManifest['encodedFeatures'],
): NamedArray[] {
  const rows = checked.map(encodedRowsOf);
  const rowCount = rows.reduce((sum, each) => sum + each.rowCount, 0);
  const countOf = (kind: 'category' | 'number'): number =>
    features.filter((feature) => feature.kind === kind).length;
  const bags = features.flatMap((feature) => (feature.kind === 'bag' ? [feature] : []));
  /** The values of one column after the other. */
  const joined = (
    of: (encoded: EncodedRows) => readonly (Int32Array | Float32Array)[],
    columns: Iterable<number>,
  ): number[] =>
    [...columns].flatMap((column) => rows.flatMap((each) => [...at(of(each), column)]));
  const array = (
    name: string,
    shape: readonly number[],
    values: NamedArray['values'],
  ): NamedArray => ({
    ...{ name: `selfCheck.${name}`, shape, values },
  });
  const [categoryCount, numberCount] = [countOf('category'), countOf('number')];
  const categories = joined(({ categoryIds }) => categoryIds, Array(categoryCount).keys());
  const numbers = joined(({ numbers: each }) => each, Array(numberCount).keys());
  const blocks = checked.flatMap(({ block, places }) => places.map(() => block));
  return [
    array('blocks', [rowCount], Int32Array.from(blocks)),
    array('logits', [rowCount], Float32Array.from(outputs.flatMap((values) => [...values]))),
    array('expected', [rowCount], Float32Array.from(expected.flatMap((values) => [...values]))),
    array('categories', [categoryCount, rowCount], Int32Array.from(categories)),
    ...bags.map(({ name, lengthMax }, place) =>
      array(
        `bag.${name}`,
        [rowCount, lengthMax],
        Int32Array.from(joined(({ bagIds }) => bagIds, [place])),
      ),
    ),
    array('numbers', [numberCount, rowCount], Float32Array.from(numbers)),
  ];
}

interface Compared {
  readonly store: TaskStore;
  /** By label. */
  readonly serving: readonly BundleServing[];
  /** By label; null where there was no evaluation. */
  readonly testLogits: readonly (TestLogits | null)[];
  readonly level: 'meta' | 'crowd';
}

/**
 * The largest difference of an output from what evaluation predicted for a test adgroup; null if none was evaluated.
 *
 * @param outputs of each adgroup's rows, with blocks in float32 as they adapted on support rows.
 */
export function evaluatedDifference(
  { store, serving, testLogits, level }: Compared,
  checked: readonly CheckedAdgroup[],
  outputs: readonly Float32Array[],
): number | null {
  const placesByLabel = testLogits.map(
    (found) => new Map((found?.taskKeys ?? []).map((key, place) => [key, place])),
  );
  let difference: number | null = null;
  for (const [index, { task, block, places }] of checked.entries()) {
    const { key, supportRowCount, labelIndex = 0 } = at(store.tasks, task.taskIndex);
    const place = at(placesByLabel, labelIndex).get(key);
    const found = at(testLogits, labelIndex);
    if (place === undefined || found === null || block === UNKNOWN_BLOCK) continue;
    const arms =
      servedBlocksOf(at(serving, labelIndex), supportRowCount) === 'adapted'
        ? [`${level}-adapted` as const]
        : [`${level}-unadapted` as const, 'global' as const];
    const logits = arms.map((arm) => found.logits.get(arm)).find((each) => each !== undefined);
    if (logits === undefined) continue;
    const label = labelOf(store.manifest, { labelIndex });
    const [start] = spanAt(found.rows.starts, place);
    for (const [row, output] of at(outputs, index).entries()) {
      const inOwnUnit = label.loss === 'squared' ? label.mean + label.deviation * output : output;
      const evaluated = at(logits, start + at(places, row) - supportRowCount);
      difference = Math.max(difference ?? 0, Math.abs(inOwnUnit - evaluated));
    }
  }
  return difference;
}
