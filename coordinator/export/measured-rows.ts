/**
 * Rows on which an export measures itself: self-check rows, which go into the bundle with their outputs,
 * and query rows of held-out adgroups, on which encodings are compared.
 */

import { at } from '../../shared/base/arrays.js';
import { randomStream } from '../../shared/base/random.js';
import type { NamedArray } from '../../shared/bundle/array-files.js';
import type { BundleManifest } from '../../shared/bundle/bundle-manifest.js';
import type { EncodedRows } from '../../shared/features/encoded-rows.js';
import type { TaskRows, TaskStore } from '../../shared/tasks/task-store.js';

/** An adgroup with some of its rows. */
export interface MeasuredAdgroup {
  readonly block: number;
  readonly task: TaskRows;
  /** Places among the rows of the task. */
  readonly places: readonly number[];
}

const SELF_CHECK_ROW_COUNT_MAX = 1_000;
/** So that many adgroups are among the self-check rows. */
const ROWS_PER_ADGROUP = 8;
const MEASURED_ADGROUP_COUNT_MAX = 2_000;
const MEASURED_ROW_COUNT_MAX = 100_000;

/** Held-out adgroups first. */
const SPLITS_IN_ORDER = ['test', 'validation', 'train'] as const;

interface MeasuredChoice {
  readonly seed: number;
  /** Ends with the adgroups that self-check rows are chosen from. */
  readonly forSelfCheckOnly?: boolean;
}

/**
 * Adgroups in a seeded order, held-out ones first, up to a number of adgroups and of query rows.
 *
 * @param tasks by block, from block 1 on.
 */
export async function measuredAdgroups(
  store: TaskStore,
  tasks: readonly number[],
  { seed, forSelfCheckOnly = false }: MeasuredChoice,
): Promise<MeasuredAdgroup[]> {
  const shuffled = randomStream(seed, 'measured adgroups').shuffle([...tasks.keys()]);
  const order = SPLITS_IN_ORDER.flatMap((split) =>
    shuffled.filter((place) => at(store.tasks, at(tasks, place)).split === split),
  );
  const measured: MeasuredAdgroup[] = [];
  let [rowCount, checkRowCount] = [0, 0];
  for (const place of order.slice(0, MEASURED_ADGROUP_COUNT_MAX)) {
    const taskIndex = at(tasks, place);
    const { supportRowCount, queryRowCount } = at(store.tasks, taskIndex);
    if (queryRowCount === 0) continue;
    if (rowCount > 0 && rowCount + queryRowCount > MEASURED_ROW_COUNT_MAX) break;
    if (forSelfCheckOnly && checkRowCount >= SELF_CHECK_ROW_COUNT_MAX) break;
    rowCount += queryRowCount;
    checkRowCount += Math.min(ROWS_PER_ADGROUP, queryRowCount);
    const task = at(await store.readTasks([taskIndex]), 0);
    const places = Array.from({ length: queryRowCount }, (_, row) => supportRowCount + row);
    measured.push({ block: place + 1, task, places });
  }
  return measured;
}

/** Some query rows of each, under its own block; those of the first also under block 0. */
export function selfCheckRowsOf(measured: readonly MeasuredAdgroup[]): MeasuredAdgroup[] {
  const chosen: MeasuredAdgroup[] = [];
  let rowCount = 0;
  const take = (adgroup: MeasuredAdgroup): void => {
    const left = Math.min(ROWS_PER_ADGROUP, SELF_CHECK_ROW_COUNT_MAX - rowCount);
    const places = adgroup.places.slice(0, left);
    if (places.length === 0) return;
    chosen.push({ ...adgroup, places });
    rowCount += places.length;
  };
  for (const adgroup of measured.slice(0, ROWS_PER_ADGROUP)) take({ ...adgroup, block: 0 });
  for (const adgroup of measured) take(adgroup);
  return chosen;
}

/** The encoded features of the rows. */
export function encodedRowsOf({ task, places }: MeasuredAdgroup): EncodedRows {
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
 * The arrays of the self-check.
 *
 * @param outputs of each adgroup's rows.
 */
export function selfCheckArrays(
  chosen: readonly MeasuredAdgroup[],
  outputs: readonly Float32Array[],
  features: BundleManifest['encodedFeatures'],
): NamedArray[] {
  const rows = chosen.map(encodedRowsOf);
  const rowCount = rows.reduce((sum, each) => sum + each.rowCount, 0);
  const bags = features.flatMap((feature) => (feature.kind === 'bag' ? [feature] : []));
  const count = (kind: 'category' | 'number'): number =>
    features.filter((feature) => feature.kind === kind).length;
  const joined = (of: (encoded: EncodedRows) => Int32Array | Float32Array): number[] =>
    rows.flatMap((encoded) => [...of(encoded)]);
  const places = (length: number): number[] => [...Array(length).keys()];
  return [
    {
      ...{ name: 'selfCheck.blocks', shape: [rowCount] },
      values: Int32Array.from(chosen.flatMap(({ block, places: own }) => own.map(() => block))),
    },
    {
      ...{ name: 'selfCheck.logits', shape: [rowCount] },
      values: Float32Array.from(outputs.flatMap((values) => [...values])),
    },
    {
      ...{ name: 'selfCheck.categories', shape: [count('category'), rowCount] },
      values: Int32Array.from(
        places(count('category')).flatMap((place) => joined((each) => at(each.categoryIds, place))),
      ),
    },
    ...bags.map(({ name, lengthMax }, place) => ({
      ...{ name: `selfCheck.bag.${name}`, shape: [rowCount, lengthMax] },
      values: Int32Array.from(joined((each) => at(each.bagIds, place))),
    })),
    {
      ...{ name: 'selfCheck.numbers', shape: [count('number'), rowCount] },
      values: Float32Array.from(
        places(count('number')).flatMap((place) => joined((each) => at(each.numbers, place))),
      ),
    },
  ];
}
