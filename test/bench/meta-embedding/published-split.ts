/**
 * The split of Pan et al. (SIGIR 2019, section 4.1.1) on MovieLens 1M: old films have 300 ratings
 * or more and train the base model, new films have 80 to 299. One-shot blocks are a film's first
 * rows in order of user, 20 each: a to d of old films (which stay training rows), a to c of new
 * ones, whose other rows are held out.
 */

import type { RatingRows } from './movielens-files.js';

export interface PublishedSplit {
  /** Rows of old films, by user. */
  readonly oldRows: RatingRows;
  /** Rows of new films, by user. */
  readonly newRows: RatingRows;
  readonly oldFilms: readonly FilmRows[];
  readonly newFilms: readonly FilmRows[];
}

export interface FilmRows {
  readonly filmId: number;
  /** Row indices of each block, in order: a, b, ... */
  readonly blocks: readonly (readonly number[])[];
  /** Row indices after the blocks. */
  readonly rest: readonly number[];
}

const OLD_ROWS_MIN = 300;
const NEW_ROWS_MIN = 80;
const BLOCK_ROW_COUNT = 20;
const OLD_BLOCK_COUNT = 4;
export const NEW_BLOCK_COUNT = 3;

export function publishedSplit(ratings: RatingRows): PublishedSplit {
  const counts = new Map<number, number>();
  for (const film of ratings.filmIds) counts.set(film, (counts.get(film) ?? 0) + 1);
  const rowsWhere = (accepts: (count: number) => boolean): RatingRows =>
    byUser(ratings, (film) => accepts(counts.get(film) ?? 0));
  const oldRows = rowsWhere((count) => count >= OLD_ROWS_MIN);
  const newRows = rowsWhere((count) => count >= NEW_ROWS_MIN && count < OLD_ROWS_MIN);
  return {
    oldRows,
    newRows,
    oldFilms: filmsOf(oldRows, OLD_BLOCK_COUNT),
    newFilms: filmsOf(newRows, NEW_BLOCK_COUNT),
  };
}

export function rowsAt(rows: RatingRows, order: ArrayLike<number>): RatingRows {
  const pick = (values: ArrayLike<number>) => (_: unknown, index: number) =>
    values[order[index] ?? -1] ?? 0;
  const { length } = order;
  return {
    userIds: Int32Array.from({ length }, pick(rows.userIds)),
    filmIds: Int32Array.from({ length }, pick(rows.filmIds)),
    clicks: Uint8Array.from({ length }, pick(rows.clicks)),
  };
}

function byUser(ratings: RatingRows, accepts: (filmId: number) => boolean): RatingRows {
  const chosen: number[] = [];
  for (const [row, film] of ratings.filmIds.entries()) if (accepts(film)) chosen.push(row);
  const { userIds } = ratings;
  chosen.sort((a, b) => (userIds[a] ?? 0) - (userIds[b] ?? 0) || a - b);
  return rowsAt(ratings, chosen);
}

/** Films with most rows first. */
function filmsOf({ filmIds }: RatingRows, blockCount: number): FilmRows[] {
  const rowsByFilm = new Map<number, number[]>();
  for (const [row, film] of filmIds.entries()) {
    const rows = rowsByFilm.get(film);
    if (rows === undefined) rowsByFilm.set(film, [row]);
    else rows.push(row);
  }
  return [...rowsByFilm]
    .sort(([filmA, a], [filmB, b]) => b.length - a.length || filmA - filmB)
    .map(([filmId, rows]) => ({
      filmId,
      blocks: Array.from({ length: blockCount }, (_, block) =>
        rows.slice(block * BLOCK_ROW_COUNT, (block + 1) * BLOCK_ROW_COUNT),
      ),
      rest: rows.slice(blockCount * BLOCK_ROW_COUNT),
    }));
}

/** The films in the order of the authors' files. */
export function inPublishedOrder(
  films: readonly FilmRows[],
  published: readonly { readonly filmId: number }[],
): FilmRows[] {
  const places = new Map<number, number>();
  for (const { filmId } of published) if (!places.has(filmId)) places.set(filmId, places.size);
  const placeOf = ({ filmId }: FilmRows): number => places.get(filmId) ?? places.size;
  return [...films].sort((a, b) => placeOf(a) - placeOf(b) || a.filmId - b.filmId);
}
