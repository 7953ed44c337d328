/** Ctrl-C at any verb: a clean stop, exit code 4 and how to resume. Services just end. */

import { spawn } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { beforeAll, describe, expect, it } from 'vitest';
import { COMMAND } from '../../fixtures/commands/command.js';
import { commandRoom, expectFailure, resultFilesIn } from '../../fixtures/commands/command-room.js';
import { openedOnce } from '../../fixtures/opened.js';
import { redisForTest } from '../../fixtures/queue/redis-for-test.js';

const PATIENCE = { timeout: 60_000, interval: 100 };

const room = openedOnce(commandRoom);
const redis = openedOnce(redisForTest);
let run: string;
beforeAll(async () => {
  // The whole grid, so that an evaluation is under way when it is stopped.
  run = await room.config('run', (config) => void (config['evaluation'] = {}));
  await room.done(['prepare', run]);
});

// `same-digest.test.ts` compares a resume with an undisturbed run.
it('train keeps complete steps', async () => {
  const stopped = await room.config('stopped', ({ training }) => {
    Object.assign(training, { outerSteps: 40, checkpointEveryOuterSteps: 5 });
  });
  const training = room.start(['train', stopped]);
  await training.saw(/checkpoint of outer step 5:/);
  training.signal('SIGINT');
  expectFailure(await training.ended, {
    exitCode: 4,
    what: /^training was stopped; outer step \d+ of 40 is safe$/,
    where: /^stopped$/,
    cure: /qianmo train run\.yaml --resume/,
  });
});

it('SIGTERM before the first step loses nothing', async () => {
  const early = await room.config('early');
  const before = await resultFilesIn(room.folder);
  const training = room.start(['train', early, '--redis', redis.url]);
  await training.saw(/^run early/m);
  training.signal('SIGTERM');
  expectFailure(await training.ended, {
    exitCode: 4,
    what: /outer step 0 of 2 is safe/,
    cure: /the same command again/,
  });
  expect(await resultFilesIn(room.folder)).toEqual(before);
});

it('evaluate writes no report', async () => {
  await room.done(['train', run]);
  const before = await resultFilesIn(room.folder);
  const evaluation = room.start(['evaluate', run]);
  await evaluation.saw(/run run-global/);
  // npm forwards the Ctrl-C that the terminal has already sent; both count as one.
  evaluation.signal('SIGINT');
  evaluation.signal('SIGINT');
  expectFailure(await evaluation.ended, {
    exitCode: 4,
    what: /^the evaluation was stopped; no report was written$/,
    where: /^run$/,
    cure: /the same command again/,
  });
  const after = await resultFilesIn(room.folder);
  expect(after.filter((file) => !file.startsWith('run/global/'))).toEqual(before);
});

it.each([
  ['worker', /worker .* takes jobs from/, []],
  ['dashboard', null, ['--port', '0']],
] as const)('a service ends with 0: %s', async (verb, sign, options) => {
  const service = room.start([verb, '--redis', redis.url, ...options]);
  if (sign !== null) await service.saw(sign);
  while (!((await redis.client.client('LIST')) as string).includes('name=qianmo'))
    await new Promise((resolve) => setImmediate(resolve));
  service.signal('SIGINT');
  const ended = await service.ended;
  expect(ended.exitCode, ended.diagnostics).toBe(0);
  expect(ended.diagnostics).not.toMatch(/error/);
});

describe('a terminal that closes', () => {
  /** Runs a command on a terminal of its own, which closes when the command has shown something. */
  async function ranOnTerminal(args: readonly string[], sign: RegExp, before = ''): Promise<void> {
    const words = [process.execPath, COMMAND, ...args];
    const line = `${before}${words.map((word) => `'${word}'`).join(' ')}`;
    const terminal = spawn('script', ['-qec', line, '/dev/null'], { cwd: room.folder });
    let shown = '';
    for await (const text of terminal.stdout.setEncoding('utf8')) {
      shown += String(text);
      if (sign.test(shown)) break;
    }
    terminal.kill('SIGKILL');
  }
  const latestStep = async (name: string): Promise<unknown> => {
    const checkpoints = ['latest', 'coordinator'].map(
      async (part): Promise<Record<string, unknown>> => {
        const text = await readFile(room.path(`${name}/checkpoints/${part}.json`), 'utf8').catch(
          () => '{}',
        );
        return JSON.parse(text) as Record<string, unknown>;
      },
    );
    const [latest, coordinator] = await Promise.all(checkpoints);
    // The claim is given back at the end.
    return coordinator?.['holder'] === null ? latest?.['outerStep'] : 0;
  };

  it('stops a training on it, which keeps its last complete outer step', async () => {
    const config = await room.config('hung-up', ({ training }) => {
      Object.assign(training, { outerSteps: 1_000_000, checkpointEveryOuterSteps: 1_000_000 });
    });
    await ranOnTerminal(['train', config], /step 1\//);
    await expect.poll(() => latestStep('hung-up'), PATIENCE).toBeGreaterThan(0);
  });

  // Seen to fail: it ended at the next line, with 0 and with the job that it had.
  it('does not end a worker in another session, which prints its events there', async () => {
    const jobs = ['--prefix', '{watched}', '--store-allow', room.folder];
    const worker = ['worker', '--redis', redis.url, '--format', 'json', ...jobs];
    const before = `setsid -w sh -c 'echo $$ > pid; exec "$@"; ' sh `;
    await ranOnTerminal(worker, /"kind":/, before);
    const watched = await room.config('watched');
    await room.done(['train', watched, '--redis', redis.url]);
    process.kill(Number(await readFile(room.path('pid'), 'utf8')), 'SIGTERM');
  });
});
