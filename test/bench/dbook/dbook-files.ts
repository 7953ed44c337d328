/**
 * The files of dbook (Douban Book, as in the code of PAML, IJCAI 2021) as ratings and attributes.
 */

import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { z } from 'zod';

export const SCENARIOS = ['warm-up', 'cold users', 'cold items', 'both cold'] as const;
export type Scenario = (typeof SCENARIOS)[number];

const FILE_OF: Readonly<Record<Scenario | 'training', string>> = {
  training: 'meta_training',
  'warm-up': 'warm_up',
  'cold users': 'user_cold_testing',
  'cold items': 'item_cold_testing',
  'both cold': 'user_and_item_cold_testing',
};

/** Interactions of the users that are tasks, in the authors' code. */
const INTERACTIONS_MIN = 13;
const INTERACTIONS_MAX = 23;

const NumbersByUserSchema = z.record(z.string(), z.array(z.number()));

export interface RatingsOfUser {
  readonly user: string;
  readonly books: readonly number[];
  /** From 1 to 5. */
  readonly ratings: readonly number[];
}

export interface Dbook {
  readonly ratingsOf: (part: Scenario | 'training') => readonly RatingsOfUser[];
  /** The publisher of each book; it is unknown if it is 0 or the book is missing. */
  readonly publishers: ReadonlyMap<number, number>;
  readonly authors: ReadonlyMap<number, number>;
  readonly years: ReadonlyMap<number, number>;
  /** The location of each user who has one. */
  readonly locations: ReadonlyMap<string, number>;
  /** The friends of each user, in the order of the file, where friendship is mutual. */
  readonly friends: ReadonlyMap<string, readonly string[]>;
}

export function readDbook(folder: string): Dbook {
  const text = (file: string): string =>
    execFileSync('xz', ['-dc', join(folder, `${file}.xz`)], {
      encoding: 'utf8',
      maxBuffer: 2 ** 28,
    });
  const byUser = (file: string): Map<string, number[]> =>
    new Map(Object.entries(NumbersByUserSchema.parse(JSON.parse(text(`${file}.json`)))));
  const groups = (file: string): Map<string, string[]> => {
    const byFirst = new Map<string, string[]>();
    for (const line of text(`${file}.dat`).trim().split('\n')) {
      const [from = '', to = ''] = line.split('\t');
      byFirst.set(from, [...(byFirst.get(from) ?? []), to]);
    }
    return byFirst;
  };
  /** The first value of each group. */
  const pairs = (file: string): Map<string, number> =>
    new Map([...groups(file)].map(([from, [first]]) => [from, Number(first)]));
  const byBook = (file: string): Map<number, number> =>
    new Map([...pairs(file)].map(([book, value]) => [Number(book), value]));
  return {
    ratingsOf: (part) => {
      const ratings = byUser(`${FILE_OF[part]}_y`);
      return [...byUser(FILE_OF[part])]
        .filter(([, books]) => books.length >= INTERACTIONS_MIN && books.length <= INTERACTIONS_MAX)
        .map(([user, books]) => ({ user, books, ratings: ratings.get(user) ?? [] }));
    },
    publishers: byBook('book_publisher'),
    authors: byBook('book_author'),
    years: byBook('book_year'),
    locations: pairs('user_location'),
    friends: groups('user_user'),
  };
}
