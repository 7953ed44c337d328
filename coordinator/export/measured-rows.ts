/**
 * Rows on which an export measures itself: self-check rows, which go into the bundle with their outputs,
 * and query rows of held-out adgroups, on which encodings are compared.
 */

import { at } from '../../shared/base/arrays.js';
import type { NamedArray } from '../../shared/bundle/array-files.js';
import type { BundleManifest } from '../../shared/bundle/bundle-manifest.js';
import { UNKNOWN_BLOCK } from '../../shared/bundle/key-index.js';
import type { SelfCheck } from '../../shared/bundle/read-bundle.js';
import { allocateEncodedRows, type EncodedRows } from '../../shared/features/encoded-rows.js';
import type { TaskRows, TaskStore } from '../../shared/tasks/task-store.js';

/** An adgroup and the places of some of its rows. */
export interface ChosenAdgroup {
  readonly block: number;
  readonly taskIndex: number;
  /** Places among the rows of the task. */
  readonly places: readonly number[];
}

export interface MeasuredAdgroup extends ChosenAdgroup {
  readonly task: TaskRows;
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
 * Adgroups in a seeded order, held-out ones first, up to a number of adgroups and of query rows. The order is that of hashes
 * of their keys, so that a store with more adgroups has mostly the same ones.
 *
 * @param tasks by block, from block 1 on.
 */
export function chosenAdgroups(
  store: Pick<TaskStore, 'tasks'>,
  tasks: readonly number[],
  { seed, forSelfCheckOnly = false }: MeasuredChoice,
): ChosenAdgroup[] {
  const chosen: ChosenAdgroup[] = [];
  let [rowCount, checkRowCount] = [0, 0];
  for (const place of firstPlaces(store, tasks, seed)) {
    const taskIndex = at(tasks, place);
    const { supportRowCount, queryRowCount } = at(store.tasks, taskIndex);
    if (queryRowCount === 0) continue;
    if (rowCount > 0 && rowCount + queryRowCount > MEASURED_ROW_COUNT_MAX) break;
    if (forSelfCheckOnly && checkRowCount >= SELF_CHECK_ROW_COUNT_MAX) break;
    rowCount += queryRowCount;
    checkRowCount += Math.min(ROWS_PER_ADGROUP, queryRowCount);
    const places = Array.from({ length: queryRowCount }, (_, row) => supportRowCount + row);
    chosen.push({ block: place + 1, taskIndex, places });
  }
  return chosen;
}

/** Places among the tasks, by split and then by the hashes of keys. */
function firstPlaces(
  store: Pick<TaskStore, 'tasks'>,
  tasks: readonly number[],
  seed: number,
): number[] {
  const first: number[] = [];
  for (const split of SPLITS_IN_ORDER) {
    const countMax = MEASURED_ADGROUP_COUNT_MAX - first.length;
    if (countMax === 0) break;
    const places: number[] = [];
    const hashes: number[] = [];
    for (const [place, taskIndex] of tasks.entries()) {
      const task = at(store.tasks, taskIndex);
      if (task.split !== split) continue;
      places.push(place);
      hashes.push(seededHash(task.key, seed));
    }
    // Only a few of a million are sorted with their keys.
    const bound = Uint32Array.from(hashes).sort()[countMax - 1] ?? Infinity;
    const keyOf = (place: number): string => at(store.tasks, at(tasks, place)).key;
    const candidates = places
      .map((place, index) => ({ place, hash: at(hashes, index) }))
      .filter(({ hash }) => hash <= bound)
      .sort((a, b) => a.hash - b.hash || (keyOf(a.place) < keyOf(b.place) ? -1 : 1));
    first.push(...candidates.slice(0, countMax).map(({ place }) => place));
  }
  return first;
}

/**
 * FNV-1a of 32 bits over the UTF-16 units of a key, and the mixing of MurmurHash3 (Appleby), without which keys that
 * differ at their end have near hashes.
 */
function seededHash(key: string, seed: number): number {
  let hash = 0x811c9dc5 ^ seed;
  for (let place = 0; place < key.length; place += 1)
    hash = Math.imul(hash ^ key.charCodeAt(place), 0x01000193);
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
  return (hash ^ (hash >>> 16)) >>> 0;
}

/** The adgroups with the rows of their tasks. */
export async function withRows(
  store: TaskStore,
  chosen: readonly ChosenAdgroup[],
): Promise<MeasuredAdgroup[]> {
  const tasks = await store.readTasks(chosen.map(({ taskIndex }) => taskIndex));
  return chosen.map((adgroup, index) => ({ ...adgroup, task: at(tasks, index) }));
}

/** Some query rows of each, under its own block; those of the first also under block 0. */
export function selfCheckRowsOf<Adgroup extends ChosenAdgroup>(
  measured: readonly Adgroup[],
): Adgroup[] {
  const chosen: Adgroup[] = [];
  let rowCount = 0;
  const take = (adgroup: Adgroup): void => {
    const left = Math.min(ROWS_PER_ADGROUP, SELF_CHECK_ROW_COUNT_MAX - rowCount);
    const places = adgroup.places.slice(0, left);
    if (places.length === 0) return;
    chosen.push({ ...adgroup, places });
    rowCount += places.length;
  };
  for (const adgroup of measured.slice(0, ROWS_PER_ADGROUP))
    take({ ...adgroup, block: UNKNOWN_BLOCK });
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
 * The rows with their outputs.
 *
 * @param outputs of each adgroup's rows.
 */
export function selfCheckOf(
  chosen: readonly MeasuredAdgroup[],
  outputs: readonly Float32Array[],
  features: BundleManifest['encodedFeatures'],
): SelfCheck {
  const rows = chosen.map(encodedRowsOf);
  const joined = allocateEncodedRows(
    features,
    rows.reduce((sum, each) => sum + each.rowCount, 0),
  );
  const joinInto = (of: (encoded: EncodedRows) => readonly (Int32Array | Float32Array)[]): void => {
    for (const [column, values] of of(joined).entries()) {
      let start = 0;
      for (const each of rows) {
        const own = at(of(each), column);
        values.set(own, start);
        start += own.length;
      }
    }
  };
  joinInto(({ categoryIds }) => categoryIds);
  joinInto(({ bagIds }) => bagIds);
  joinInto(({ numbers }) => numbers);
  return {
    blocks: Int32Array.from(chosen.flatMap(({ block, places }) => places.map(() => block))),
    logits: Float32Array.from(outputs.flatMap((values) => [...values])),
    rows: joined,
  };
}

export function selfCheckArrays(
  { blocks, logits, rows }: SelfCheck,
  features: BundleManifest['encodedFeatures'],
): NamedArray[] {
  const { rowCount, categoryIds, bagIds, numbers } = rows;
  const bags = features.flatMap((feature) => (feature.kind === 'bag' ? [feature] : []));
  const categories = new Int32Array(categoryIds.length * rowCount);
  for (const [place, ids] of categoryIds.entries()) categories.set(ids, place * rowCount);
  const numberRows = new Float32Array(numbers.length * rowCount);
  for (const [place, values] of numbers.entries()) numberRows.set(values, place * rowCount);
  return [
    { name: 'selfCheck.blocks', shape: [rowCount], values: blocks },
    { name: 'selfCheck.logits', shape: [rowCount], values: logits },
    {
      ...{ name: 'selfCheck.categories', shape: [categoryIds.length, rowCount] },
      values: categories,
    },
    ...bags.map(({ name, lengthMax }, place) => ({
      ...{ name: `selfCheck.bag.${name}`, shape: [rowCount, lengthMax] },
      values: at(bagIds, place),
    })),
    { name: 'selfCheck.numbers', shape: [numbers.length, rowCount], values: numberRows },
  ];
}
