/** The curves of the record: means over the seeds of a set, differences between arms and shares of gaps. */

import { at } from '../../../shared/base/arrays.js';
import type { Interval } from '../../../coordinator/scoring/evaluation-report.js';
import { intervalOver } from '../seed-intervals.js';
import type { EvidenceCell, EvidenceRecord } from './evidence-record.js';

export interface SetCurves {
  readonly set: string;
  readonly kind: EvidenceCell['kind'];
  readonly cells: readonly EvidenceCell[];
  /** Numbers of support rows, ascending. */
  readonly supportRows: readonly number[];
}

/** Worlds first, then real sets by name. */
export function curvesBySet({ cells }: EvidenceRecord): SetCurves[] {
  const bySet = new Map<string, EvidenceCell[]>();
  for (const cell of Object.values(cells))
    bySet.set(cell.set, [...(bySet.get(cell.set) ?? []), cell]);
  const found = [...bySet.values()].map((ofSet): SetCurves => {
    const { set, kind, points } = at(ofSet, 0);
    return { set, kind, cells: ofSet, supportRows: points.map(({ supportRows }) => supportRows) };
  });
  return found.sort((one, other) => (one.kind === other.kind ? 0 : one.kind === 'world' ? -1 : 1));
}

/** A figure of a cell at a number of support rows. */
type FigureAt = (cell: EvidenceCell, supportRows: number) => number;

/** The mean over seeds; without an interval for a single one. */
export interface SeedMean {
  readonly value: number;
  readonly interval: Interval | null;
}

export function meanOver(
  { cells, kind }: SetCurves,
  supportRows: number,
  figureAt: FigureAt,
): SeedMean {
  const values = cells.map((cell) => figureAt(cell, supportRows));
  const { train, test } = at(cells, 0).taskCounts;
  const value = values.reduce((sum, one) => sum + one, 0) / values.length;
  return { value, interval: intervalOver(values, kind === 'world' ? 0 : test / train) };
}

export function lossOfArm(arm: string): FigureAt {
  return ({ points }, supportRows) => {
    const point = points.find((each) => each.supportRows === supportRows);
    return point?.losses[arm] ?? NaN;
  };
}

export function differenceOf(arm: string, from: string): FigureAt {
  return (cell, supportRows) =>
    lossOfArm(arm)(cell, supportRows) - lossOfArm(from)(cell, supportRows);
}

/** The share of the gap between an arm without support rows and the true probabilities. */
export function gapClosed(arm: string, from: string): FigureAt {
  return (cell, supportRows) => {
    const start = lossOfArm(from)(cell, 0);
    const gap = start - (cell.oracle ?? NaN);
    return (start - lossOfArm(arm)(cell, supportRows)) / gap;
  };
}

/** The share of the loss of the global model that an arm takes away. */
export function lossTaken(arm: string): FigureAt {
  return (cell, supportRows) =>
    -differenceOf(arm, 'global')(cell, supportRows) / lossOfArm('global')(cell, 0);
}

export type Verdict = 'better' | 'worse' | 'level' | 'one seed';

/** The verdict on a difference of losses: better if its whole interval is below 0. */
export function verdictOf({ interval }: SeedMean): Verdict {
  if (interval === null) return 'one seed';
  if (interval.high < 0) return 'better';
  return interval.low > 0 ? 'worse' : 'level';
}
