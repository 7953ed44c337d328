/** The rows of the Meta-Embedding reproduction: their split and their recovered order. */

import { describe, expect, test } from 'vitest';
import { movielensFolder, readMovielens } from '../../bench/meta-embedding/movielens-files.js';
import { publishedSplit, rowsAt } from '../../bench/meta-embedding/published-split.js';
import { recoveredOrder } from '../../bench/meta-embedding/row-order.js';

describe('the recovered order', () => {
  // User 1 rated films 10, 20, 30, 40; user 2 films 10, 20, 30. Rows are sorted by user and film.
  const rows = {
    userIds: Int32Array.of(1, 1, 1, 1, 2, 2, 2),
    filmIds: Int32Array.of(10, 20, 30, 40, 10, 20, 30),
  };
  const known = [
    { userId: 1, filmId: 30, rowIndex: 0 },
    { userId: 1, filmId: 10, rowIndex: 2 },
    { userId: 2, filmId: 10, rowIndex: 5 },
    { userId: 2, filmId: 20, rowIndex: 6 },
  ];

  test('keeps known rows at their number and sorts the others by median position', () => {
    // Film 20 is at 2.5 / 3 in user 2. The position of film 40 is unknown, so it is placed in the
    // middle.
    expect([...recoveredOrder(rows, known)]).toEqual([2, 3, 0, 1, 6, 4, 5]);
  });

  test('trusts large users alone where they contain a film often enough', () => {
    const more = {
      userIds: Int32Array.of(...rows.userIds, 3, 3, 3, 3, 3, 3),
      filmIds: Int32Array.of(...rows.filmIds, 10, 20, 40, 50, 60, 70),
    };
    // Film 20 is at 0.125 in user 1 of four rows and at 0.833 in user 2 of three, film 10 at 0.375
    // and 0.5: user 1 alone puts film 20 first, both together put film 10 first.
    const places = [
      { userId: 1, filmId: 20, rowIndex: 0 },
      { userId: 1, filmId: 10, rowIndex: 1 },
      { userId: 2, filmId: 20, rowIndex: 6 },
      { userId: 2, filmId: 10, rowIndex: 5 },
    ];
    const orderOfUser3 = (knownRowsMin: number): number[] =>
      [...recoveredOrder(more, places, { largeUserRowsMin: 4, knownRowsMin })].slice(7);
    expect(orderOfUser3(1)).toEqual([8, 7, 9, 10, 11, 12]);
    expect(orderOfUser3(2)).toEqual([7, 8, 9, 10, 11, 12]);
  });

  test('refuses a number that belongs to another user', () => {
    expect(() => recoveredOrder(rows, [{ userId: 2, filmId: 10, rowIndex: 3 }])).toThrow(
      'row 3 of film 10 does not belong to user 2',
    );
  });
});

test('old films have 300 rows, new ones 80; blocks are the first rows by user', () => {
  const filmRows = (film: number, count: number): [number, number][] =>
    Array.from({ length: count }, (_, place) => [count - place, film]);
  const pairs = [...filmRows(1, 300), ...filmRows(2, 299), ...filmRows(3, 80), ...filmRows(4, 79)];
  const split = publishedSplit({
    userIds: Int32Array.from(pairs, ([user]) => user),
    filmIds: Int32Array.from(pairs, ([, film]) => film),
    clicks: Uint8Array.from(pairs, () => 1),
  });
  expect(split.oldFilms.map(({ filmId }) => filmId)).toEqual([1]);
  expect(split.newFilms.map(({ filmId, rest }) => [filmId, rest.length])).toEqual([
    [2, 239],
    [3, 20],
  ]);
  const [film] = split.newFilms;
  const secondBlock = rowsAt(split.newRows, film?.blocks[1] ?? []);
  expect([...secondBlock.userIds]).toEqual(Array.from({ length: 20 }, (_, place) => 21 + place));
});

describe.skipIf(movielensFolder() === null)('MovieLens 1M in ../shared', () => {
  const movielens = movielensFolder() === null ? null : readMovielens();
  const split = movielens === null ? null : publishedSplit(movielens.ratings);

  test('has the published films, blocks and held-out rows', () => {
    if (movielens === null || split === null) return;
    expect([split.oldFilms.length, split.newFilms.length]).toEqual([1058, 1127]);
    expect([split.oldRows.userIds.length, split.newRows.userIds.length]).toEqual([765669, 191407]);
    expect(split.newFilms.reduce((sum, { rest }) => sum + rest.length, 0)).toBe(123787);
    const rebuilt = new Set<string>();
    for (const [films, rows] of [
      [split.oldFilms, split.oldRows],
      [split.newFilms, split.newRows],
    ] as const)
      for (const { filmId, blocks } of films)
        for (const [block, indices] of blocks.entries())
          for (const row of indices)
            rebuilt.add(`${filmId} ${'abcd'[block]} ${rows.userIds[row]} ${rows.clicks[row]}`);
    const published = movielens.published.map(
      ({ filmId, block, userId, click }) => `${filmId} ${block} ${userId} ${click}`,
    );
    expect(rebuilt.size).toBe(published.length);
    expect(published.filter((row) => !rebuilt.has(row))).toEqual([]);
  });

  test('starts, in the recovered order, with the films that user 1 is known to start with', () => {
    if (movielens === null || split === null) return;
    const known = movielens.published.filter(({ isOld }) => isOld);
    const order = recoveredOrder(split.oldRows, known);
    const first = rowsAt(split.oldRows, order.subarray(0, 4));
    expect([...first.userIds, ...first.filmIds]).toEqual([1, 1, 1, 1, 1193, 661, 914, 3408]);
  });
});
