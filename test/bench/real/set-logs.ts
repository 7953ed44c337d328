/** The logs of the real sets as lines of CSV, all in one form: clicks, impressions, the task and the features. */

import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import { z } from 'zod';
import { at } from '../../../shared/base/arrays.js';
import { packageRoot } from '../../../infra/library/package-root.js';

/** Parallel arrays, `[rowCount]`. */
export interface SetLog {
  /** The features' columns, in the order of `cells`. */
  readonly columns: readonly string[];
  readonly cells: readonly (readonly string[])[];
  readonly tasks: readonly string[];
  readonly clicks: readonly number[];
  readonly impressions: readonly number[];
  /** Orders the rows of a task; null where the set has no time. */
  readonly times: readonly number[] | null;
}

const UNPACKED_BYTE_COUNT_MAX = 512 * 1024 * 1024;
const EXAMPLE = new URL('infra/examples/movielens/movielens.csv.gz', packageRoot);
const SECONDS_PER_HOUR = 3600;

interface SetRow {
  readonly task: string;
  readonly clicks: number;
  readonly impressions?: number;
  readonly time?: number;
  readonly cells: readonly string[];
}

function logOf(columns: readonly string[], rows: readonly SetRow[]): SetLog {
  return {
    columns,
    cells: rows.map(({ cells }) => cells),
    tasks: rows.map(({ task }) => task),
    clicks: rows.map(({ clicks }) => clicks),
    impressions: rows.map(({ impressions = 1 }) => impressions),
    times: rows[0]?.time === undefined ? null : rows.map(({ time = 0 }) => time),
  };
}

/** The log as `prepare` and the peers read it. */
export function csvOf({ columns, cells, tasks, clicks, impressions }: SetLog): string {
  const header = ['task', 'clicks', 'impressions', ...columns].join(',');
  const lines = tasks.map((task, row) =>
    [task, clicks[row], impressions[row], ...at(cells, row)].join(','),
  );
  return `${[header, ...lines].join('\n')}\n`;
}

function linesOf(bytes: Buffer): string[] {
  return bytes.toString('utf8').trimEnd().split(/\r?\n/);
}

function unpacked(path: string): Buffer {
  if (path.endsWith('.gz')) return gunzipSync(readFileSync(path));
  return execFileSync('xz', ['-dc', path], { maxBuffer: UNPACKED_BYTE_COUNT_MAX });
}

/** The cells of named columns; no cell of these files has a comma in it. */
function tableOf(bytes: Buffer): ((name: string) => string)[] {
  const [header = '', ...lines] = linesOf(bytes);
  const places = new Map(header.split(',').map((name, place) => [name, place]));
  return lines.map((line) => {
    const cells = line.split(',');
    return (name) => at(cells, places.get(name) ?? -1);
  });
}

function isClick(rating: number): number {
  return rating >= 4 ? 1 : 0;
}

function decadeOf(year: number): string {
  return Number.isFinite(year) && year > 0 ? String(Math.floor(year / 10)) : '';
}

/** MovieLens small, as the example has it; titles, which have commas, are left out. */
export function movielensSmallLog(): SetLog {
  const [, ...lines] = linesOf(unpacked(EXAMPLE.pathname));
  const rows = lines.map((line): SetRow => {
    const cells = line.split(',');
    const [year = '', genres = '', user = '', rating = '', time = ''] = cells.slice(-5);
    const hour = Math.floor(Number(time) / SECONDS_PER_HOUR) % 24;
    return {
      ...{ task: at(cells, 0), clicks: isClick(Number(rating)), time: Number(time) },
      cells: [user, genres, year, decadeOf(Number(year)), String(hour)],
    };
  });
  return logOf(['user', 'genres', 'year', 'decade', 'hour'], rows);
}

export function movielens1mLog(data: string): SetLog {
  const folder = join(data, 'movielens-1m');
  const bySeparator = (file: string): string[][] =>
    linesOf(unpacked(join(folder, file))).map((line) => line.split('::'));
  const users = new Map(bySeparator('users.dat.gz').map(([user = '', ...rest]) => [user, rest]));
  const films = new Map(
    bySeparator('movies.dat.gz').map(([film = '', title = '', genres = '']) => {
      const year = /\((\d{4})\)\s*$/.exec(title)?.[1] ?? '';
      return [film, [genres, year, decadeOf(Number(year))]];
    }),
  );
  const rows = tableOf(unpacked(join(folder, 'ratings_rebuilt.csv.xz'))).map((cell): SetRow => {
    const [user, film] = [cell('user_id'), cell('movie_id')];
    const [gender = '', age = '', occupation = ''] = users.get(user) ?? [];
    const ofFilm = films.get(film) ?? ['', '', ''];
    return {
      ...{ task: film, clicks: isClick(Number(cell('rating'))) },
      cells: [user, gender, age, occupation, ...ofFilm],
    };
  });
  return logOf(['user', 'gender', 'age', 'occupation', 'genres', 'year', 'decade'], rows);
}

const NumbersByUserSchema = z.record(z.string(), z.array(z.number()));
const DBOOK_PARTS = [
  'meta_training',
  'warm_up',
  'user_cold_testing',
  'item_cold_testing',
  'user_and_item_cold_testing',
];

/** Douban Book: tasks are books; a pair of user and book counts once. */
export function dbookLog(data: string): SetLog {
  const folder = join(data, 'dbook');
  const byUser = (file: string): Record<string, number[]> =>
    NumbersByUserSchema.parse(JSON.parse(unpacked(join(folder, `${file}.json.xz`)).toString()));
  const firstOf = (file: string): Map<string, string> => {
    const pairs = linesOf(unpacked(join(folder, `${file}.dat.xz`))).map((line) => line.split('\t'));
    return new Map(pairs.reverse().map(([from = '', to = '']) => [from, to]));
  };
  const [authors, publishers, years] = ['author', 'publisher', 'year'].map((name) =>
    firstOf(`book_${name}`),
  );
  const locations = firstOf('user_location');
  const seen = new Set<string>();
  const rows: SetRow[] = [];
  for (const part of DBOOK_PARTS) {
    const ratings = byUser(`${part}_y`);
    for (const [user, books] of Object.entries(byUser(part)))
      for (const [place, number] of books.entries()) {
        const book = String(number);
        if (seen.has(`${user}/${book}`)) continue;
        seen.add(`${user}/${book}`);
        const attributes = [authors, publishers, years].map((of) => of?.get(book) ?? '');
        rows.push({
          ...{ task: book, clicks: isClick(at(ratings[user] ?? [], place)) },
          cells: [user, locations.get(user) ?? '', ...attributes],
        });
      }
  }
  return logOf(['user', 'location', 'author', 'publisher', 'year'], rows);
}

const POLICIES = ['random', 'bts'];
const CAMPAIGNS = ['men', 'women'];

/** Open Bandit: tasks are items of a campaign, under both logging policies. */
export function openBanditLog(data: string): SetLog {
  const folder = join(data, 'open-bandit-small');
  const userFeatures = [0, 1, 2, 3].map((index) => `user_feature_${index}`);
  const itemFeatures = [0, 1, 2, 3].map((index) => `item_feature_${index}`);
  const rows = CAMPAIGNS.flatMap((campaign) => {
    // Hashes of one folder, so that an item has the same under both policies.
    const context = tableOf(readFileSync(join(folder, `bts_${campaign}_item_context.csv`)));
    const items = new Map(context.map((cell) => [cell('item_id'), itemFeatures.map(cell)]));
    return POLICIES.flatMap((policy) =>
      tableOf(unpacked(join(folder, `${policy}_${campaign}.csv.xz`))).map((cell): SetRow => {
        const item = cell('item_id');
        const time = Date.parse(cell('timestamp').replace(' ', 'T'));
        return {
          ...{ task: `${campaign}-${item}`, clicks: Number(cell('click')), time },
          cells: [
            ...[policy, campaign, cell('position')],
            ...userFeatures.map(cell),
            ...(items.get(item) ?? itemFeatures.map(() => '')),
          ],
        };
      }),
    );
  });
  return logOf(['policy', 'campaign', 'position', ...userFeatures, ...itemFeatures], rows);
}

const MS_PER_DAY = 86_400_000;

/** TabMo: aggregated rows of campaigns; the time is the number of the day. */
export function tabmoLog(data: string): SetLog {
  const rows = tableOf(unpacked(join(data, 'adcampaign-tabmo/adcampaign.csv.gz'))).map(
    (cell): SetRow => ({
      ...{ task: cell('id'), clicks: Number(cell('click')) },
      ...{ impressions: Number(cell('impressions')) },
      time: Date.parse(cell('timestamp_ymd')) / MS_PER_DAY,
      cells: [cell('timeSlot'), cell('day'), cell('app_or_site')],
    }),
  );
  return logOf(['timeSlot', 'day', 'appOrSite'], rows);
}

export const AVAZU_COLUMNS = [
  ...['C1', 'banner_pos', 'site_id', 'site_domain', 'site_category', 'app_id', 'app_domain'],
  ...['app_category', 'device_id', 'device_ip', 'device_model', 'device_type'],
  ...['device_conn_type', 'C15', 'C16', 'C17', 'C18', 'C19', 'C20', 'C21'],
];

/** Avazu: tasks are values of C14, commonly read as the ad; one hour in the order of the file. */
export function avazuLog(data: string): SetLog {
  const rows = tableOf(unpacked(join(data, 'avazu-9k/avazu.csv.xz'))).map((cell, time): SetRow => ({
    ...{ task: cell('C14'), clicks: Number(cell('click')), time },
    cells: AVAZU_COLUMNS.map(cell),
  }));
  return logOf(AVAZU_COLUMNS, rows);
}

export const SYNTHETIC_COLUMNS = [
  ...['age', 'gender', 'city', 'shopping', 'occupation', 'advertiser', 'category', 'brand'],
  ...['price', 'slot', 'hour'],
];

/** @param path a log of `qianmo synthesize` */
export function syntheticLog(path: string): SetLog {
  const rows = tableOf(readFileSync(path)).map((cell): SetRow => ({
    ...{ task: cell('adgroup'), clicks: Number(cell('click')), time: Number(cell('time')) },
    cells: SYNTHETIC_COLUMNS.map(cell),
  }));
  return logOf(SYNTHETIC_COLUMNS, rows);
}
