/**
 * The folds of a search whose validation adgroups are few: training adgroups judge its trials beside them, each by a model that
 * was trained without its fold (Stone, Journal of the Royal Statistical Society B 36(2), 1974). Early stopping keeps to the validation
 * adgroups, so that no adgroup of a fold has a part in the model that it judges. Pure.
 */

import { at } from '../../shared/base/arrays.js';
import { randomStream } from '../../shared/base/random.js';
import type { RunConfig } from '../../shared/config/run-config.js';
import { plannedRowsOf, type TaskStore } from '../../shared/tasks/task-store.js';
import { indistinctTrials } from '../sweep/safe-trials.js';
import type { SweepRecord } from '../sweep/sweep-record.js';
import { timeLeftMs } from './time-budget.js';

/** A model of two thirds of the training adgroups is still like that of all of them, and a trial takes three times as long. */
const FOLD_COUNT = 3;

/** The lowest losses; a search with few validation adgroups rarely tells fewer apart. */
const TRIALS_MAX = 6;

/**
 * The trials that validation adgroups cannot tell apart: those that there is time for, the lowest losses first, and none where these
 * are fewer than two.
 */
export function crossFittedTrials(record: SweepRecord): string[] {
  const left = timeLeftMs(record);
  const indistinct = indistinctTrials(record, record.rungs.length - 1).slice(0, TRIALS_MAX);
  let takenMs = 0;
  const names = indistinct.flatMap(({ name, scores }) => {
    takenMs += FOLD_COUNT * scores.reduce((sum, { spentMs = 0 }) => sum + spentMs, 0);
    return takenMs <= left ? [name] : [];
  });
  return names.length < 2 ? [] : names;
}

/** Each task in one fold, the folds of equal size but for one task; ascending within a fold. */
export function trainingFolds(taskIndices: readonly number[], seed: number): number[][] {
  const drawn = randomStream(seed, 'folds of the search').shuffle([...taskIndices]);
  const folds = Array.from({ length: FOLD_COUNT }, (): number[] => []);
  for (const [place, taskIndex] of drawn.entries()) at(folds, place % FOLD_COUNT).push(taskIndex);
  return folds.filter((fold) => fold.length > 0).map((fold) => fold.sort((a, b) => a - b));
}

/** The store as training sees it without a fold: its tasks are test tasks. Closing it does not close `store`. */
export function storeWithoutFold(store: TaskStore, fold: readonly number[]): TaskStore {
  const left = new Set(fold);
  const { manifest, digest, places } = store;
  return {
    ...{ manifest, digest },
    tasks: store.tasks.map((task) =>
      left.has(task.taskIndex) ? { ...task, split: 'test' as const } : task,
    ),
    ...(places === undefined ? {} : { places }),
    readTasks: (taskIndices) => store.readTasks(taskIndices),
    readPlannedRows: (taskIndices) => plannedRowsOf(store, taskIndices),
    close: () => Promise.resolve(),
  };
}

/** The config of a trial's model without a fold. The trials that it is made of are those of the same fold. */
export function configWithoutFold(config: RunConfig, foldIndex: number): RunConfig {
  const fold = `f${foldIndex + 1}`;
  const outputOf = (output: string): string => `${output}/folds/${fold}`;
  // A run that the searched config itself starts from is none of the trials, and has no folds.
  const trials = config.output.slice(0, config.output.lastIndexOf('/') + 1);
  const startOf = (output: string): string =>
    output.startsWith(trials) ? outputOf(output) : output;
  const { startFrom: start, ...training } = config.training;
  const startFrom =
    typeof start === 'object' ? { average: start.average.map(startOf) } : start && startOf(start);
  return {
    ...config,
    run: `${config.run}-${fold}`,
    output: outputOf(config.output),
    training: { ...training, ...(startFrom === undefined ? {} : { startFrom }) },
  };
}
