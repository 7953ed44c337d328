// `qianmo init`: from a log without a config to one that prepares.
import { execFileSync } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { beforeAll, expect, test } from 'vitest';
import { projectRoot } from '../../../infra/bootstrap/base.mjs';
import { commandRoom, expectFailure } from '../../fixtures/commands/command-room.js';
import { onTerminal } from '../../fixtures/commands/command-here.js';
import { openedOnce } from '../../fixtures/opened.js';

const room = openedOnce(commandRoom);
beforeAll(async () => {
  const script = `${projectRoot}/infra/examples/tutorial/messy-log.mjs`;
  await room.write(
    'clicks.csv',
    execFileSync('node', [script], { encoding: 'utf8', maxBuffer: 2 ** 26 }),
  );
});

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

const UNCLEAR = `campaign,answer,minute,created at,shown at\n${Array.from(
  { length: 80 },
  (_, row) =>
    `${row % 2 === 0 ? 'a,maybe' : 'b,surely'},${row % 7},2026-10-01 00:00:0${row % 10},2026-10-02 00:00:0${row % 9}`,
).join('\n')}\n`;

test('on a terminal it asks what the log does not tell, and takes a number, SQL or the default', async () => {
  await room.write('unclear.csv', UNCLEAR);
  const answers = ["answer = 'surely'", '9', 'campain', '1', ''];
  const asked = await onTerminal(['init', 'unclear.csv', '--out', 'asked.yaml'], answers);
  expect(asked.exitCode, asked.diagnostics).toBe(0);
  expect(asked.output).toMatch(/which column is the label\?\n +1 +campaign +"a", "b"\n +2 +answer/);
  expect(asked.output).toMatch(
    /which column names the adgroup\?\n +1 +created at .*\n +2 +campaign .*There is no choice 9\./s,
  );
  expect(asked.output).toMatch(/the log has no column "campain"\n +1 +campaign/);
  expect(asked.output).toMatch(/orders the rows in time\?\n +1 +created at .*\n +2 +shown at /);
  const yaml = await readFile(room.path('asked.yaml'), 'utf8');
  expect(yaml).toMatch(/task: campaign /);
  expect(yaml).toMatch(/label: \{ expression: answer = 'surely' \}/);
  expect(yaml).toMatch(/time: created at/);
});

test('nobody is asked in a script, for JSON, or after the end of the input', async () => {
  await room.write('unclear.csv', UNCLEAR);
  const words = ['init', 'unclear.csv', '--out', 'unasked.yaml'];
  const endings = [
    await room.ended(words),
    await onTerminal([...words, '--format', 'json'], ['1']),
    await onTerminal(words, ['1'], { isInputTerminal: false }),
    await onTerminal(words, []),
  ];
  for (const ended of endings)
    expectFailure(ended, { exitCode: 2, what: /which column is the label\?/, cure: /--label/ });
  for (const { output } of endings.slice(0, 3)) expect(output).toBe('');
  const timed = [...words, '--label', "answer = 'surely'", '--task', 'campaign'];
  expect(await room.done(timed)).toMatch(/^ {2}time: created at/m);
});
