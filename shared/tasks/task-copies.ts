/**
 * Copies of tasks as an outer step or an evaluation reads them: some of their rows, another division into support and
 * query rows, ids dropped at random. Coordinator and worker derive the same copies.
 *
 * Id dropout: ids of categories and members of bags are replaced at random by the id of unknown values, so that the
 * unknown row of a table learns what a new value is like. A replacement depends on the seed, the outer step, the task,
 * the row and the feature alone.
 */

import { at } from '../base/arrays.js';
import { type QianmoError, errorOf } from '../base/errors.js';
import type { PlannedRows, TaskRows, TaskEntry, TaskStore } from './task-store.js';
import { z } from 'zod';
import { wordAt } from '../base/addressed-bits.js';
import { randomStream } from '../base/random.js';
import type { EncodedFeature } from './store-manifest.js';

/** Tasks whose rows a job may exchange. */
export const EXCHANGING_TASKS_MAX = 100;

export interface DrawnRows {
  /** By task, places among its rows; a row that was drawn twice is there twice. */
  readonly byTask: readonly (readonly number[])[];
  /** In episodes, by task, how many of these are support rows: the first ones. Otherwise null, and places ascend. */
  readonly supportCounts: readonly number[] | null;
}

/** @throws QianmoError of kind `data` if a place is none of a row of its task. */
export function withDrawnRows(
  tasks: readonly TaskRows[],
  drawn: DrawnRows | null,
): readonly TaskRows[] {
  return drawn === null ? tasks : tasksRowsAt(tasks, chosenRowsOf(tasks, drawn));
}

/** The chosen rows, with only what planning needs of them. */
export function withPlannedDrawnRows(
  tasks: readonly PlannedRows[],
  drawn: DrawnRows | null,
): readonly PlannedRows[] {
  return drawn === null ? tasks : plannedRowsAt(tasks, chosenRowsOf(tasks, drawn));
}

/** The places of the rows that each task has then. */
function chosenRowsOf(
  tasks: readonly PlannedRows[],
  { byTask, supportCounts }: DrawnRows,
): ChosenRows[] {
  return tasks.map((task, index) => {
    const { supportRowCount } = task;
    const places = byTask[index] ?? [];
    const misplaced = places.find((place) => place >= task.impressions.length);
    if (misplaced !== undefined || places.length === 0) throw misplacedRow(task, misplaced);
    const ofSupport = places.filter((place) => place < supportRowCount).length;
    return {
      places,
      supportRowCount: supportCounts === null ? ofSupport : at(supportCounts, index),
    };
  });
}

/** By task, a column of drawn rows that is made of the columns of all rows, which end with the drawn query rows. */
export function drawnPart(
  column: Float32Array,
  { supportRowCount }: Pick<TaskRows, 'supportRowCount'>,
  places: readonly number[],
): Float32Array {
  const part = new Float32Array(places.length);
  let ofQuery = supportRowCount;
  for (const [row, place] of places.entries()) {
    part[row] = at(column, place < supportRowCount ? place : ofQuery);
    if (place >= supportRowCount) ofQuery += 1;
  }
  return part;
}

function misplacedRow(
  { taskIndex, impressions }: PlannedRows,
  place: number | undefined,
): QianmoError {
  return errorOf('data', 'a job names rows that its task does not have', {
    where: `task ${taskIndex}`,
    expected: `places below ${impressions.length}, at least one`,
    found: place === undefined ? 'none' : String(place),
    cure: 'coordinator and worker must run the same version on the same store',
  });
}

/** The rows of one task that are wanted. */
interface ChosenRows {
  /** Places of rows of the task; one may occur more than once. */
  readonly places: readonly number[];
  /** Those that are support rows, which come first. */
  readonly supportRowCount: number;
}

/** The chosen rows of each task. */
function tasksRowsAt(
  tasks: readonly TaskRows[],
  chosen: readonly ChosenRows[],
): readonly TaskRows[] {
  const planned = plannedRowsAt(tasks, chosen);
  const gather = gatherer(tasks, chosen);
  const [first] = tasks;
  const numbers = first?.numbers.map((_, feature) =>
    gather(Float32Array, (task) => at(task.numbers, feature)),
  );
  const clicks = gather(Float32Array, (task) => task.clicks);
  const oracle =
    first?.oracle === null
      ? null
      : gather(Float32Array, (task) => task.oracle ?? new Float32Array(task.rowCount));
  const times = gather(Float64Array, (task) => task.times);
  const logRows = gather(Float64Array, (task) => task.logRows);
  return tasks.map((task, place) => ({
    ...task,
    ...at(planned, place),
    rowCount: at(chosen, place).places.length,
    numbers: numbers?.map((column) => at(column, place)) ?? [],
    clicks: at(clicks, place),
    oracle: oracle === null ? null : at(oracle, place),
    times: at(times, place),
    logRows: at(logRows, place),
  }));
}

/** The chosen rows, with only what planning needs of them. */
function plannedRowsAt(
  tasks: readonly PlannedRows[],
  chosen: readonly ChosenRows[],
): readonly PlannedRows[] {
  const gather = gatherer(tasks, chosen);
  const categories = tasks[0]?.categoryIds.map((_, feature) =>
    gather(Int32Array, (task) => at(task.categoryIds, feature)),
  );
  const bags = tasks[0]?.bagIds.map((_, feature) =>
    gather(Int32Array, (task) => at(task.bagIds, feature)),
  );
  const impressions = gather(Float32Array, (task) => task.impressions);
  return tasks.map(({ taskIndex }, place) => ({
    taskIndex,
    supportRowCount: at(chosen, place).supportRowCount,
    categoryIds: categories?.map((column) => at(column, place)) ?? [],
    bagIds: bags?.map((column) => at(column, place)) ?? [],
    impressions: at(impressions, place),
  }));
}

interface Values<Self> extends ArrayLike<number> {
  [row: number]: number;
  subarray(start: number, end: number): Self;
  slice(): Self;
}

type Gather<Task> = <Column extends Values<Column>>(
  type: new (length: number) => Column,
  columnOf: (task: Task) => Column,
) => Column[];

/**
 * Copies a column of all tasks into one array and returns the part of each: an outer step that draws rows has tens of
 * thousands of columns of a few rows. A column may have several values a row.
 */
function gatherer<Task extends Pick<TaskRows, 'impressions'>>(
  tasks: readonly Task[],
  chosen: readonly ChosenRows[],
): Gather<Task> {
  const rowCount = chosen.reduce((sum, { places }) => sum + places.length, 0);
  return (type, columnOf) => {
    const [first] = tasks;
    if (first === undefined) return [];
    const width = columnOf(first).length / first.impressions.length;
    const whole = new type(rowCount * width);
    let end = 0;
    return tasks.map((task, place) => {
      const column = columnOf(task);
      const start = end;
      for (const row of at(chosen, place).places)
        for (let value = row * width; value < (row + 1) * width; value += 1) {
          whole[end] = column[value] ?? NaN;
          end += 1;
        }
      return whole.subarray(start, end);
    });
  };
}

/** Support: the first rows of the store's support set. Query: the store's. */
const ShotsSchema = z.strictObject({
  by: z.literal('shots'),
  supportRowsMax: z.int().nonnegative(),
});

/** The rows of the store, but query rows have the values of a feature that those of the next task of the list have. */
const ExchangeSchema = z.strictObject({
  by: z.literal('exchange'),
  feature: z.string(),
  tasks: z.array(z.int().nonnegative()).min(2).max(EXCHANGING_TASKS_MAX),
});

export const RowDivisionSchema = z.discriminatedUnion('by', [ShotsSchema, ExchangeSchema]);

export type RowDivision = z.infer<typeof RowDivisionSchema>;
type Shots = z.infer<typeof ShotsSchema>;

type RowCounts = Pick<TaskEntry, 'supportRowCount' | 'queryRowCount'>;

/** The row counts of a task as divided. */
export function dividedRowCounts(
  { supportRowCount, queryRowCount }: RowCounts,
  division: RowDivision,
): RowCounts {
  if (division.by === 'exchange') return { supportRowCount, queryRowCount };
  const { supportRowsMax } = division;
  return { supportRowCount: Math.min(supportRowsMax, supportRowCount), queryRowCount };
}

/** The tasks as divided, if they are. */
export async function dividedTasks(
  store: Pick<TaskStore, 'readTasks'> & {
    readonly manifest: { readonly features: readonly EncodedFeature[] };
  },
  indices: readonly number[],
  division: RowDivision | undefined,
): Promise<TaskRows[]> {
  const tasks = await store.readTasks(indices);
  if (division === undefined) return tasks;
  if (division.by === 'shots') return tasks.map((task) => dividedTask(task, division));
  const nextOf = new Map(
    division.tasks.map((task, place) => [
      task,
      at(division.tasks, (place + 1) % division.tasks.length),
    ]),
  );
  const next = await store.readTasks(indices.map((index) => nextOf.get(index) ?? index));
  return tasks.map((task, place) =>
    exchangedTask(task, at(next, place), store.manifest.features, division.feature),
  );
}

/** Copies the columns of a feature, and of encodings that read it, from the query rows of another task, over and over. */
function exchangedTask(
  task: TaskRows,
  other: TaskRows,
  features: readonly EncodedFeature[],
  exchanged: string,
): TaskRows {
  const { rowCount, supportRowCount } = task;
  const otherCount = other.rowCount - other.supportRowCount;
  if (otherCount === 0) return task;
  const isExchanged = features.map(
    (feature) =>
      feature.name === exchanged ||
      (feature.kind === 'number' && feature.encodes?.of.includes(exchanged) === true),
  );
  const columnsOf = <Column extends Values<Column>>(
    kind: EncodedFeature['kind'],
    own: readonly Column[],
    others: readonly Column[],
  ): Column[] => {
    const flags = isExchanged.filter((_, place) => features[place]?.kind === kind);
    return own.map((column, place) => {
      if (flags[place] !== true) return column;
      const from = at(others, place);
      const width = column.length / rowCount;
      const changed = column.slice();
      for (let row = supportRowCount; row < rowCount; row += 1) {
        const otherRow = other.supportRowCount + ((row - supportRowCount) % otherCount);
        for (let value = 0; value < width; value += 1)
          changed[row * width + value] = from[otherRow * width + value] ?? NaN;
      }
      return changed;
    });
  };
  return {
    ...task,
    categoryIds: columnsOf('category', task.categoryIds, other.categoryIds),
    bagIds: columnsOf('bag', task.bagIds, other.bagIds),
    numbers: columnsOf('number', task.numbers, other.numbers),
  };
}

/** The task as divided. Rows that belong to neither part are left out. */
export function dividedTask(task: TaskRows, { supportRowsMax }: Shots): TaskRows {
  const supportRowCount = Math.min(supportRowsMax, task.supportRowCount);
  const rows = Array.from({ length: task.rowCount }, (_, row) => row);
  const kept = rows.filter((row) => row < supportRowCount || row >= task.supportRowCount);
  return at(tasksRowsAt([task], [{ places: kept, supportRowCount }]), 0);
}

/** The id of unknown values in every table. */
const UNKNOWN_ID = 0;

/** The rate for all features with a table, or the rates by name; a feature without a rate keeps its ids. */
type IdDropoutRates = number | { readonly [feature: string]: number };

export interface IdDropout {
  readonly rates: IdDropoutRates;
  /** The seed of the run. */
  readonly seed: number;
  readonly outerStep: number;
}

/** Returns copies of the tasks where ids were replaced. Without dropout, the tasks themselves. */
export function withDroppedIds<
  Rows extends Pick<PlannedRows, 'taskIndex' | 'categoryIds' | 'bagIds'>,
>(
  tasks: readonly Rows[],
  features: readonly EncodedFeature[],
  dropout: IdDropout | null,
): readonly Rows[] {
  if (dropout === null) return tasks;
  const { rates, seed, outerStep } = dropout;
  const rateOf = ({ name }: EncodedFeature): number =>
    typeof rates === 'number' ? rates : (rates[name] ?? 0);
  const categories = features.filter(({ kind }) => kind === 'category');
  const bags = features.filter((feature) => feature.kind === 'bag');
  return tasks.map((task) => {
    const keys = randomStream(seed, 'id dropout', outerStep, task.taskIndex);
    return {
      ...task,
      categoryIds: task.categoryIds.map((ids, place) =>
        droppedFrom(ids, Infinity, { rate: rateOf(at(categories, place)), key: keys.uint32() }),
      ),
      bagIds: task.bagIds.map((ids, place) => {
        const bag = at(bags, place);
        // A trained row of empty places follows the rows of the feature, and stays.
        return droppedFrom(ids, bag.rowCount, { rate: rateOf(bag), key: keys.uint32() });
      }),
    };
  });
}

/** @param end ids from here on stay, like negative ones, which mark empty places. */
function droppedFrom(
  ids: Int32Array,
  end: number,
  { rate, key }: { readonly rate: number; readonly key: number },
): Int32Array {
  if (rate === 0) return ids;
  const threshold = rate * 2 ** 32;
  return ids.map((id, place) =>
    id >= 0 && id < end && wordAt(key, place) < threshold ? UNKNOWN_ID : id,
  );
}
