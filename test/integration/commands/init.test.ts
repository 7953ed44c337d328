// `qianmo init`: from a log without a config to one that prepares.
import { execFileSync } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { projectRoot } from '../../../infra/bootstrap/base.mjs';
import { commandRoom, type CommandRoom } from '../../fixtures/commands/command-room.js';

let room: CommandRoom;
beforeAll(async () => {
  room = await commandRoom();
  const script = `${projectRoot}/infra/examples/tutorial/messy-log.mjs`;
  await room.write(
    'clicks.csv',
    execFileSync('node', [script], { encoding: 'utf8', maxBuffer: 2 ** 26 }),
  );
});
afterAll(() => room.remove());

test('the config of the tutorial log reads as many rows as the one written by hand', async () => {
  const printed = await room.done(['init', 'clicks.csv', '--out', 'tutorial.yaml']);
  expect(printed).toMatch(/wrote tutorial\.yaml, from 30000 rows\./);
  expect(await readFile(room.path('tutorial.yaml'), 'utf8')).toMatch(
    /interests, kind: bag, separator: " ".*\n.*price.*replace\(\\"price\\", ',', '\.'\)/,
  );
  // As on the page of the tutorial.
  expect(await room.done(['prepare', 'tutorial.yaml'])).toMatch(/rows +29,745, rejected 84\n/);
  await room.refused(['init', 'clicks.csv', '--out', 'tutorial.yaml'], {
    exitCode: 2,
    what: /there is a config already/,
    where: /tutorial\.yaml/,
    cure: /--out.*--force/,
  });
});

test('an answer that the log does not give is asked for, with the option that gives it', async () => {
  await room.write(
    'answers.csv',
    `campaign,answer,minute\n${'a,maybe,1\nb,surely,2\n'.repeat(40)}`,
  );
  await room.refused(['init', 'answers.csv'], {
    exitCode: 2,
    what: /which column is the label\?/,
    found: /columns: campaign, answer, minute/,
    cure: /--label COLUMN/,
  });
});

test('a query is a log, and one without a label leaves nothing', async () => {
  await room.refused(['init', '--sql', "select site, device from 'clicks.csv'"], {
    exitCode: 2,
    what: /which column is the label\?/,
    cure: /--label COLUMN/,
  });
  const sql = `select "ad group" as campaign, clicked = 'yes' as click, site from 'clicks.csv'`;
  await room.done(['init', '--sql', sql, '--name', 'joined', '--out', 'joined.yaml']);
  const prepared = await room.done(['prepare', 'joined.yaml']);
  expect(prepared).toMatch(/^tasks +300 /m);
});
