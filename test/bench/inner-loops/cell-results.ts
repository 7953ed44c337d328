/** The results of a measured cell, and the verdict with its ratio. */

import { z } from 'zod';
import { SIDE_NAMES } from './sides/sides.js';
import { median } from '../../../shared/base/arrays.js';

/**
 * How a side uses the machine: one pinned core, two threads, or one process pinned to each core.
 */
export const ARRANGEMENTS = ['one thread', 'two threads', 'two processes'] as const;
export type Arrangement = (typeof ARRANGEMENTS)[number];

/** The two settings: one thread, and the whole machine with each side in its best arrangement. */
export const SETTINGS = {
  'one thread': ['one thread'],
  'two cores': ['two threads', 'two processes'],
} as const satisfies Record<string, readonly Arrangement[]>;
export type Setting = keyof typeof SETTINGS;

/** The settings as the results pages name them. */
export const SETTING_TITLES: Readonly<Record<Setting, string>> = {
  'one thread': 'One thread',
  'two cores': 'Two cores: two threads or two processes',
};

const VariantResultSchema = z.strictObject({
  side: z.enum(SIDE_NAMES),
  variant: z.string(),
  /** The reason why it was not measured; null if it was. */
  skippedBecause: z.string().nullable(),
  /**
   * Deviation of one step from the initial values; null, since JSON has no infinity, if rows
   * changed that must not.
   */
  relativeError: z.number().nullable(),
  furthestTensor: z.string().nullable(),
  isAccurate: z.boolean(),
  /** Version of the library that computes; null if it did not start. */
  versions: z.record(z.string(), z.string()).nullable(),
  /** Time to trace, compile and run once. */
  firstStepMs: z.number().nullable(),
  /** A short measurement on one thread that decides which variants are measured in rounds. */
  lookMs: z.number().nullable(),
});
export type VariantResult = Readonly<z.infer<typeof VariantResultSchema>>;

const RoundResultSchema = z.strictObject({
  /** Summed over concurrent processes. */
  tasksPerSecond: z.number(),
  medianMs: z.number(),
  minMs: z.number(),
  cpuMsPerStep: z.number(),
  stepCount: z.number(),
  residentMiB: z.number(),
  /** Cores used by other processes meanwhile. */
  otherCores: z.number(),
});
export type RoundResult = Readonly<z.infer<typeof RoundResultSchema>>;

const ContestantResultSchema = z.strictObject({
  side: z.enum(SIDE_NAMES),
  variant: z.string(),
  isAccurate: z.boolean(),
  arrangement: z.enum(ARRANGEMENTS),
  rounds: z.array(RoundResultSchema).readonly(),
});
export type ContestantResult = Readonly<z.infer<typeof ContestantResultSchema>>;

export const CellResultSchema = z.strictObject({
  cell: z.string(),
  /** Commit of the measured tree. */
  commit: z.string(),
  taskCount: z.number(),
  /** Floating-point operations of the textbook algorithm, per meta step. */
  nominalGflop: z.number(),
  variants: z.array(VariantResultSchema).readonly(),
  contestants: z.array(ContestantResultSchema).readonly(),
});
export type CellResult = Readonly<z.infer<typeof CellResultSchema>>;

export interface Standing extends Omit<ContestantResult, 'rounds'> {
  /** Median over rounds, like the other figures. */
  readonly tasksPerSecond: number;
  readonly medianMs: number;
  readonly cpuMsPerStep: number;
  readonly residentMiB: number;
  readonly otherCoresMax: number;
}

function standingOf({ rounds, ...contestant }: ContestantResult): Standing {
  const over = (value: (round: RoundResult) => number): number => median(rounds.map(value));
  return {
    ...contestant,
    tasksPerSecond: over((round) => round.tasksPerSecond),
    medianMs: over((round) => round.medianMs),
    cpuMsPerStep: over((round) => round.cpuMsPerStep),
    residentMiB: over((round) => round.residentMiB),
    otherCoresMax: Math.max(...rounds.map((round) => round.otherCores)),
  };
}

/** The contestants of a setting, the fastest first. */
export function standingsOf({ contestants }: CellResult, setting: Setting): Standing[] {
  const arrangements: readonly Arrangement[] = SETTINGS[setting];
  return contestants
    .filter(({ arrangement, rounds }) => arrangements.includes(arrangement) && rounds.length > 0)
    .map(standingOf)
    .sort((a, b) => b.tasksPerSecond - a.tasksPerSecond);
}

interface Verdict {
  readonly cell: string;
  readonly setting: Setting;
  readonly ours: Standing;
  readonly fastestAccuratePeer: Standing | null;
  readonly fastestPeer: Standing | null;
  /** Our tasks per second divided by the peer's. */
  readonly ratioToAccurate: number | null;
  readonly ratioToAny: number | null;
}

/** Null when our side has no accurate result in the setting. */
export function verdictOf(cell: CellResult, setting: Setting): Verdict | null {
  const standings = standingsOf(cell, setting);
  const ours = standings.find(({ side, isAccurate }) => side === 'ours' && isAccurate);
  if (ours === undefined) return null;
  const peers = standings.filter(({ side }) => side !== 'ours');
  const fastestPeer = peers[0] ?? null;
  const fastestAccuratePeer = peers.find(({ isAccurate }) => isAccurate) ?? null;
  const ratioTo = (peer: Standing | null): number | null =>
    peer === null ? null : ours.tasksPerSecond / peer.tasksPerSecond;
  return {
    cell: cell.cell,
    setting,
    ours,
    fastestAccuratePeer,
    fastestPeer,
    ratioToAccurate: ratioTo(fastestAccuratePeer),
    ratioToAny: ratioTo(fastestPeer),
  };
}

/** Geometric mean and minimum of the ratios to the fastest accurate peer; null without any. */
export function summaryOf(
  cells: readonly CellResult[],
  setting: Setting,
): { readonly mean: number; readonly least: number; readonly cellCount: number } | null {
  const ratios = cells.flatMap((cell) => verdictOf(cell, setting)?.ratioToAccurate ?? []);
  if (ratios.length === 0) return null;
  return { mean: geometricMean(ratios), least: Math.min(...ratios), cellCount: ratios.length };
}

/** Versions of all libraries that computed in the cells. */
export function versionsOf(cells: readonly CellResult[]): Record<string, string> {
  const entries = cells.flatMap(({ variants }) =>
    variants.flatMap(({ versions }) => Object.entries(versions ?? {})),
  );
  return Object.fromEntries(entries);
}

export function geometricMean(values: readonly number[]): number {
  if (values.length === 0) throw new Error('the mean of an empty list');
  return Math.exp(values.reduce((sum, value) => sum + Math.log(value), 0) / values.length);
}
