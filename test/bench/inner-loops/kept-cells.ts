/**
 * Cells of an earlier comparison that a partial run keeps, so that a record can be updated cell by
 * cell.
 */

import { readFileSync } from 'node:fs';
import { z } from 'zod';
import { CellResultSchema, type CellResult } from './cell-results.js';
import { cellName, CELLS } from './sides/cells.js';
import type { MachineDescription } from './machine-description.js';

const EarlierSchema = z.looseObject({
  machine: z.looseObject({ cpuModel: z.string(), coreCount: z.number() }),
  cells: z.array(CellResultSchema),
});

/** @returns the cells of the file at `path`; none if it is missing or another machine wrote it */
export function earlierCells(path: string, machine: MachineDescription): readonly CellResult[] {
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch {
    return [];
  }
  const earlier = EarlierSchema.parse(JSON.parse(text));
  const isSameKind =
    earlier.machine.cpuModel === machine.cpuModel &&
    earlier.machine.coreCount === machine.coreCount;
  return isSameKind ? earlier.cells : [];
}

/** Measured cells replace earlier ones of the same name, in the order of `CELLS`. */
export function broughtUpToDate(
  earlier: readonly CellResult[],
  measured: readonly CellResult[],
): CellResult[] {
  const byName = new Map([...earlier, ...measured].map((cell) => [cell.cell, cell]));
  return CELLS.flatMap((cell) => byName.get(cellName(cell)) ?? []);
}
