/** The records of benches that make one cell after another: cells by key, in the order of keys, with figures of six digits. */

import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { z } from 'zod';

export interface CellRecord<Cell> {
  readonly cells: Readonly<Record<string, Cell>>;
}

/** Without cells if there is no record at the path. */
export function readCells<Cell>(path: URL, cell: z.ZodType<Cell>): CellRecord<Cell> {
  if (!existsSync(path)) return { cells: {} };
  return recordOf(cell).parse(JSON.parse(readFileSync(path, 'utf8')));
}

export function writeCells<Cell>(
  path: URL,
  cell: z.ZodType<Cell>,
  { cells }: CellRecord<Cell>,
): void {
  const sorted = Object.entries(cells).sort(([one], [other]) => (one < other ? -1 : 1));
  const text = JSON.stringify(
    recordOf(cell).parse({ cells: Object.fromEntries(sorted) }),
    (_, value: unknown) =>
      typeof value === 'number' && !Number.isInteger(value) ? Number(value.toPrecision(6)) : value,
    1,
  );
  writeFileSync(path, `${text}\n`);
}

function recordOf<Cell>(cell: z.ZodType<Cell>): z.ZodType<{ cells: Record<string, Cell> }> {
  return z.strictObject({ cells: z.record(z.string(), cell) });
}
