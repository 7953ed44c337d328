/**
 * The record of a bench that is made cell by cell, `infra/results/NAME.json`: its cells by their keys, which stay the same.
 * Cells may be of several commits and machines; each names its own.
 */

import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { z } from 'zod';
import { packageRoot } from '../../infra/library/package-root.js';

interface CellRecord<Cell> {
  readonly cells: Readonly<Record<string, Cell>>;
}

/** Adds a cell to the record, with figures of six digits, and writes the page of the whole. */
export function keepCell<Cell>(
  name: string,
  schema: z.ZodType<Cell>,
  [key, cell]: readonly [string, Cell],
  pageOf: (record: CellRecord<Cell>) => string,
): void {
  const cells = z.strictObject({ cells: z.record(z.string(), schema) });
  const pathOf = (ending: string): URL => new URL(`infra/results/${name}.${ending}`, packageRoot);
  const read = (): CellRecord<Cell> =>
    existsSync(pathOf('json'))
      ? cells.parse(JSON.parse(readFileSync(pathOf('json'), 'utf8')))
      : { cells: {} };
  const all = Object.entries({ ...read().cells, [key]: cell });
  const sorted = all.sort(([one], [other]) => (one < other ? -1 : 1));
  const text = JSON.stringify(
    cells.parse({ cells: Object.fromEntries(sorted) }),
    (_, value: unknown) =>
      typeof value === 'number' && !Number.isInteger(value) ? Number(value.toPrecision(6)) : value,
    1,
  );
  writeFileSync(pathOf('json'), `${text}\n`);
  // Read again, because writing rounds.
  writeFileSync(pathOf('md'), pageOf(read()));
}
