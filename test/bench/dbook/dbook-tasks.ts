/** dbook as tasks in the authors' protocol: the last 10 of a user's shuffled ratings are judged. */

import { randomStream } from '../../../shared/base/random.js';
import type { TaskSplit } from '../../../shared/tasks/task-store.js';
import { SCENARIOS, type Dbook, type RatingsOfUser, type Scenario } from './dbook-files.js';

export const QUERY_ROW_COUNT = 10;
/** Part of the training users; settings are chosen on these. */
const VALIDATION_SHARE = 0.1;
/**
 * The number of tasks per training user, each with its own shuffle, so that all ratings are
 * learned.
 */
export const TRAINING_DIVISION_COUNT = 3;

/** Held-out training users: with their books as they are, and as if nobody had rated them. */
export const VALIDATION_PARTS = ['validation', 'validation, books unknown'] as const;
type ValidationPart = (typeof VALIDATION_PARTS)[number];
export type Part = Scenario | ValidationPart | 'training';

export interface DbookTask {
  readonly part: Part;
  readonly split: TaskSplit;
  readonly user: string;
  /** Index among the user's tasks, from 0. */
  readonly division: number;
  /** The books of the rows, support rows first. */
  readonly books: readonly number[];
  readonly ratings: readonly number[];
  readonly supportRowCount: number;
}

/** Tasks that train on all training users and judge the scenarios. */
export function testedTasks(dbook: Dbook, seed: number): DbookTask[] {
  return [
    ...trainingTasks(dbook.ratingsOf('training'), seed),
    ...SCENARIOS.flatMap((scenario) =>
      dbook
        .ratingsOf(scenario)
        .map((ratings) => divided(ratings, seed, { part: scenario, split: 'test', division: 0 })),
    ),
  ];
}

/** Tasks that judge a tenth of the training users and train on the others. */
export function validatedTasks(dbook: Dbook, seed: number): DbookTask[] {
  const users = dbook.ratingsOf('training');
  const isHeldOut = ({ user }: RatingsOfUser): boolean =>
    randomStream(seed, 'dbook validation', user).uniform() < VALIDATION_SHARE;
  return [
    ...trainingTasks(
      users.filter((user) => !isHeldOut(user)),
      seed,
    ),
    ...VALIDATION_PARTS.flatMap((part) =>
      users
        .filter(isHeldOut)
        .flatMap((ratings) =>
          divisions((division) => divided(ratings, seed, { part, split: 'validation', division })),
        ),
    ),
  ];
}

function trainingTasks(users: readonly RatingsOfUser[], seed: number): DbookTask[] {
  return users.flatMap((ratings) =>
    divisions((division) => divided(ratings, seed, { part: 'training', split: 'train', division })),
  );
}

function divisions(taskOf: (division: number) => DbookTask): DbookTask[] {
  return Array.from({ length: TRAINING_DIVISION_COUNT }, (_, division) => taskOf(division));
}

function divided(
  { user, books, ratings }: RatingsOfUser,
  seed: number,
  task: Pick<DbookTask, 'part' | 'split' | 'division'>,
): DbookTask {
  const name = task.split === 'test' ? task.part : 'training';
  const places = Array.from({ length: books.length }, (_, place) => place);
  const order = randomStream(seed, 'dbook', name, user, task.division).shuffle(places);
  return {
    ...{ ...task, user },
    books: order.map((at) => books[at] ?? 0),
    ratings: order.map((at) => ratings[at] ?? 0),
    supportRowCount: order.length - QUERY_ROW_COUNT,
  };
}
