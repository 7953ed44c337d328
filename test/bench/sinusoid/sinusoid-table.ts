/** The sinusoid experiment as a table: mean squared error by learner and number of inner steps. */

import { markdownTable, type BenchHeader } from '../bench-header.js';
import type { SinusoidOutcome } from './sinusoid-outcome.js';
import { SHOT_COUNT } from './sinusoid-tasks.js';
import { meanOf, STEP_COUNTS } from './sinusoid-runs.js';

interface SinusoidRow {
  readonly arm: string;
  /** Seeds whose training reached its end; cells are computed over these. */
  readonly seedCount: number;
  readonly divergences: readonly { readonly seed: number; readonly afterOuterSteps: number }[];
  /** By number of inner steps. */
  readonly cells: readonly {
    readonly innerSteps: number;
    readonly mean: number;
    /** Half width of the 95 % interval over tasks and seeds. */
    readonly halfWidth: number;
    readonly meanBySeed: readonly number[];
    readonly median: number;
    readonly taskCount: number;
    /** Tasks with an error above `DIVERGED_FROM`. */
    readonly divergedTaskCount: number;
  }[];
}

/** Errors of a regression without a bound: beyond this the steps have diverged (0 everywhere has at most 25). */
const DIVERGED_FROM = 100;

/**
 * Seeds have different tasks, so all tasks of a row are independent given the trained parameters.
 */
export function summaryOf(outcomes: readonly SinusoidOutcome[]): SinusoidRow[] {
  return [...new Set(outcomes.map(({ arm }) => arm))].map((arm) => {
    const own = outcomes.filter((outcome) => outcome.arm === arm);
    const divergences = own.flatMap(({ seed, divergedAfterOuterSteps: afterOuterSteps }) =>
      afterOuterSteps === null ? [] : [{ seed, afterOuterSteps }],
    );
    const trained = own.filter(({ divergedAfterOuterSteps: after }) => after === null);
    const cells = STEP_COUNTS.map((innerSteps, place) => {
      const bySeed = trained.map(({ errors }) => errors[place] ?? []);
      const all = bySeed.flat();
      const mean = meanOf(all);
      const variance = meanOf(all.map((error) => (error - mean) ** 2)) / (all.length - 1);
      return {
        innerSteps,
        mean,
        halfWidth: 1.96 * Math.sqrt(variance),
        meanBySeed: bySeed.map(meanOf),
        median: medianOf(all),
        taskCount: all.length,
        divergedTaskCount: all.filter((error) => error > DIVERGED_FROM).length,
      };
    });
    return { arm, seedCount: trained.length, divergences, cells };
  });
}

interface SinusoidHeader extends BenchHeader {
  readonly outerSteps: number;
  readonly seeds: readonly number[];
}

export function sinusoidTable(header: SinusoidHeader, rows: readonly SinusoidRow[]): string {
  const { commit, date, machine, outerSteps, seeds } = header;
  return [
    '# Sinusoid regression',
    '',
    `Commit ${commit}, ${date}, ${machine}.`,
    '',
    `Mean squared error on new tasks after inner steps on K = ${SHOT_COUNT} rows: mean over seeds ${seeds.join(', ')}`,
    'with the 95 % interval over test tasks (600 of each seed, 50 query rows each), in brackets the range of the',
    `seeds. ${counted(outerSteps)} outer steps of 25 new tasks, Adam 0.001; published runs take 60,000 to 70,000. Networks of 40-40`,
    'ReLU units, inner rate 0.01 along the squared error (Reptile: 0.0025, since ten steps in a row of 0.01 diverged in',
    'training, and with one seed of three those of 0.005; CAVIA, whose context vector alone adapts: 1); all but Reptile (5',
    'steps on each half) are trained for 1 step. What PAML-rate knows of a task is the mean of its K labels. Where a',
    `task diverges, to an error above ${DIVERGED_FROM}, there is no mean.`,
    '',
    ...markdownTable(
      [
        'learner',
        'seeds',
        ...STEP_COUNTS.map((steps) => `${steps} ${steps === 1 ? 'step' : 'steps'}`),
      ],
      rows.map(({ arm, seedCount, cells }) => [arm, seedCount, ...cells.map(cellText)]),
    ),
    '',
    ...divergenceLines(rows),
    `Made by \`npm run bench:sinusoid -- --outer-steps ${outerSteps} --seeds ${seeds.join(',')}\`.`,
    '',
  ].join('\n');
}

function divergenceLines(rows: readonly SinusoidRow[]): string[] {
  const lines = rows.flatMap(({ arm, divergences }) =>
    divergences.map(
      ({ seed, afterOuterSteps }) =>
        `- ${arm} with seed ${seed} diverged in training after ${counted(afterOuterSteps)} outer steps, and is not in its row.`,
    ),
  );
  return lines.length === 0 ? [] : [...lines, ''];
}

function cellText(cell: SinusoidRow['cells'][number]): string {
  const { mean, halfWidth, meanBySeed, median, taskCount, divergedTaskCount } = cell;
  if (taskCount === 0) return 'none';
  if (divergedTaskCount > 0)
    return `diverges on ${counted(divergedTaskCount)} of ${counted(taskCount)} tasks, median ${median.toFixed(2)}`;
  return `${mean.toFixed(2)} ± ${halfWidth.toFixed(2)} (${rangeOf(meanBySeed)})`;
}

/** The lower of two. */
function medianOf(values: readonly number[]): number {
  const ascending = [...values].sort((a, b) => a - b);
  return ascending[Math.floor((ascending.length - 1) / 2)] ?? NaN;
}

function rangeOf(values: readonly number[]): string {
  return `${Math.min(...values).toFixed(2)} to ${Math.max(...values).toFixed(2)}`;
}

function counted(value: number): string {
  return value.toLocaleString('en');
}
