/** A wrong command line or config is refused before anything is started. */

import { mkdir } from 'node:fs/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  commandRoom,
  type CommandRoom,
  type ExpectedFailure,
} from '../../fixtures/commands/command-room.js';

let room: CommandRoom;
beforeAll(async () => {
  room = await commandRoom();
  await room.config('run');
  await mkdir(room.path('folder.csv'));
});
afterAll(() => room.remove());

type Line = readonly [args: string, expected: Omit<ExpectedFailure, 'exitCode'>];

const value = (option: string, expected: RegExp, found: RegExp): Line[1] => ({
  what: new RegExp(`^${option} cannot have this value$`),
  expected,
  found,
  cure: /--help/,
});

describe('a command line', () => {
  it.each<Line>([
    [
      'trian run.yaml',
      { what: /^unknown command 'trian'$/, where: /^qianmo$/, cure: /did you mean train\?/ },
    ],
    ['bogus', { what: /^unknown command 'bogus'$/, cure: /`qianmo --help` lists the verbs/ }],
    ['--bogus', { what: /^unknown option '--bogus'$/, cure: /`qianmo --help`/ }],
    [
      'train run.yaml --worker 2',
      {
        what: /^unknown option '--worker'$/,
        where: /^qianmo train$/,
        cure: /did you mean --workers\?/,
      },
    ],
    ['train', { what: /^missing required argument 'run.yaml'$/, cure: /`qianmo train --help`/ }],
    ['train run.yaml other.yaml', { what: /too many arguments for 'train'/, cure: /--help/ }],
    ['train run.yaml --workers', { what: /'--workers <count>' argument missing/, cure: /--help/ }],
    ['train run.yaml --workers two', value('--workers', /^a whole number from 1 to 256$/, /^two$/)],
    ['train run.yaml --workers 0', value('--workers', /from 1 to 256/, /^0$/)],
    ['train run.yaml --workers 1.5', value('--workers', /a whole number/, /^1\.5$/)],
    ['train run.yaml --format xml', value('--format', /^one of table, json$/, /^xml$/)],
    [
      'train run.yaml --workers 2 --processes 2',
      { what: /'--workers <count>' cannot be used with option '--processes/, cure: /--help/ },
    ],
    [
      'train run.yaml --resume --fresh',
      { what: /'--fresh' cannot be used with option '--resume'/, cure: /--help/ },
    ],
    ['evaluate run.yaml --workers 999', value('--workers', /from 1 to 256/, /^999$/)],
    [
      'evaluate run.yaml --predictions p.csv',
      {
        what: /^the predictions cannot be written/,
        where: /^p\.csv$/,
        expected: /\.parquet/,
        cure: /--predictions/,
      },
    ],
    [
      'worker',
      { what: /^required option '--redis <url>' not specified$/, cure: /`qianmo worker --help`/ },
    ],
    ['worker --redis=', value('--redis', /a value/, /^nothing$/)],
    [
      'worker --redis http://localhost',
      {
        what: /not the address of a Redis server/,
        where: /^http:\/\/localhost$/,
        expected: /redis:\/\/HOST:PORT/,
        cure: /--redis/,
      },
    ],
    [
      'dashboard --redis redis://127.0.0.1:1 --port 99999',
      value('--port', /from 0 to 65535/, /^99999$/),
    ],
    ['demo --out=', value('--out', /a value/, /^nothing$/)],
    ['synthesize', { what: /^required option '--out <file>' not specified$/, cure: /--help/ }],
    [
      'synthesize --out log.txt',
      {
        what: /no known file ending/,
        where: /^log\.txt$/,
        expected: /\.csv, \.csv\.gz, \.parquet/,
        cure: /--out runs\/log\.csv/,
      },
    ],
    ['synthesize --out s.csv --rows many', value('--rows', /as in 250, 760k, 10M/, /^many$/)],
    ['synthesize --out s.csv --adgroups 0', value('--adgroups', /a whole number from 1/, /^0$/)],
    ['synthesize --out s.csv --click-rate 3', value('--click-rate', /above 0 and below 1/, /^3$/)],
    [
      'synthesize --out s.csv --click-rate often',
      value('--click-rate', /above 0 and below 1/, /^often$/),
    ],
    ['synthesize --out s.csv --seed -1', value('--seed', /a whole number from 0/, /^-1$/)],
    [
      'synthesize --out s.csv --setting weird',
      value('--setting', /homogeneous, moderate, strong/, /^weird$/),
    ],
  ])('%s', async (args, expected) => {
    await room.refused(args.split(' '), { exitCode: 2, ...expected });
  });

  it('without a verb prints the help', async () => {
    const ended = await room.start([]).ended;
    expect(ended).toMatchObject({ exitCode: 2, output: '' });
    expect(ended.diagnostics).toMatch(/^Usage: qianmo/);
    expect(ended.diagnostics).not.toContain('error');
  });

  it.each([
    ['log.csv/s.csv', /^a part of the path is not a folder$/, /^log\.csv\/s\.csv$/],
    ['folder.csv', /^this is a folder, not a file$/, /^folder\.csv$/],
  ])('synthesize --out %s', async (out, what, where) => {
    const expected = { exitCode: 3, what, where, cure: /path/ } as const;
    await room.refused(['synthesize', '--rows', '100', '--out', out], expected);
  });
});

describe('a run config', () => {
  const faulty: readonly [string, string, Omit<ExpectedFailure, 'exitCode'>][] = [
    [
      'missing',
      '',
      {
        what: /cannot be read/,
        where: /^missing\.yaml$/,
        found: /no such file/,
        cure: /correct the path/,
      },
    ],
    ['empty', '\n', { what: /is empty$/, where: /^empty\.yaml$/, cure: /README/ }],
    [
      'unclosed',
      'run: a\ndata: [\n',
      { what: /not valid YAML/, where: /^unclosed\.yaml, line \d/, found: /./, cure: /line/ },
    ],
    [
      'twice',
      'run: a\nrun: b\n',
      { what: /not valid YAML/, where: /line 2, column 1/, found: /given twice/, cure: /line/ },
    ],
    ...["where: 'a' = b", "task: { expression: strptime(a, '%d') }", 'where: a: b'].map(
      (text, index): [string, string, Omit<ExpectedFailure, 'exitCode'>] => [
        `unquoted-${index}`,
        `${text}\n`,
        { what: /not valid YAML/, where: /line 1/, found: /./, cure: /needs quotes around all/ },
      ],
    ),
    [
      'text',
      'hello\n',
      {
        what: /wrong, missing or unknown/,
        found: /expected a section of fields, found "hello"/,
        cure: /correct/,
      },
    ],
  ];
  it.each(faulty)('%s', async (name, text, expected) => {
    if (text !== '') await room.write(`${name}.yaml`, text);
    await room.refused(['prepare', `${name}.yaml`], { exitCode: 2, ...expected });
  });

  it.each(['train', 'evaluate', 'check'])('is read first by %s', async (verb) => {
    await room.refused([verb, 'missing.yaml'], {
      exitCode: 2,
      what: /cannot be read/,
      where: /^missing\.yaml$/,
      cure: /correct the path/,
    });
  });

  it('with wrong, missing and unknown fields names them all at once', async () => {
    const name = await room.config('faults', (config) => {
      delete config.data['logs'];
      config.data['features'] = [{ name: 'site', kind: 'categroy' }];
      config.training['outerSteps'] = 'many';
      config['sed'] = 1;
    });
    await room.refused(['prepare', name], {
      exitCode: 2,
      what: /wrong, missing or unknown/,
      where: /^faults\.yaml$/,
      found:
        /data\.logs: is missing[^]*features\.0\.kind: expected one of category, bag, number, found "categroy"[^]*outerSteps: expected a number, found "many"[^]*sed: there is no such field; did you mean "seed"/,
      cure: /infra\/examples/,
    });
  });
});
