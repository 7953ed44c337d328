/** Public data next to the repository, converted to logs that `qianmo stream` reads. */

import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import { packageRoot } from '../../../infra/library/package-root.js';

const DATA = new URL('../shared/data/', packageRoot).pathname;

export function isPublicDataThere(name: string): boolean {
  return existsSync(join(DATA, name));
}

/** One CSV of both campaigns, with a column that distinguishes them. */
export function openBanditLog(policy: string): string {
  const lines: string[] = [];
  for (const campaign of ['men', 'women']) {
    const [header = '', ...rows] = linesOf(`open-bandit-small/${policy}_${campaign}.csv.xz`).map(
      (line) => line.split(',').slice(0, 10).join(','),
    );
    if (lines.length === 0) lines.push(`${header},campaign`);
    lines.push(...rows.map((row) => `${row},${campaign}`));
  }
  return writtenLog(`open-bandit-${policy}.csv`, lines);
}

/** Ratings with genres and decade; `row` is the number of the row. */
export function movielens1mLog(): string {
  const packed = readFileSync(join(DATA, 'movielens-1m/movies.dat.gz'));
  const films = new Map(
    gunzipSync(packed)
      .toString('latin1')
      .trim()
      .split('\n')
      .map((line): [string, string] => {
        const [film = '', title = '', genres = ''] = line.split('::');
        const year = /\((\d{4})\)\s*$/.exec(title)?.[1] ?? '0';
        return [film, `${genres},${Math.floor(Number(year) / 10)}`];
      }),
  );
  const [, ...ratings] = linesOf('movielens-1m/ratings_rebuilt.csv.xz');
  const rows = ratings.map(
    (line, row) => `${row},${line},${films.get(line.split(',')[1] ?? '') ?? ','}`,
  );
  return writtenLog('movielens-1m.csv', ['row,user,film,rating,genres,decade', ...rows]);
}

function linesOf(path: string): string[] {
  const options = { encoding: 'utf8', maxBuffer: 256 * 1024 * 1024 } as const;
  return execFileSync('xz', ['-dc', join(DATA, path)], options)
    .trim()
    .split('\n');
}

function writtenLog(name: string, lines: readonly string[]): string {
  const folder = join(tmpdir(), 'qianmo-public-logs');
  mkdirSync(folder, { recursive: true });
  const path = join(folder, name);
  writeFileSync(path, `${lines.join('\n')}\n`);
  return path;
}
