/**
 * The self-check rows of a delta: those of the bundle below that it keeps, and its own ones. The rows of adgroups that have not
 * changed are not written again.
 */

import { at, int32At } from '../../base/arrays.js';
import { QianmoError } from '../../base/errors.js';
import type { SelfCheck } from '../read-bundle.js';

/** The array of the runs. */
export const SELF_CHECK_RUNS = 'selfCheck.runs';
/** The first row of a run that a delta has itself. */
export const OWN_ROWS = -1;

export interface DeltaSelfCheck {
  /**
   * All rows in order, `[runCount, 2]`: the first row below, or `OWN_ROWS` for the next ones of the delta, and the number of rows.
   * Null where all are the delta's own, as earlier versions wrote them.
   */
  readonly runs: Int32Array | null;
  /** Its blocks are those of a full export. */
  readonly own: SelfCheck;
}

interface MergedBlocks {
  /** The number in memory of each block of the full export that the delta stands for. */
  readonly order: Int32Array;
  /** Numbers whose adgroups the delta changes. */
  readonly replaced: ReadonlySet<number>;
}

/**
 * @param below with blocks as numbers in memory, as in the result.
 * @throws QianmoError of kind `data` if the runs contradict the rows.
 */
export function joinedSelfCheck(
  below: SelfCheck,
  { runs, own }: DeltaSelfCheck,
  { order, replaced }: MergedBlocks,
  where: string,
): SelfCheck {
  const ownRowCount = own.rows.rowCount;
  const all = runs ?? Int32Array.of(OWN_ROWS, ownRowCount);
  const places = placesOf(all, below.rows.rowCount, ownRowCount, where);
  const joined = <Values extends Int32Array | Float32Array>(
    belowValues: Values,
    ownValues: Values,
    width = 1,
  ): Values => {
    // An array of the same type, which TypeScript cannot follow from the constructor.
    const values = new (ownValues.constructor as new (length: number) => Values)(
      places.length * width,
    );
    for (const [row, place] of places.entries()) {
      const [from, first] = place < 0 ? [ownValues, -1 - place] : [belowValues, place];
      values.set(from.subarray(first * width, (first + 1) * width), row * width);
    }
    return values;
  };
  const ownBlocks = own.blocks.map((block) => order[block] ?? -1);
  if (ownBlocks.includes(-1)) throw contradiction(where, 'a row of a block that is not there');
  const blocks = joined(below.blocks, ownBlocks);
  for (const [row, place] of places.entries())
    if (place >= 0 && replaced.has(int32At(blocks, row)))
      throw contradiction(where, `row ${place} of an adgroup that the delta changes`);
  const columns = <Values extends Int32Array | Float32Array>(
    of: (rows: SelfCheck['rows']) => readonly Values[],
  ): Values[] => of(own.rows).map((values, column) => joined(at(of(below.rows), column), values));
  return {
    blocks,
    logits: joined(below.logits, own.logits),
    rows: {
      rowCount: places.length,
      categoryIds: columns(({ categoryIds }) => categoryIds),
      bagIds: own.rows.bagIds.map((values, bag) => {
        const belowValues = at(below.rows.bagIds, bag);
        const width = (values.length + belowValues.length) / (ownRowCount + below.rows.rowCount);
        return joined(belowValues, values, width);
      }),
      numbers: columns(({ numbers }) => numbers),
    },
  };
}

/** The row below of each row, or -1 and less for the delta's own ones in order. */
function placesOf(
  runs: Int32Array,
  belowRowCount: number,
  ownRowCount: number,
  where: string,
): Int32Array {
  const places: number[] = [];
  let ownCount = 0;
  for (let run = 0; run < runs.length; run += 2) {
    const [first, count] = [int32At(runs, run), int32At(runs, run + 1)];
    const end = first === OWN_ROWS ? ownCount + count : first + count;
    if (first < OWN_ROWS || count < 1 || end > (first === OWN_ROWS ? ownRowCount : belowRowCount))
      throw contradiction(where, `${count} rows from row ${first} on`);
    for (let row = 0; row < count; row += 1)
      places.push(first === OWN_ROWS ? -1 - (ownCount + row) : first + row);
    if (first === OWN_ROWS) ownCount = end;
  }
  if (ownCount === ownRowCount) return Int32Array.from(places);
  throw contradiction(where, `${ownCount} of ${ownRowCount} own rows`);
}

function contradiction(where: string, found: string): QianmoError {
  return new QianmoError({
    kind: 'data',
    what: 'the self-check rows of a delta contradict the bundle that it changes',
    where,
    expected: 'runs of rows of that bundle, and each own row once',
    found,
    cure: 'roll the label back, or export the run in full with `qianmo export`',
  });
}
