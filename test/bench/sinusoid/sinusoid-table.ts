/** Formats the sinusoid experiment: mean squared error by learner and number of inner steps. */

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

/** Errors are unbounded. Above this one the steps have diverged; predicting 0 has an error of at most 25. */
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
    `The table shows the mean squared error on new tasks after inner steps on K = ${SHOT_COUNT} rows. Each cell is the mean over`,
    `seeds ${seeds.join(', ')} with the 95 % interval over test tasks (600 per seed, 50 query rows each). The range of the seeds is in`,
    `brackets. If a task diverges to an error above ${DIVERGED_FROM}, the cell has no mean.`,
    '',
    `Training takes ${counted(outerSteps)} outer steps of 25 new tasks with Adam at a rate of 0.001; published runs take 60,000 to`,
    '70,000. The networks have 40-40 ReLU units. The inner rate is 0.01, with the gradient of the squared error. Reptile',
    'uses 0.0025: ten steps in a row of 0.01 diverged in training, and so did steps of 0.005 with one of three seeds. CAVIA',
    'uses 1, because only its context vector adapts. Methods are trained for 1 inner step, except Reptile, which takes 5',
    'steps on each half. The only information that PAML-rate has about a task is the mean of its K labels.',
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
        `- ${arm} with seed ${seed} diverged in training after ${counted(afterOuterSteps)} outer steps and is left out of its row.`,
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

/** The lower median of an even number of values. */
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
