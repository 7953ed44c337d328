/** The results of a measured cell, and the verdict with its ratio. */

import type { SideName } from './sides/sides.js';
import { median } from '../../../shared/base/arrays.js';

/** How a side uses the machine: one pinned core, two threads, or one process pinned to each core. */
export const ARRANGEMENTS = ['one thread', 'two threads', 'two processes'] as const;
export type Arrangement = (typeof ARRANGEMENTS)[number];

/** The two settings: one thread, and the whole machine with each side in its best arrangement. */
const SETTINGS = {
  'one thread': ['one thread'],
  'two cores': ['two threads', 'two processes'],
} as const satisfies Record<string, readonly Arrangement[]>;
export type Setting = keyof typeof SETTINGS;

/** The settings as the results pages name them. */
export const SETTING_TITLES: Readonly<Record<Setting, string>> = {
  'one thread': 'One thread',
  'two cores': 'Two cores: two threads or two processes',
};

export interface VariantResult {
  readonly side: SideName;
  readonly variant: string;
  /** The reason why it was not measured; null if it was. */
  readonly skippedBecause: string | null;
  /**
   * Deviation of one step from the initial values; null, since JSON has no infinity, if rows
   * changed that must not.
   */
  readonly relativeError: number | null;
  readonly furthestTensor: string | null;
  readonly isAccurate: boolean;
  /** Versions of the libraries that compute; null if it did not start. */
  readonly versions: Readonly<Record<string, string>> | null;
  /** Time to trace, compile and run once. */
  readonly firstStepMs: number | null;
  /** A short measurement on one thread that decides which variants are measured in rounds. */
  readonly lookMs: number | null;
}

export interface RoundResult {
  /** Summed over concurrent processes. */
  readonly tasksPerSecond: number;
  /** Cores used by other processes meanwhile. */
  readonly otherCores: number;
}

export interface ContestantResult {
  readonly side: SideName;
  readonly variant: string;
  readonly isAccurate: boolean;
  readonly arrangement: Arrangement;
  readonly rounds: readonly RoundResult[];
}

export interface CellResult {
  readonly cell: string;
  readonly taskCount: number;
  /** Floating-point operations of the textbook algorithm, per meta step. */
  readonly nominalGflop: number;
  readonly variants: readonly VariantResult[];
  readonly contestants: readonly ContestantResult[];
}

export interface Standing extends Omit<ContestantResult, 'rounds'> {
  /** The median over rounds. */
  readonly tasksPerSecond: number;
  readonly otherCoresMax: number;
}

function standingOf({ rounds, ...contestant }: ContestantResult): Standing {
  return {
    ...contestant,
    tasksPerSecond: median(rounds.map(({ tasksPerSecond }) => tasksPerSecond)),
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

/** Returns our rate by that of the fastest peer, or null when our side has no accurate result in the setting. */
export function verdictOf(cell: CellResult, setting: Setting) {
  const standings = standingsOf(cell, setting);
  const ours = standings.find(({ side, isAccurate }) => side === 'ours' && isAccurate);
  if (ours === undefined) return null;
  const peers = standings.filter(({ side }) => side !== 'ours');
  const ratioTo = (peer: Standing | undefined): number | null =>
    peer === undefined ? null : ours.tasksPerSecond / peer.tasksPerSecond;
  return {
    ours,
    ratioToAccurate: ratioTo(peers.find(({ isAccurate }) => isAccurate)),
    ratioToAny: ratioTo(peers[0]),
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

function geometricMean(values: readonly number[]): number {
  if (values.length === 0) throw new Error('the mean of an empty list');
  return Math.exp(values.reduce((sum, value) => sum + Math.log(value), 0) / values.length);
}
