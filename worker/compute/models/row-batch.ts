/**
 * The rows of one role of a micro-batch's tasks, as the typed arrays that a forward pass reads. No
 * tensors here.
 *
 * Rows lie by task, `[taskCount, rowExtent]`; a row's number in that layout is its place. Places
 * beyond a task's rows and tasks beyond the last are padding: neither impressions nor clicks, hence
 * no loss and no gradient. Flat rows lie end to end as if they were one task's, `[1, rowExtent]`.
 */

import { at, float32At, int32At, numberAt } from '../../../shared/base/arrays.js';
import type { RowPackLayout } from '../../../shared/tasks/row-pack.js';
import type { TaskRows } from '../../../shared/tasks/task-store.js';
import { wordAt } from '../../../shared/base/addressed-bits.js';
import { randomStream } from '../../../shared/base/random.js';

/** `first`: one row of each task, for values that all of its rows share. `flat`: all rows, end to end. */
export type RowRole = 'support' | 'query' | 'all' | 'first' | 'flat';

export interface RowBatch {
  readonly taskCount: number;
  readonly rowExtent: number;
  readonly numberCount: number;
  /**
   * For each category and then each bag feature, `[taskCount, rowExtent, tableCount]`: a row of the
   * pack, or a bag, which follow its last row.
   */
  readonly tablePlaces: Int32Array;
  /** `[taskCount, rowExtent, numberCount]`. */
  readonly numbers: Float32Array;
  /** `[taskCount, rowExtent]`: shares of the task's impressions, 0 where it has none. */
  readonly impressionShares: Float32Array;
  readonly clickShares: Float32Array;
  /** `[taskCount, rowExtent]`: the crowd of each row; null where tasks have none. Padding is of the unknown crowd. */
  readonly crowds: Int32Array | null;
  /** For flat rows, `[rowExtent]`: the task of each place; padding belongs to the first task. */
  readonly taskOfPlace: Int32Array | null;
  /** `[taskCount]`: sums over the task's rows of the role. */
  readonly impressionTotals: Float32Array;
  readonly clickTotals: Float32Array;
  /** Null when no task has the squared loss; 0 where a row or a task has another. */
  readonly squared: {
    /** `[taskCount, rowExtent]` */
    readonly impressionShares: Float32Array;
    /** c^2 / (2 i), see `task-label.ts`. */
    readonly constants: Float32Array;
    /** `[taskCount]`: 1 where the task has the squared loss. */
    readonly taskFlags: Float32Array;
  } | null;
}

interface BatchExtents {
  /** `[taskCount, rowExtent]`, each at least 1. */
  readonly taskCount: number;
  readonly rowExtent: number;
}

/** Bags of the rows of all roles. Their places begin after the padded pack. */
interface PlacedBags {
  readonly bags: DistinctBags;
  readonly packExtent: number;
  /** The category whose ids are crowds; null if there is none. */
  readonly crowdColumn?: number | null;
}

/** Finders of ids by table, in the order of `RowPackLayout.idsByTable`. */
export function localIdsByTable(layout: RowPackLayout): LocalIds[] {
  return layout.idsByTable.map((ids, table) => localIdsOf(ids, at(layout.startByTable, table)));
}

/** The rows of a role within a task: from the first to the one after the last. */
export function roleSpanOf(
  { rowCount, supportRowCount }: Pick<TaskRows, 'rowCount' | 'supportRowCount'>,
  role: RowRole,
): { readonly start: number; readonly end: number } {
  switch (role) {
    case 'support':
      return { start: 0, end: supportRowCount };
    case 'query':
      return { start: supportRowCount, end: rowCount };
    case 'all':
    case 'flat':
      return { start: 0, end: rowCount };
    case 'first':
      return { start: 0, end: Math.min(1, rowCount) };
  }
}

/** Tasks and the role whose rows are wanted. */
interface RowsOfRole {
  /**
   * At most `taskCount`, each with at most `rowExtent` rows of the role. Flat: any number of tasks
   * with at most `rowExtent` rows together, and a `taskCount` of 1.
   */
  readonly tasks: readonly TaskRows[];
  readonly role: RowRole;
}

/** @param placedBags receives the bags that no earlier role had. */
export function rowBatchOf(
  { tasks, role }: RowsOfRole,
  localIds: readonly LocalIds[],
  { taskCount, rowExtent }: BatchExtents,
  placedBags: PlacedBags,
): RowBatch {
  let placedCount = 0;
  const spans = tasks.map((task, index): TaskSpan => {
    const span = roleSpanOf(task, role);
    const firstPlace = role === 'flat' ? placedCount : index * rowExtent;
    placedCount += span.end - span.start;
    return { task, ...span, firstPlace };
  });
  const placeCount = taskCount * rowExtent;
  const [first] = tasks;
  const numberCount = first?.numbers.length ?? 0;
  const tablePlaces = new Int32Array(placeCount * localIds.length);
  const numbers = new Float32Array(placeCount * numberCount);
  const impressionShares = new Float32Array(placeCount);
  const clickShares = new Float32Array(placeCount);
  const impressionTotals = new Float32Array(Math.max(taskCount, tasks.length));
  const clickTotals = new Float32Array(impressionTotals.length);
  for (const [index, span] of spans.entries()) {
    placeCategories(span, localIds, tablePlaces);
    placeBags(span, localIds, placedBags, tablePlaces);
    placeNumbers(span, numbersOf(span.task, role), numbers);
    shareOut(span, impressionShares, clickShares);
    impressionTotals[index] = totalOf(span, span.task.impressions);
    clickTotals[index] = totalOf(span, span.task.clicks);
  }
  return {
    taskCount,
    rowExtent,
    numberCount,
    tablePlaces,
    numbers,
    impressionShares,
    clickShares,
    crowds: crowdsOf(spans, placedBags, placeCount),
    taskOfPlace: role === 'flat' ? taskOfPlaceOf(spans, rowExtent) : null,
    impressionTotals,
    clickTotals,
    squared: squaredTermsOf(spans, impressionShares, clickShares, clickTotals.length),
  };
}

/** The rows `start` to `end` of a task; they lie at `firstPlace` and on. */
interface TaskSpan {
  readonly task: TaskRows;
  readonly start: number;
  readonly end: number;
  readonly firstPlace: number;
}

function taskOfPlaceOf(spans: readonly TaskSpan[], rowExtent: number): Int32Array {
  const taskOfPlace = new Int32Array(rowExtent);
  for (const [index, { start, end, firstPlace }] of spans.entries())
    taskOfPlace.fill(index, firstPlace, firstPlace + end - start);
  return taskOfPlace;
}

function crowdsOf(
  spans: readonly TaskSpan[],
  { crowdColumn = null }: PlacedBags,
  placeCount: number,
): Int32Array | null {
  if (crowdColumn === null) return null;
  const crowds = new Int32Array(placeCount);
  for (const { task, start, end, firstPlace } of spans)
    crowds.set(at(task.categoryIds, crowdColumn).subarray(start, end), firstPlace);
  return crowds;
}

function placeCategories(
  { task, start, end, firstPlace }: TaskSpan,
  localIds: readonly LocalIds[],
  target: Int32Array,
): void {
  const columnCount = localIds.length;
  for (const [column, ids] of task.categoryIds.entries()) {
    const local = localIds[column];
    if (local === undefined) throw new Error(`no table for category feature ${column}`);
    let place = firstPlace * columnCount + column;
    for (let row = start; row < end; row += 1) {
      target[place] = local.placeOf(int32At(ids, row));
      place += columnCount;
    }
  }
}

function numbersOf(
  { numbers, unadaptedNumbers }: TaskRows,
  role: RowRole,
): readonly Float32Array[] {
  // The losses of support and query rows alike are those before adaptation.
  return role === 'all' || role === 'flat' ? (unadaptedNumbers ?? numbers) : numbers;
}

function placeNumbers(
  { start, end, firstPlace }: TaskSpan,
  columns: readonly Float32Array[],
  target: Float32Array,
): void {
  const columnCount = columns.length;
  for (const [column, values] of columns.entries()) {
    let place = firstPlace * columnCount + column;
    for (let row = start; row < end; row += 1) {
      target[place] = float32At(values, row);
      place += columnCount;
    }
  }
}

function placeBags(
  { task, start, end, firstPlace }: TaskSpan,
  localIds: readonly LocalIds[],
  { bags, packExtent }: PlacedBags,
  target: Int32Array,
): void {
  const columnCount = localIds.length;
  for (const [bag, ids] of task.bagIds.entries()) {
    const column = task.categoryIds.length + bag;
    const local = localIds[column];
    if (local === undefined) throw new Error(`no table for bag feature ${bag}`);
    const lengthMax = ids.length / task.rowCount;
    let place = firstPlace * columnCount + column;
    for (let row = start; row < end; row += 1) {
      if (row > start && repeatsRowBefore(ids, row, lengthMax))
        target[place] = int32At(target, place - columnCount);
      else target[place] = packExtent + bags.indexOf(membersAt(ids, row, lengthMax, local));
      place += columnCount;
    }
  }
}

/** Returns whether a row holds the bag of the one before it. */
function repeatsRowBefore(ids: Int32Array, row: number, lengthMax: number): boolean {
  for (let index = row * lengthMax; index < (row + 1) * lengthMax; index += 1)
    if (ids[index] !== ids[index - lengthMax]) return false;
  return true;
}

/** The members of a row's bag, as rows of the pack. */
function membersAt(ids: Int32Array, row: number, lengthMax: number, local: LocalIds): number[] {
  const members: number[] = [];
  for (let index = row * lengthMax; index < (row + 1) * lengthMax; index += 1) {
    const id = ids[index] ?? -1;
    if (id >= 0) members.push(local.placeOf(id));
  }
  return members;
}

/** Divides the counts of one task by its sum of impressions. */
function shareOut(span: TaskSpan, impressionShares: Float32Array, clickShares: Float32Array): void {
  const { task, start, end, firstPlace } = span;
  const { impressions, clicks } = task;
  const total = totalOf(span, impressions);
  if (total === 0) return;
  for (let row = start; row < end; row += 1) {
    impressionShares[firstPlace + row - start] = float32At(impressions, row) / total;
    clickShares[firstPlace + row - start] = float32At(clicks, row) / total;
  }
}

function totalOf({ start, end }: TaskSpan, values: Float32Array): number {
  let total = 0;
  for (let row = start; row < end; row += 1) total += float32At(values, row);
  return total;
}

function squaredTermsOf(
  spans: readonly TaskSpan[],
  impressionShares: Float32Array,
  clickShares: Float32Array,
  taskCount: number,
): RowBatch['squared'] {
  if (!spans.some(({ task }) => task.loss === 'squared')) return null;
  const squared = {
    impressionShares: new Float32Array(impressionShares.length),
    constants: new Float32Array(impressionShares.length),
    taskFlags: new Float32Array(taskCount),
  };
  for (const [index, { task, start, end, firstPlace }] of spans.entries()) {
    if (task.loss !== 'squared') continue;
    squared.taskFlags[index] = 1;
    for (let place = firstPlace; place < firstPlace + end - start; place += 1) {
      const share = float32At(impressionShares, place);
      squared.impressionShares[place] = share;
      if (share > 0) squared.constants[place] = float32At(clickShares, place) ** 2 / (2 * share);
    }
  }
  return squared;
}

export interface LocalIds {
  /** The row of the pack that holds `id`, which must be an id of the table. */
  placeOf(id: number): number;
}

/**
 * Finds the place of each id by open addressing. A job looks up an id for every row and feature; a `Map` or a binary
 * search would cost more than the forward pass.
 *
 * @param ids unique; the i-th of them lies in row `start + i` of the pack.
 */
function localIdsOf(ids: Int32Array, start: number): LocalIds {
  let bitCount = 4;
  while (1 << bitCount < ids.length * 2) bitCount += 1;
  const mask = (1 << bitCount) - 1;
  const shift = 32 - bitCount;
  const keys = new Int32Array(mask + 1).fill(-1);
  const places = new Int32Array(mask + 1);
  // Fibonacci hashing: the high bits of a product with 2^32 over the golden ratio.
  const slotOf = (id: number): number => {
    let slot = Math.imul(id, 0x9e3779b1) >>> shift;
    while (keys[slot] !== id && keys[slot] !== -1) slot = (slot + 1) & mask;
    return slot;
  };
  for (let index = 0; index < ids.length; index += 1) {
    const id = int32At(ids, index);
    const slot = slotOf(id);
    keys[slot] = id;
    places[slot] = start + index;
  }
  return { placeOf: (id) => int32At(places, slotOf(id)) };
}

const SLOT_COUNT_FIRST = 64;
const NOBODY = -1;

/** Collects the distinct bags of some rows: those of an adgroup share its attributes, and each bag is pooled once. */
export class DistinctBags {
  /** Indices of bags by hash, with open addressing. */
  #slots = new Int32Array(SLOT_COUNT_FIRST).fill(NOBODY);
  readonly #hashes: number[] = [];
  /** The place of each bag's first member; after the last bag, the number of all members. */
  readonly #starts: number[] = [0];
  readonly #members: number[] = [];

  get count(): number {
    return this.#hashes.length;
  }

  /** The members of all bags as rows of the pack, bag after bag. */
  get members(): readonly number[] {
    return this.#members;
  }

  sizeOf(index: number): number {
    return numberAt(this.#starts, index + 1) - numberAt(this.#starts, index);
  }

  /** Indices follow first occurrence. Bags are equal if they have the same members in the same order. */
  indexOf(members: readonly number[]): number {
    const hash = hashOf(members);
    const mask = this.#slots.length - 1;
    let slot = hash & mask;
    for (;;) {
      const index = int32At(this.#slots, slot);
      if (index === NOBODY) return this.#added(slot, hash, members);
      if (this.#hashes[index] === hash && this.#holds(index, members)) return index;
      slot = (slot + 1) & mask;
    }
  }

  #holds(index: number, members: readonly number[]): boolean {
    const start = numberAt(this.#starts, index);
    if (this.sizeOf(index) !== members.length) return false;
    for (const [place, member] of members.entries())
      if (this.#members[start + place] !== member) return false;
    return true;
  }

  #added(slot: number, hash: number, members: readonly number[]): number {
    const index = this.#hashes.length;
    this.#slots[slot] = index;
    this.#hashes.push(hash);
    for (const member of members) this.#members.push(member);
    this.#starts.push(this.#members.length);
    if (2 * this.count > this.#slots.length) this.#grow();
    return index;
  }

  #grow(): void {
    this.#slots = new Int32Array(2 * this.#slots.length).fill(NOBODY);
    const mask = this.#slots.length - 1;
    for (const [index, hash] of this.#hashes.entries()) {
      let slot = hash & mask;
      while (this.#slots[slot] !== NOBODY) slot = (slot + 1) & mask;
      this.#slots[slot] = index;
    }
  }
}

/** FNV-1a over whole numbers instead of bytes, then its high bits into the low ones. */
function hashOf(members: readonly number[]): number {
  let hash = 0x811c9dc5;
  for (const member of members) hash = Math.imul(hash ^ member, 0x01000193);
  return hash ^ (hash >>> 15);
}

export interface UnitDropout {
  /** The share of hidden units that are dropped, below 1. */
  readonly units: number;
  /** The share of the values that the first hidden layer reads. */
  readonly inputs: number;
  /** Whether no unit of the last hidden layer is dropped. */
  readonly keepsFeatures: boolean;
  /** The seed of the run. */
  readonly seed: number;
  readonly outerStep: number;
}

/** The rows of a role as they lie in a micro-batch. */
interface PlacedRows {
  readonly tasks: readonly Pick<TaskRows, 'taskIndex' | 'rowCount' | 'supportRowCount'>[];
  readonly role: RowRole;
  readonly taskCount: number;
  readonly rowExtent: number;
}

/** A layer whose outputs are dropped at a rate; with 0 it has no mask. */
interface MaskedLayer {
  readonly width: number;
  readonly rate: number;
}

/** Sixteen bits decide about a unit. */
const LEVEL_COUNT = 2 ** 16;

/**
 * Masks of dropped hidden units (Srivastava et al., JMLR 2014), inverted: a kept unit has 1 / (1 - rate), a dropped
 * one 0, so that no weight has to be scaled when nothing is dropped. A value depends on the seed, the outer step, the
 * task, the row, the layer and the unit alone: neither workers, jobs and micro-batches nor the role of a row
 * change it, and all inner steps of an outer step see the same masks.
 *
 * By layer, `[taskCount * rowExtent, width]`; 0 at places without a row. Empty without a rate.
 */
export function unitMasksOf(
  { seed, outerStep }: Pick<UnitDropout, 'seed' | 'outerStep'>,
  { tasks, role, taskCount, rowExtent }: PlacedRows,
  layers: readonly MaskedLayer[],
): Float32Array[] {
  const masks = layers.map(
    ({ width, rate }) => new Float32Array(rate === 0 ? 0 : taskCount * rowExtent * width),
  );
  let placedCount = 0;
  for (const [index, task] of tasks.entries()) {
    const { start, end } = roleSpanOf(task, role);
    const firstPlace = role === 'flat' ? placedCount : index * rowExtent;
    placedCount += end - start;
    const keys = randomStream(seed, 'dropout', outerStep, task.taskIndex);
    for (const [place, mask] of masks.entries()) {
      const { width, rate } = at(layers, place);
      const key = keys.uint32();
      if (rate === 0) continue;
      const threshold = Math.round(rate * LEVEL_COUNT);
      const kept = LEVEL_COUNT / (LEVEL_COUNT - threshold);
      for (let row = start; row < end; row += 1)
        maskRow(mask, (firstPlace + row - start) * width, width, {
          key: wordAt(key, row),
          threshold,
          kept,
        });
    }
  }
  return masks;
}

interface RowMask {
  readonly key: number;
  readonly threshold: number;
  readonly kept: number;
}

/** Two units share a word. */
function maskRow(
  mask: Float32Array,
  first: number,
  width: number,
  { key, threshold, kept }: RowMask,
): void {
  for (let unit = 0; unit < width; unit += 2) {
    const word = wordAt(key, unit);
    if (word >>> 16 >= threshold) mask[first + unit] = kept;
    if (unit + 1 < width && (word & 0xffff) >= threshold) mask[first + unit + 1] = kept;
  }
}
