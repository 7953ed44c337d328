/** Logs that `qianmo prepare` cannot use are reported by file and line, and no store is left. */

import { mkdir } from 'node:fs/promises';
import { gzipSync } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  commandRoom,
  type CommandRoom,
  type ExpectedFailure,
} from '../../fixtures/commands/command-room.js';
import { smallLog } from '../../fixtures/commands/small-run.js';

let room: CommandRoom;
beforeAll(async () => {
  room = await commandRoom();
  await mkdir(room.path('nothing'));
});
afterAll(() => room.remove());

const HEADER = 'adgroup,second,site,user,age,clicked\n';

/** The small log with the field of one line, counted from 1, replaced. */
function logWith(line: number, column: string, value: string): string {
  const lines = smallLog().split('\n');
  const fields = lines[line - 1]?.split(',') ?? [];
  fields[HEADER.trim().split(',').indexOf(column)] = value;
  lines[line - 1] = fields.join(',');
  return lines.join('\n');
}

interface Case extends Omit<ExpectedFailure, 'exitCode'> {
  readonly exitCode?: 1 | 2 | 3;
  /** Writes a log with this name and content, and runs prepare on it. */
  readonly log?: readonly [name: string, content: () => string | Uint8Array];
  readonly data?: Record<string, unknown>;
}

const cases: Readonly<Record<string, Case>> = {
  'no such file': {
    data: { logs: 'none-*.csv' },
    what: /^no log file matches$/,
    where: /^data\.logs: none-\*\.csv$/,
    expected: /\.csv, \.tsv, \.jsonl or \.parquet/,
    cure: /correct the path or pattern/,
  },
  'an address that is not read': {
    data: { logs: 'https://example.com/log.csv' },
    exitCode: 2,
    what: /not read from this kind of address/,
    where: /^data\.logs: https:\/\/example\.com\/log\.csv$/,
    expected: /s3:\/\/BUCKET\/KEY/,
    cure: /download/,
  },
  'an unknown format': {
    log: ['log.xyz', smallLog],
    exitCode: 2,
    what: /format of a log file cannot be told/,
    where: /^log\.xyz$/,
    cure: /data\.format/,
  },
  'an empty file': {
    log: ['empty.csv', () => ''],
    what: /^the logs are empty$/,
    where: /^empty\.csv$/,
    found: /1 file without rows/,
    cure: /data\.logs/,
  },
  'a gzip file cut short': {
    log: ['cut.csv.gz', () => gzipSync(smallLog()).subarray(0, -9)],
    what: /^a log file is cut short$/,
    where: /^cut\.csv\.gz$/,
    expected: /whole/,
    found: /ends in the middle/,
    cure: /copy it again/,
  },
  'no gzip file at all': {
    log: ['plain.csv.gz', smallLog],
    what: /^a log file cannot be read$/,
    where: /^plain\.csv\.gz$/,
    found: /GZIP/,
    cure: /name or data\.format/,
  },
  'no text at all': {
    log: ['noise.csv', () => Uint8Array.from({ length: 4000 }, (_, n) => (n * n * 31 + 7) % 256)],
    what: /^a log file cannot be read$/,
    where: /^noise\.csv$/,
    found: /^.{0,80}Line: 1\s+Invalid unicode.{0,120}$/s,
    cure: /UTF-8.*file is whole/,
  },
  'no such column': {
    data: { task: 'adgrup' },
    exitCode: 2,
    what: /^the logs have no column "adgrup"$/,
    where: /^data\.task, log\.csv$/,
    expected: /adgroup, second, site/,
    found: /"adgrup"/,
    cure: /did you mean "adgroup"\?/,
  },
  'an expression that is none': {
    data: { label: { expression: 'clicked >' } },
    exitCode: 2,
    what: /expression/,
    where: /data\.label\.expression/,
    expected: /SQL of DuckDB/,
    found: /syntax error/i,
    cure: /correct data\.label\.expression/,
  },
  'a label outside {0,1}': {
    log: ['labels.csv', () => logWith(9, 'clicked', '2')],
    data: { rejectedRowsMax: 0 },
    what: /^more rows are rejected/,
    where: /^data\.rejectedRowsMax$/,
    found: /labels\.csv, line 9: the column "clicked" holds "2", expected a label of 0 or 1/,
    cure: /correct the logs/,
  },
  'a line with too few fields': {
    log: ['short.csv', () => smallLog().replace('\n', '\ng0,1\n')],
    data: { rejectedRowsMax: 0 },
    what: /^more rows are rejected/,
    where: /^data\.rejectedRowsMax$/,
    found: /short\.csv, line 2: missing columns/,
    cure: /correct the logs/,
  },
  'no task with enough rows': {
    data: { rowSplit: { by: 'time', supportRowsMin: 50 } },
    what: /^every task has too few rows$/,
    where: /^data\.task$/,
    expected: /at least 50 support and 1 query rows/,
    found: /24 tasks, all smaller/,
    cure: /supportRowsMin/,
  },
  'no row that the condition keeps': {
    data: { where: 'age > 1000' },
    what: /^no row of the logs is left$/,
    where: /^data\.logs$/,
    found: /data\.where/,
    cure: /data\.where/,
  },
  'a store at the path of other content': {
    data: { store: '.' },
    exitCode: 2,
    what: /holds something else/,
    expected: /an empty or absent folder/,
    found: /\.(csv|yaml)/,
    cure: /data\.store/,
  },
};

describe('prepare refuses', () => {
  it.each(Object.entries(cases))('%s', async (_, { log, data, exitCode = 1, ...expected }) => {
    if (log !== undefined) await room.write(log[0], log[1]());
    const path = await room.config('logs', (config) => {
      Object.assign(config.data, log === undefined ? {} : { logs: log[0] }, data);
    });
    await room.refused(['prepare', path], { exitCode, ...expected });
  });
});

it('a task key with too few rows is left out and counted', async () => {
  await room.write('lonely.csv', `${smallLog()}lonely,1,s1,u1,30,1\n`);
  const path = await room.config('lonely', ({ data }) => void (data['logs'] = 'lonely.csv'));
  const { exitCode, diagnostics } = await room.start(['prepare', path]).ended;
  expect(exitCode, diagnostics).toBe(0);
  expect(diagnostics).toMatch(
    /1 task \(1 row\) left out: fewer than \d+ rows \(supportRowsMin \d+, queryRowsMin \d+\)/,
  );
});
