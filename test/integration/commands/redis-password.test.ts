/**
 * The password of Redis stays with Redis and with those who were given it: no list of processes, output,
 * event log, report, trial config or key of Redis has it, and neither has that of an embedded Redis. The
 * same holds for the key that jobs and results are signed with.
 */

import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { startEmbeddedRedis } from '#bootstrap/embedded-redis.mjs';
import { commandRoom } from '../../fixtures/commands/command-room.js';
import { openedOnce } from '../../fixtures/opened.js';
import { temporaryFolder } from '../../fixtures/temporary-folder.js';

/** Follows an `@`, which must not end the password in a message. */
const CANARY = 'nary7f3a9c';
const PASSWORD = `c@${CANARY}`;
const KEY_CANARY = 'nary2d8b41';
const SIGNING_KEY = `ca${KEY_CANARY}-0123456789abcdef0123456789`;
const CANARIES = [CANARY, KEY_CANARY];

const room = openedOnce(commandRoom);
const redisFolder = openedOnce(temporaryFolder);
const redis = openedOnce(() =>
  startEmbeddedRedis({ dataDir: redisFolder.path, password: PASSWORD }),
);
let run: string;
/** It runs until it is stopped, so that one worker cannot do all its jobs before another is ready. */
let endless: string;
beforeAll(async () => {
  run = await room.config('run', (config) => {
    Object.assign(config.training, { outerSteps: 6 });
  });
  endless = await room.config('endless', (config) => {
    Object.assign(config.training, { outerSteps: 100_000, checkpointEveryOuterSteps: 1000 });
  });
  await room.done(['prepare', run]);
});

/** The arguments of every process of this machine. */
async function processList(): Promise<string> {
  const ids = (await readdir('/proc')).filter((name) => /^\d+$/.test(name));
  const lines = ids.map((id) => readFile(`/proc/${id}/cmdline`, 'latin1').catch(() => ''));
  return (await Promise.all(lines)).join('\n');
}

/** The files below the folder that contain the text. */
async function filesWith(folder: string, text: string): Promise<string[]> {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true });
  const found = await Promise.all(
    entries
      .filter((entry) => entry.isFile())
      .map(async (entry) => {
        const path = join(entry.parentPath, entry.name);
        return (await readFile(path)).includes(text) ? entry.name : [];
      }),
  );
  return found.flat();
}

describe('the password of Redis and the signing key', () => {
  it('appear nowhere when a run is given them by the environment', async () => {
    const environment = { QIANMO_REDIS_URL: redis.url, QIANMO_SIGNING_KEY: SIGNING_KEY };
    const worker = room.start(['worker', '--prefix', '{endless}', '--name', 'one'], environment);
    await worker.saw(/takes jobs from/);
    const training = room.start(['train', endless, '--workers', '1', '--dashboard'], environment);
    await training.saw(/^step /m);
    // A step may end before the run's own worker is there.
    await training.saw(/takes jobs from/);
    const processes = await processList();
    expect(processes).toContain('--prefix');
    for (const canary of CANARIES) expect(processes).not.toContain(canary);
    training.signal('SIGTERM');
    const trained = await training.ended;
    worker.signal('SIGTERM');
    const worked = await worker.ended;
    expect(trained.exitCode, trained.diagnostics).toBe(4);
    expect(trained.diagnostics).toContain('redis://:***@127.0.0.1');
    for (const { output, diagnostics } of [trained, worked])
      for (const canary of CANARIES) expect(output + diagnostics).not.toContain(canary);
    for (const canary of CANARIES) expect(await filesWith(room.folder, canary)).toEqual([]);
    // Its own config has it; the append-only file holds every key and value that was written.
    expect(await filesWith(redisFolder.path, CANARY)).toEqual(['redis.conf']);
    expect(await filesWith(redisFolder.path, KEY_CANARY)).toEqual([]);
    expect(await filesWith(redisFolder.path, '"signature":')).not.toEqual([]);
  });

  it('stay in the files that have them: no trial config, record or message repeats them', async () => {
    await room.config('base', (config) => {
      Object.assign(config, { queue: { redisUrl: redis.url, prefix: '{base}' } });
    });
    const sweep = {
      ...{ sweep: 'tiny', base: 'base.yaml', output: 'sweep', grid: { seed: [1, 2] } },
    };
    await room.write('sweep.yaml', JSON.stringify(sweep));
    await room.write('key', SIGNING_KEY);
    const environment = { QIANMO_SIGNING_KEY_FILE: 'key' };
    const swept = await room.start(['sweep', 'sweep.yaml', '--workers', '1'], environment).ended;
    expect(swept.exitCode, swept.diagnostics).toBe(0);
    for (const canary of CANARIES) expect(swept.output + swept.diagnostics).not.toContain(canary);
    expect(await filesWith(room.folder, CANARY)).toEqual(['base.yaml']);
    expect(await filesWith(room.folder, KEY_CANARY)).toEqual(['key']);
    const trial = await readFile(room.path('sweep/trials/t01/run.yaml'), 'utf8');
    expect(trial).toContain(`redisUrl: redis://127.0.0.1:${redis.port}`);
    expect(trial).toContain('QIANMO_REDIS_URL');
    await redis.stop();
    const refused = await room.start(['train', 'base.yaml', '--workers', '1']).ended;
    await redis.restart();
    expect(refused.exitCode).toBe(3);
    expect(refused.diagnostics).toContain('Redis does not answer');
    expect(refused.output + refused.diagnostics).not.toContain(CANARY);
  });
});

it('an embedded Redis tells nobody but its user how to reach it', async () => {
  const training = room.start(['train', run, '--fresh', '--redis', 'embedded']);
  const [, file = ''] = await training.saw(/QIANMO_REDIS_URL=\$\(cat (\S+)\) qianmo worker/);
  const url = (await readFile(file, 'utf8')).trim();
  const { password } = new URL(url);
  expect(password).toHaveLength(48);
  expect(await processList()).not.toContain(password);
  const worker = room.start(['worker', '--prefix', '{run}'], { QIANMO_REDIS_URL: url });
  const trained = await training.ended;
  worker.signal('SIGTERM');
  const worked = await worker.ended;
  expect(trained.exitCode, trained.diagnostics).toBe(0);
  for (const { output, diagnostics } of [trained, worked])
    expect(output + diagnostics).not.toContain(password);
  expect(await filesWith(room.folder, password)).toEqual([]);
  await expect(readFile(file)).rejects.toMatchObject({ code: 'ENOENT' });
});
