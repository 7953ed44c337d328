/** The real sets of the bench: where their rows come from, what the models see, and how large supports are. */

import { existsSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { qianmo } from '../qianmo-command.js';
import type { SupportRule } from './row-roles.js';
import {
  AVAZU_COLUMNS,
  avazuLog,
  dbookLog,
  movielens1mLog,
  movielensSmallLog,
  openBanditLog,
  SYNTHETIC_COLUMNS,
  syntheticLog,
  tabmoLog,
  type SetLog,
} from './set-logs.js';

interface RealFeature {
  readonly name: string;
  readonly kind: 'category' | 'bag' | 'number';
  readonly countMin?: number;
  readonly separator?: string;
  readonly missing?: number;
}

export interface RealSet {
  readonly name: string;
  /** Within the folder of the data; absent if the repository or a command has the rows. */
  readonly needs?: string;
  readonly features: readonly RealFeature[];
  readonly supports: readonly SupportRule[];
  /** Query rows of a held-out task, at most. */
  readonly heldOutQueryRowsMax: number;
  /**
   * @param data the folder of the data
   * @param folder where a command may write
   */
  readonly log: (data: string, folder: string, seed: number) => SetLog;
}

function firstRows(...counts: number[]): SupportRule[] {
  return counts.map((count) => ({ by: 'rows', count }));
}

function categories(countMin: number, ...names: string[]): RealFeature[] {
  return names.map((name) => ({ name, kind: 'category', countMin }));
}

const GENRES: RealFeature = { name: 'genres', kind: 'bag', separator: '|' };
const YEAR: RealFeature = { name: 'year', kind: 'number', missing: 1995 };
const PRICE: RealFeature = { name: 'price', kind: 'number' };
const SYNTHETIC_SETTINGS = ['strong', 'homogeneous'];

function syntheticSet(setting: string): RealSet {
  return {
    name: `synthetic-${setting}`,
    features: [
      ...SYNTHETIC_COLUMNS.filter((name) => name !== 'price').flatMap((name) =>
        categories(['advertiser', 'brand'].includes(name) ? 20 : 1, name),
      ),
      PRICE,
    ],
    supports: firstRows(5, 20),
    heldOutQueryRowsMax: 300,
    log: (_, folder, seed) => {
      const path = join(folder, 'world.csv');
      mkdirSync(folder, { recursive: true });
      if (!existsSync(path)) {
        const world = ['--setting', setting, '--click-rate', '0.05', '--seed', String(seed)];
        qianmo('synthesize', '--out', path, ...world, '--rows', '100000', '--adgroups', '2000');
      }
      return syntheticLog(path);
    },
  };
}

export const REAL_SETS: readonly RealSet[] = [
  {
    name: 'movielens-small',
    features: [...categories(3, 'user'), GENRES, YEAR, ...categories(1, 'decade', 'hour')],
    supports: firstRows(5, 10, 20),
    heldOutQueryRowsMax: 300,
    log: movielensSmallLog,
  },
  {
    name: 'avazu-9k',
    needs: 'avazu-9k/avazu.csv.xz',
    features: categories(2, ...AVAZU_COLUMNS),
    supports: firstRows(5, 10, 20),
    heldOutQueryRowsMax: 2000,
    log: avazuLog,
  },
  {
    name: 'tabmo',
    needs: 'adcampaign-tabmo/adcampaign.csv.gz',
    features: categories(1, 'timeSlot', 'day', 'appOrSite'),
    supports: [1, 3, 7].map((count) => ({ by: 'days', count })),
    heldOutQueryRowsMax: 2000,
    log: tabmoLog,
  },
  {
    name: 'open-bandit',
    needs: 'open-bandit-small/random_men.csv.xz',
    features: [
      ...categories(1, 'policy', 'campaign', 'position'),
      ...categories(5, ...[0, 1, 2, 3].map((index) => `user_feature_${index}`)),
      { name: 'item_feature_0', kind: 'number', missing: 0 },
      ...categories(1, 'item_feature_1', 'item_feature_2', 'item_feature_3'),
    ],
    supports: firstRows(20, 100),
    heldOutQueryRowsMax: 2000,
    log: openBanditLog,
  },
  ...SYNTHETIC_SETTINGS.map(syntheticSet),
  {
    name: 'movielens-1m',
    needs: 'movielens-1m/ratings_rebuilt.csv.xz',
    features: [
      ...categories(3, 'user'),
      ...categories(1, 'gender', 'age', 'occupation'),
      ...[GENRES, YEAR, ...categories(1, 'decade')],
    ],
    supports: firstRows(5, 10, 20),
    heldOutQueryRowsMax: 300,
    log: movielens1mLog,
  },
  {
    name: 'dbook',
    needs: 'dbook/meta_training.json.xz',
    features: [
      ...categories(3, 'user', 'author'),
      ...categories(1, 'location', 'publisher', 'year'),
    ],
    supports: firstRows(5, 10, 20),
    heldOutQueryRowsMax: 300,
    log: dbookLog,
  },
];

export function supportName({ by, count }: SupportRule): string {
  return by === 'rows' ? `${count} rows` : count === 1 ? '1 day' : `${count} days`;
}
