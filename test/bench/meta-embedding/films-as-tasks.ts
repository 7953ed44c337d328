/** The tasks of each store of the reproduction, as row indices. */

import { randomStream } from '../../../shared/base/random.js';
import type { FilmRows } from './published-split.js';
import { FILMS_PER_STEP, GENERATOR_PASSES } from './setting.js';
import type { StoredTask } from './task-stores.js';

/** Batches of rows in the given order; rows that do not fill the last one are dropped. */
export function baseTasks(rowOrder: ArrayLike<number>, batchRowCount: number): StoredTask[] {
  const batchCount = Math.floor(rowOrder.length / batchRowCount);
  return Array.from({ length: batchCount }, (_, batch) => ({
    key: `batch ${batch}`,
    split: 'train',
    support: [],
    query: Array.from(
      { length: batchRowCount },
      (_, place) => rowOrder[batch * batchRowCount + place] ?? 0,
    ),
  }));
}

/**
 * Passes over the films, each on other blocks; films that do not fill the last step are dropped.
 */
export function generatorTasks(films: readonly FilmRows[]): StoredTask[] {
  const filmCount = Math.floor(films.length / FILMS_PER_STEP) * FILMS_PER_STEP;
  return GENERATOR_PASSES.flatMap(([support, query], pass) =>
    films.slice(0, filmCount).map(({ filmId, blocks }): StoredTask => ({
      key: `film ${filmId}, pass ${pass}`,
      split: 'train',
      support: blocks[support] ?? [],
      query: blocks[query] ?? [],
    })),
  );
}

/** One block of some new films at a time; the last batch may be smaller. */
export function warmUpTasks(films: readonly FilmRows[], block: number): StoredTask[] {
  const batchCount = Math.ceil(films.length / FILMS_PER_STEP);
  return Array.from({ length: batchCount }, (_, batch) => ({
    key: `films ${batch * FILMS_PER_STEP} on`,
    split: 'train',
    support: [],
    query: films
      .slice(batch * FILMS_PER_STEP, (batch + 1) * FILMS_PER_STEP)
      .flatMap(({ blocks }) => blocks[block] ?? []),
  }));
}

/** Support rows are the blocks of a film, query rows the rest. */
export function filmTasks(films: readonly FilmRows[], split: 'test' | 'validation'): StoredTask[] {
  return films.map(({ filmId, blocks, rest }) => ({
    key: `film ${filmId}`,
    split,
    support: blocks.flat(),
    query: rest,
  }));
}

/** The numbers below a count in random order. */
export function shuffledOrder(count: number, seed: number, purpose: string): Int32Array {
  const order = Int32Array.from({ length: count }, (_, row) => row);
  return randomStream(seed, purpose).shuffle(order);
}
