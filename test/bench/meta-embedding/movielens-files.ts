/**
 * MovieLens 1M as the reproduction reads it: ratings, users, and the films' attributes and one-shot
 * blocks that the authors of Meta-Embedding published. The terms of the data forbid redistribution,
 * so it is read from a folder next to the repository, and may be missing.
 */

import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import { packageRoot } from '../../../infra/library/package-root.js';
import { QianmoError } from '../../../shared/base/errors.js';

/** Rows of one kind, one array per column. A rating of 4 or 5 stands in for a click. */
export interface RatingRows {
  readonly userIds: Int32Array;
  readonly filmIds: Int32Array;
  readonly clicks: Uint8Array;
}

export interface FilmAttributes {
  /** The authors' codes; 0 is unused. */
  readonly year: number;
  readonly title: readonly number[];
  readonly genres: readonly number[];
}

export interface UserAttributes {
  readonly age: number;
  readonly gender: number;
  readonly occupation: number;
}

/** A row of the published one-shot files. */
export interface PublishedRow {
  /** Its number in the file that it was taken from: for old films, in the training rows. */
  readonly rowIndex: number;
  readonly isOld: boolean;
  readonly block: string;
  readonly filmId: number;
  readonly userId: number;
  readonly click: number;
}

export interface Movielens {
  readonly ratings: RatingRows;
  readonly films: ReadonlyMap<number, FilmAttributes>;
  readonly users: ReadonlyMap<number, UserAttributes>;
  readonly published: readonly PublishedRow[];
}

/** Dimensions of the authors' tables; their word and genre tables have more rows than are used. */
export const TABLE_ROW_COUNTS = {
  film: 4000,
  year: 83,
  age: 7,
  gender: 2,
  occupation: 21,
  user: 6050,
  title: 20001,
  genres: 21,
} as const;
export const TITLE_LENGTH_MAX = 8;
export const GENRES_LENGTH_MAX = 4;

const FOLDER = new URL('../shared/data/movielens-1m/', packageRoot).pathname;
const UNPACKED_BYTE_COUNT_MAX = 256 * 1024 * 1024;
const AGES = [1, 18, 25, 35, 45, 50, 56];

/** The folder of the data, or null if it is missing. */
export function movielensFolder(): string | null {
  return existsSync(join(FOLDER, 'ratings_rebuilt.csv.xz')) ? FOLDER : null;
}

/** @throws QianmoError of kind `environment` when the data is missing. */
export function readMovielens(): Movielens {
  const folder = movielensFolder();
  if (folder === null)
    throw new QianmoError({
      kind: 'environment',
      what: 'MovieLens 1M is missing, and its terms forbid redistribution',
      where: FOLDER,
      cure: 'put the data next to the repository, in ../shared/data/movielens-1m',
    });
  return {
    ratings: ratingsOf(unpacked(join(folder, 'ratings_rebuilt.csv.xz'))),
    films: filmsOf(readFileSync(join(folder, 'metaembedding/items.csv'))),
    users: usersOf(gunzipSync(readFileSync(join(folder, 'users.dat.gz')))),
    published: publishedOf(unpacked(join(folder, 'metaembedding/oneshot_blocks.csv.xz'))),
  };
}

function unpacked(path: string): Buffer {
  return execFileSync('xz', ['-dc', path], { maxBuffer: UNPACKED_BYTE_COUNT_MAX });
}

function linesOf(bytes: Buffer): string[][] {
  const lines = bytes.toString('latin1').split(/\r?\n/);
  return lines.filter((line) => line !== '').map((line) => line.split(/,|::/));
}

function ratingsOf(bytes: Buffer): RatingRows {
  const lines = linesOf(bytes).slice(1);
  const column = (index: number): Int32Array =>
    Int32Array.from(lines, (cells) => Number(cells[index]));
  return {
    userIds: column(0),
    filmIds: column(1),
    clicks: Uint8Array.from(column(2), (rating) => (rating >= 4 ? 1 : 0)),
  };
}

function filmsOf(bytes: Buffer): Map<number, FilmAttributes> {
  const codes = (text = ''): number[] => text.split(' ').filter(Boolean).map(Number);
  return new Map(
    linesOf(bytes)
      .slice(1)
      .map(([film, year, title, genres]) => [
        Number(film),
        {
          year: Number(year),
          title: codes(title).slice(-TITLE_LENGTH_MAX),
          genres: codes(genres).slice(-GENRES_LENGTH_MAX),
        },
      ]),
  );
}

function usersOf(bytes: Buffer): Map<number, UserAttributes> {
  return new Map(
    linesOf(bytes).map(([user, gender, age, occupation]) => [
      Number(user),
      {
        age: AGES.indexOf(Number(age)),
        gender: gender === 'M' ? 1 : 0,
        occupation: Number(occupation),
      },
    ]),
  );
}

function publishedOf(bytes: Buffer): PublishedRow[] {
  return linesOf(bytes)
    .slice(1)
    .map(([rowIndex, kind, block = '', film, user, click]) => ({
      rowIndex: Number(rowIndex),
      isOld: kind === 'old',
      block,
      filmId: Number(film),
      userId: Number(user),
      click: Number(click),
    }));
}
