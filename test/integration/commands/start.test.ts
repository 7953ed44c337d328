// `qianmo start`: one command from a log to a model that a server ranks with, as the printed commands say.
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmod, mkdir, readFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { beforeAll, describe, expect, test } from 'vitest';
import { z } from 'zod';
import { projectRoot } from '../../../infra/bootstrap/base.mjs';
import { COMMAND, WrittenText } from '../../fixtures/commands/command.js';
import { commandRoom } from '../../fixtures/commands/command-room.js';
import { openedOnce } from '../../fixtures/opened.js';

const ROWS = 6_000;

const room = openedOnce(commandRoom);
beforeAll(async () => {
  const script = `${projectRoot}/infra/examples/tutorial/messy-log.mjs`;
  const log = execFileSync('node', [script], { encoding: 'utf8', maxBuffer: 2 ** 26 });
  await room.write(
    'clicks.csv',
    log
      .split('\n')
      .slice(0, ROWS + 1)
      .join('\n'),
  );
  // The printed commands are those of a shell that finds qianmo.
  await mkdir(room.path('bin'));
  const run = `exec "${process.execPath}" "${COMMAND}" "$@"\n`;
  for (const [name, before] of [
    ['qianmo', ''],
    ['npx', 'shift\n'],
  ] as const) {
    await room.write(`bin/${name}`, `#!/bin/sh\n${before}${run}`);
    await chmod(room.path(`bin/${name}`), 0o755);
  }
});

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  server.close();
  return z.object({ port: z.int() }).parse(address).port;
}

function inShell(line: string) {
  const child = spawn('bash', ['-c', `exec ${line}`], {
    cwd: room.folder,
    env: { ...process.env, PATH: `${room.path('bin')}:${process.env['PATH'] ?? ''}` },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const output = new WrittenText();
  child.stdout.setEncoding('utf8').on('data', (text: string) => output.write(text));
  const ended = once(child, 'close').then(() => {
    output.end();
    return output.text;
  });
  return { child, output, ended };
}

const AnswerSchema = z.looseObject({
  order: z.array(z.int()),
  probabilities: z.array(z.number()),
  evidence: z.looseObject({ impressions: z.array(z.int()) }),
});

const StartedSchema = z.looseObject({
  serve: z.string(),
  models: z.array(z.looseObject({ name: z.string() })),
});

describe('a log with the flaws of an export', () => {
  let printed: string;
  let diagnostics: string;
  beforeAll(async () => {
    const ended = await room.ended(['start', 'clicks.csv', '--trials', '1']);
    expect(ended.exitCode, ended.diagnostics).toBe(0);
    [printed, diagnostics] = [ended.output, ended.diagnostics];
  });

  test('is described before the work begins', () => {
    expect(diagnostics).toMatch(/run\.yaml, from the first 6,000 rows/);
    expect(diagnostics).toMatch(/adgroup: ad group; label: yes or no.*; time: shown at/);
    expect(diagnostics).toMatch(/rejected: \d+ because the task column "ad group" is empty/);
    expect(diagnostics).toMatch(/rows of \d+ adgroups: \d+ to train, \d+ to choose, \d+ to judge/);
    expect(diagnostics).toMatch(/about .* min on \d+ core/);
  });

  test('ends on one screen, with a verdict and a page', async () => {
    expect(printed.trimEnd().split('\n').length).toBeLessThan(45);
    const verdict = printed.replace(/\s+/g, ' ');
    expect(verdict).toMatch(/held-out adgroups: t01, .* a plain model for all: logloss 0\.\d{4}/);
    expect(verdict).toMatch(/ It .* that model with a level for each adgroup: logloss/);
    expect(printed).toMatch(/^plain .* 0\.\d{4} /m);
    const [, page = ''] = /^report +(\S+)$/m.exec(printed) ?? [];
    expect(await readFile(room.path(page), 'utf8')).toContain('a plain model for all');
  });

  test('ranks with the printed commands', async () => {
    const port = String(await freePort());
    const [, serve = ''] = /^\s*((?:npx )?qianmo serve .*)$/m.exec(printed) ?? [];
    const [, curl = ''] = /^\s*(curl .*)$/m.exec(printed) ?? [];
    const server = inShell(serve.replace('8080', port));
    await server.output.saw(/rankings: /);
    const answer = AnswerSchema.parse(JSON.parse(await inShell(curl.replace('8080', port)).ended));
    server.child.kill('SIGTERM');
    await server.ended;
    expect([...answer.order].sort()).toEqual([0, 1, 2]);
    expect(Math.min(...answer.evidence.impressions)).toBeGreaterThan(0);
  });

  test('is not taken up again under a config that says something else', async () => {
    await room.write('run.yaml', `# mine\n${await readFile(room.path('run.yaml'), 'utf8')}`);
    await room.refused(['start', 'clicks.csv'], {
      ...{ exitCode: 2, what: /there is a config already/, where: /run\.yaml/ },
      cure: /qianmo start run\.yaml.*--out.*--force/,
    });
  });

  test('starts again from a config that was corrected, in place of the search before', async () => {
    const config = await readFile(room.path('run.yaml'), 'utf8');
    await room.write('run.yaml', config.replace(/^ +- \{ ?name: price.*\n/m, ''));
    const again = await room.done(['start', 'run.yaml', '--trials', '1', '--format', 'json']);
    const { models, serve } = StartedSchema.parse(JSON.parse(again));
    expect(models.map(({ name }) => name).sort()).toEqual(['constant', 'level', 'plain', 't01']);
    expect(serve).toContain('--bundle runs/clicks/bundles');
    const page = await readFile(room.path('runs/clicks/auto/trials/t01/run.yaml'), 'utf8');
    expect(page).not.toContain('price');
  });
});

test('a label that cannot be told is asked for, with the option that tells it', async () => {
  const rows = 'a,maybe,1\nb,surely,2\n'.repeat(40);
  await room.write('answers.csv', `campaign,answer,minute\n${rows}`);
  await room.refused(['start', 'answers.csv', '--out', 'answers.yaml'], {
    exitCode: 2,
    what: /which column is the label\?/,
    found: /columns: campaign, answer, minute/,
    cure: /--label COLUMN/,
  });
});

test('what a config says is not said again', async () => {
  await room.write('said.yaml', 'run: said\n');
  await room.refused(['start', 'said.yaml', '--label', 'clicked'], {
    ...{ exitCode: 2, what: /the file is a config/, where: /said\.yaml/, found: /--label/ },
    cure: /correct the config/,
  });
});

test('nothing to start from is refused', () =>
  room.refused(['start'], { exitCode: 2, what: /no log is given/, cure: /clicks\.csv/ }));

test('help, version and letters answer in their usual forms', async () => {
  expect(JSON.parse(await room.done(['runs', '.', '-f', 'json']))).toHaveProperty('runs');
  expect(await room.done(['help', 'start'])).toBe(await room.done(['start', '--help']));
  expect(await room.done(['--version'])).toMatch(/^qianmo \d/);
});
