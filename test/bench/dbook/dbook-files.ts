/** The files of dbook (Douban Book, as in the code of PAML, IJCAI 2021) as ratings and attributes. */

import { execFileSync } from 'node:child_process';
import { join } from 'node:path';

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

export interface RatingsOfUser {
  readonly user: string;
  readonly books: readonly number[];
  /** 1 to 5. */
  readonly ratings: readonly number[];
}

export interface Dbook {
  readonly tasksOf: (part: Scenario | 'training') => readonly RatingsOfUser[];
  /** Of a book; 0 is unknown, as are books that are not there. */
  readonly publishers: ReadonlyMap<number, number>;
  readonly authors: ReadonlyMap<number, number>;
  readonly years: ReadonlyMap<number, number>;
}

export function readDbook(folder: string): Dbook {
  const text = (file: string): string =>
    execFileSync('xz', ['-dc', join(folder, `${file}.xz`)], {
      encoding: 'utf8',
      maxBuffer: 2 ** 28,
    });
  const byUser = (file: string): Map<string, number[]> =>
    new Map(Object.entries(JSON.parse(text(`${file}.json`)) as Record<string, number[]>));
  const pairs = (file: string): Map<number, number> => {
    const first = new Map<number, number>();
    for (const line of text(`${file}.dat`).trim().split('\n')) {
      const [book = 0, of = 0] = line.split('\t').map(Number);
      if (!first.has(book)) first.set(book, of);
    }
    return first;
  };
  return {
    tasksOf: (part) => {
      const ratings = byUser(`${FILE_OF[part]}_y`);
      return [...byUser(FILE_OF[part])]
        .filter(([, books]) => books.length >= INTERACTIONS_MIN && books.length <= INTERACTIONS_MAX)
        .map(([user, books]) => ({ user, books, ratings: ratings.get(user) ?? [] }));
    },
    publishers: pairs('book_publisher'),
    authors: pairs('book_author'),
    years: pairs('book_year'),
  };
}
