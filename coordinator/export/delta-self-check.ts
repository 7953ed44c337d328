/**
 * The self-check of a delta: the rows of a full export's self-check. Those of adgroups that have not changed are kept from the
 * bundle below; only the others are read, scored and written.
 */

import { at, int32At } from '../../shared/base/arrays.js';
import { adaptedTaskOf } from '../../shared/bundle/adapted-block.js';
import type { NamedArray } from '../../shared/bundle/array-files.js';
import { OWN_ROWS, SELF_CHECK_RUNS } from '../../shared/bundle/delta/kept-rows.js';
import { blockOfKey, UNKNOWN_BLOCK } from '../../shared/bundle/key-index.js';
import type { LoadedBundle } from '../../shared/bundle/read-bundle.js';
import type { AdaptedTask } from '../../shared/queue/adapted-tasks.js';
import { asStored } from './encoding-losses.js';
import { shiftOf, type ExportSource, type ExportSurroundings } from './export-bundle.js';
import {
  chosenAdgroups,
  encodedRowsOf,
  selfCheckArrays,
  selfCheckOf,
  selfCheckRowsOf,
  withRows,
  type ChosenAdgroup,
  type MeasuredAdgroup,
} from './measured-rows.js';

interface CheckedDelta {
  readonly source: ExportSource;
  readonly loaded: LoadedBundle;
  /** All adgroups in the order of a full export. */
  readonly fullOrder: readonly number[];
  /** The adapted tasks of changed and new adgroups, by their blocks in a full export. */
  readonly changed: ReadonlyMap<number, AdaptedTask>;
}

interface DeltaSelfCheckArrays {
  readonly arrays: readonly NamedArray[];
  /** All rows, those that are kept as well. */
  readonly rowCount: number;
}

export async function selfCheckOfDelta(
  delta: CheckedDelta,
  compute: ExportSurroundings['compute'],
): Promise<DeltaSelfCheckArrays> {
  const { source, fullOrder } = delta;
  const { store, run } = source;
  const chosen = selfCheckRowsOf(
    chosenAdgroups(store, fullOrder, { seed: run.config.seed, forSelfCheckOnly: true }),
  );
  const { runs, own } = dividedRows(delta, chosen);
  const rows = await withRows(store, own);
  const { features } = store.manifest;
  const outputs = rows.length === 0 ? [] : await outputsOf(delta, rows, compute);
  return {
    arrays: [
      ...selfCheckArrays(selfCheckOf(rows, outputs, features), features),
      { name: SELF_CHECK_RUNS, shape: [runs.length, 2], values: Int32Array.from(runs.flat()) },
    ],
    rowCount: chosen.reduce((sum, { places }) => sum + places.length, 0),
  };
}

type Run = readonly [first: number, rowCount: number];

/** The source of each row, and the adgroups whose rows are the delta's own. */
function dividedRows(
  { source: { store }, loaded, changed }: CheckedDelta,
  chosen: readonly ChosenAdgroup[],
): { readonly runs: readonly Run[]; readonly own: readonly ChosenAdgroup[] } {
  const below = rowsBelow(loaded.selfCheck.blocks);
  // Adgroups whose rows are under block 0 follow it under their own blocks, in the same order.
  const blocks = chosen.map(({ block }) => block);
  const ofUnknown = blocks.filter((block) => block === UNKNOWN_BLOCK).length;
  const runs: Run[] = [];
  const own: ChosenAdgroup[] = [];
  for (const [index, adgroup] of chosen.entries()) {
    const isUnknown = index < ofUnknown;
    const block = isUnknown ? at(blocks, ofUnknown + index) : adgroup.block;
    const rowCount = adgroup.places.length;
    const number = blockOfKey(loaded.index, at(store.tasks, adgroup.taskIndex).key);
    const found = changed.has(block)
      ? undefined
      : (isUnknown ? below.underUnknown : below.underOwn).get(number);
    const isKept = found?.[1] === rowCount;
    if (!isKept) own.push(adgroup);
    const run: Run = isKept ? found : [OWN_ROWS, rowCount];
    const before = runs.at(-1);
    if (before !== undefined && follows(before, run))
      runs[runs.length - 1] = [before[0], before[1] + run[1]];
    else runs.push(run);
  }
  return { runs, own };
}

function follows([first, rowCount]: Run, [next]: Run): boolean {
  return first === OWN_ROWS ? next === OWN_ROWS : next === first + rowCount;
}

/** The rows of each adgroup below, by its number in memory: under its own block and under block 0. */
function rowsBelow(blocks: Int32Array): {
  readonly underOwn: ReadonlyMap<number, Run>;
  readonly underUnknown: ReadonlyMap<number, Run>;
} {
  const underOwn = new Map<number, Run>();
  const unknownRowCount = blocks.findIndex((block) => block !== UNKNOWN_BLOCK);
  for (let first = Math.max(0, unknownRowCount); first < blocks.length;) {
    const block = int32At(blocks, first);
    let end = first + 1;
    while (blocks[end] === block) end += 1;
    underOwn.set(block, [first, end - first]);
    first = end;
  }
  const underUnknown = new Map<number, Run>();
  let first = 0;
  for (const [block, [, rowCount]] of underOwn) {
    if (first + rowCount > unknownRowCount) break;
    underUnknown.set(block, [first, rowCount]);
    first += rowCount;
  }
  return { underOwn, underUnknown };
}

/** The outputs of rows with the blocks of the delta and of the bundle below. */
async function outputsOf(
  { source, loaded: { model, index }, changed }: CheckedDelta,
  rows: readonly MeasuredAdgroup[],
  compute: ExportSurroundings['compute'],
): Promise<Float32Array[]> {
  const { spec, config } = source.run;
  const { tables, dense } = source.parameters;
  const scorer = await compute.scorerOf({ spec, shift: shiftOf(config), tables, dense });
  return scorer.score(
    rows.map((adgroup) => {
      const task = changed.get(adgroup.block);
      const key = at(source.store.tasks, adgroup.taskIndex).key;
      const block = adgroup.block === UNKNOWN_BLOCK ? UNKNOWN_BLOCK : blockOfKey(index, key);
      return {
        adapted:
          task === undefined
            ? adaptedTaskOf(model, block)
            : asStored(task, model.blocks.layout, model.dense),
        rows: encodedRowsOf(adgroup),
      };
    }),
  );
}
