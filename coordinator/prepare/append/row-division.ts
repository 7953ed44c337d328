/** How the rows of a task are divided into support and query, as `task-division.ts` has it in SQL. */

import type { DataConfig } from '../../../shared/config/data-config.js';

type RowSplit = DataConfig['rowSplit'];

/** The number of rows in the early part. */
export function boundaryOf(
  { supportShare, supportRowsMin, queryRowsMin }: RowSplit,
  rowCount: number,
): number {
  const share = Math.floor(rowCount * supportShare + 0.5);
  return Math.max(Math.min(Math.max(share, supportRowsMin), rowCount - queryRowsMin), 0);
}

/** The rows that are kept, from `first` on, and how many of them are support rows. */
interface KeptSpan {
  readonly first: number;
  readonly supportRowCount: number;
  readonly queryRowCount: number;
}

export function keptSpanOf(split: RowSplit, rowCount: number): KeptSpan {
  const boundary = boundaryOf(split, rowCount);
  const supportRowCount = Math.min(boundary, split.supportRowsMax);
  return {
    first: boundary - supportRowCount,
    supportRowCount,
    queryRowCount: Math.min(rowCount - boundary, split.queryRowsMax),
  };
}
