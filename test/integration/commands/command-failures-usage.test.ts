/** A wrong command line or config is refused before anything is started. */

import { mkdir } from 'node:fs/promises';
import { beforeAll, describe, expect, it } from 'vitest';
import { commandRoom, type ExpectedFailure } from '../../fixtures/commands/command-room.js';
import { openedOnce } from '../../fixtures/opened.js';

const room = openedOnce(commandRoom);
beforeAll(async () => {
  await room.config('run');
  await mkdir(room.path('folder.csv'));
});

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
    [
      'train run.yaml --worker 2',
      {
        what: /^unknown option '--worker'$/,
        where: /^qianmo train$/,
        cure: /did you mean --workers\?/,
      },
    ],
    ['train', { what: /^missing required argument 'run.yaml'$/, cure: /`qianmo train --help`/ }],
    ['train run.yaml --workers two', value('--workers', /^a whole number from 1 to 256$/, /^two$/)],
    ['train run.yaml --format xml', value('--format', /^one of table, json$/, /^xml$/)],
    [
      'train run.yaml --resume --fresh',
      { what: /'--fresh' cannot be used with option '-r, --resume'/, cure: /--help/ },
    ],
    [
      'worker',
      { what: /^required option '--redis <url>' not specified$/, cure: /`qianmo worker --help`/ },
    ],
    ['synthesize --out s.csv --click-rate 3', value('--click-rate', /0\.0001.*0\.9999/, /^3$/)],
  ])('%s', async (args, expected) => {
    await room.refused(args.split(' '), { exitCode: 2, ...expected });
  });

  it('without a verb prints the help', async () => {
    const ended = await room.start([]).ended;
    expect(ended).toMatchObject({ exitCode: 2, output: '' });
    expect(ended.diagnostics).toMatch(/^Usage: qianmo/);
    expect(ended.diagnostics).not.toContain('error');
  });
});

describe('a run config', () => {
  it('that is not quoted names the cure', async () => {
    await room.write('unquoted.yaml', "task: { expression: strptime(a, '%d') }\n");
    await room.refused(['prepare', 'unquoted.yaml'], {
      exitCode: 2,
      what: /not valid YAML/,
      where: /line 1/,
      found: /./,
      cure: /needs quotes around all/,
    });
  });

  it.each(['train', 'check'])('is read first by %s', async (verb) => {
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
