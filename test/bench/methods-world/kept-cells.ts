/**
 * The record of the cells: figures without rows. The page can therefore be made from cells of any
 * date and machine, and a later run can add missing cells. A figure is valid as long as the
 * settings that produced it are the current ones.
 */

import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { z } from 'zod';
import { packageRoot } from '../../../infra/library/package-root.js';
import type { BenchHeader } from '../bench-header.js';
import type { PairedSlice } from './paired-scores.js';
import type { Cell } from './world-methods.js';

const figure = z.number();
const IntervalSchema = z.strictObject({ value: figure, low: figure, high: figure });

/** The figures of an arm. Lists are in the order of the slices. */
const KeptArmSchema = z.strictObject({
  /** Digest of the settings of the run that has the arm. */
  digest: z.string(),
  commit: z.string(),
  date: z.string(),
  machine: z.string(),
  logloss: z.array(figure),
  /** Differences from another arm, by its name. */
  differences: z.record(z.string(), z.array(IntervalSchema)),
});

const KeptCellSchema = z.strictObject({
  setting: z.string(),
  clickRate: z.number(),
  seed: z.int(),
  slices: z.array(
    z.strictObject({ name: z.string(), adgroupCount: z.int(), impressions: z.number() }),
  ),
  arms: z.record(z.string(), KeptArmSchema),
});

export type KeptArm = z.infer<typeof KeptArmSchema>;
export type KeptCell = z.infer<typeof KeptCellSchema>;
export type KeptInterval = z.infer<typeof IntervalSchema>;

const RECORD = new URL('infra/results/methods-world.json', packageRoot).pathname;
/** Significant digits of a figure. */
const DIGITS = 6;

/** Null when there is no record of the cell. */
export function keptCell(cell: Cell, path = RECORD): KeptCell | null {
  return keptCells(path).find((kept) => isSame(kept, cell)) ?? null;
}

/** The cells in the order of their seeds. */
export function keptCells(path = RECORD): KeptCell[] {
  if (!existsSync(path)) return [];
  return z.array(KeptCellSchema).parse(JSON.parse(readFileSync(path, 'utf8')));
}

function isSame(one: Cell, other: Cell): boolean {
  return (
    one.setting === other.setting && one.clickRate === other.clickRate && one.seed === other.seed
  );
}

/**
 * Records the arms of `slices`; other arms in the record stay.
 *
 * @param digestOf returns the digest of the settings of an arm's run
 */
export function keepCell(
  cell: Cell,
  slices: readonly PairedSlice[],
  digestOf: (arm: string) => string,
  { commit, date, machine }: Omit<BenchHeader, 'loadBefore'>,
  path = RECORD,
): void {
  const names = [...(slices[0]?.loglosses.keys() ?? [])];
  const references = [...(slices[0]?.differences.keys() ?? [])];
  const kept: KeptCell = {
    setting: cell.setting,
    clickRate: cell.clickRate,
    seed: cell.seed,
    slices: slices.map(({ name, adgroupCount, impressions }) => ({
      name,
      adgroupCount,
      impressions,
    })),
    arms: {
      ...keptCell(cell, path)?.arms,
      ...Object.fromEntries(
        names.map((name): [string, KeptArm] => [
          name,
          {
            ...{ digest: digestOf(name), commit, date, machine },
            logloss: slices.map(({ loglosses }) => rounded(loglosses.get(name) ?? NaN)),
            differences: Object.fromEntries(
              references.map((other) => [
                other,
                slices.map(({ differences }) => {
                  const { value, low, high } = differences.get(other)?.get(name) ?? NONE;
                  return { value: rounded(value), low: rounded(low), high: rounded(high) };
                }),
              ]),
            ),
          },
        ]),
      ),
    },
  };
  const others = keptCells(path).filter((other) => !isSame(other, cell));
  const cells = [...others, KeptCellSchema.parse(kept)].sort((a, b) => a.seed - b.seed);
  const lines = cells.map((each) => JSON.stringify(each));
  writeFileSync(path, `[\n${lines.join(',\n')}\n]\n`);
}

const NONE: KeptInterval = { value: NaN, low: NaN, high: NaN };

function rounded(value: number): number {
  return Number(value.toPrecision(DIGITS));
}
