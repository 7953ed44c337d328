/** The demo's log cut in time: what is known at first, and what happens while the server runs. */

import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import { at } from '../../../shared/base/arrays.js';

/** The share of the rows that come later. */
const LATER_SHARE = 0.01;

export interface CutLog {
  readonly earlierPath: string;
  readonly laterPath: string;
  /** Rows of the later part in order of time, by column. */
  readonly later: readonly Readonly<Record<string, string>>[];
}

/** @param path a gzip of CSV whose last column is the time in seconds. */
export async function cutLog(path: string, folder: string): Promise<CutLog> {
  const text = gunzipSync(await readFile(path)).toString('utf8');
  const [head = '', ...lines] = text.trimEnd().split('\n');
  const columns = fieldsOf(head);
  const timed = lines.map((line) => ({
    line,
    second: Number(line.slice(line.lastIndexOf(',') + 1)),
  }));
  const seconds = timed.map(({ second }) => second).sort((a, b) => a - b);
  const cut = at(seconds, Math.floor(seconds.length * (1 - LATER_SHARE)));
  const part = (isWanted: (second: number) => boolean): string[] =>
    timed
      .filter(({ second }) => isWanted(second))
      .sort((a, b) => a.second - b.second)
      .map(({ line }) => line);
  const [earlierPath, laterPath] = [join(folder, 'earlier.csv'), join(folder, 'later.csv')];
  const laterLines = part((second) => second >= cut);
  await mkdir(folder, { recursive: true });
  await writeFile(earlierPath, `${[head, ...part((second) => second < cut)].join('\n')}\n`);
  await writeFile(laterPath, `${[head, ...laterLines].join('\n')}\n`);
  const later = laterLines.map((line) => {
    const fields = fieldsOf(line);
    return Object.fromEntries(columns.map((column, place) => [column, at(fields, place)]));
  });
  return { earlierPath, laterPath, later };
}

/** The fields of a line of CSV without line breaks in fields. */
function fieldsOf(line: string): string[] {
  return [...line.matchAll(/(?:^|,)("(?:[^"]|"")*"|[^",]*)/g)].map(([, field = '']) =>
    field.startsWith('"') ? field.slice(1, -1).replaceAll('""', '"') : field,
  );
}
