/** A coordinator that is killed in the middle of a checkpoint leaves the one before, and a resume ends with the same digest. */

import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { systemClock } from '../../../shared/base/clock.js';
import {
  startCommand,
  type EndedCommand,
  type RunningCommand,
} from '../../fixtures/commands/command.js';
import { smallLog, smallRun } from '../../fixtures/commands/small-run.js';

const OUTER_STEPS = 30;
const WAIT_MS_MAX = 240_000;
/** Of 9 floats: 18 MB, which are three pieces. */
const USER_ROW_COUNT = 500_000;

let folder: string;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'qianmo-killed-'));
  await writeFile(join(folder, 'log.csv'), smallLog());
  const prepared = await startCommand(['prepare', await runFile('prepared')], folder).ended;
  expect(prepared.exitCode, prepared.diagnostics).toBe(0);
}, WAIT_MS_MAX);

afterAll(() => rm(folder, { recursive: true, force: true }));

async function runFile(name: string, training: object = {}): Promise<string> {
  const path = join(folder, `${name}.yaml`);
  const run = smallRun(name, OUTER_STEPS);
  const [site, , age] = run.data.features;
  const user = { name: 'user', kind: 'category', hashBuckets: USER_ROW_COUNT };
  const config = {
    ...run,
    data: { ...run.data, features: [site, user, age] },
    model: { ...run.model, embeddingWidth: 8 },
    training: { ...run.training, checkpointEveryOuterSteps: 10, ...training },
  };
  // JSON is valid YAML.
  await writeFile(path, JSON.stringify(config));
  return path;
}

async function train(
  name: string,
  training: object,
  ...options: string[]
): Promise<RunningCommand> {
  const path = await runFile(name, training);
  return startCommand(['train', path, '--processes', '1', '--format', 'json', ...options], folder);
}

function digestIn({ exitCode, output, diagnostics }: EndedCommand): string {
  expect(exitCode, diagnostics).toBe(0);
  const outcome = JSON.parse(output) as { outerSteps: number; digest: string };
  expect(outcome.outerSteps).toBe(OUTER_STEPS);
  return outcome.digest;
}

async function digestOf(name: string, training: object, ...options: string[]): Promise<string> {
  return digestIn(await (await train(name, training, ...options)).ended);
}

async function namesIn(...path: string[]): Promise<string[]> {
  return readdir(join(folder, ...path)).catch(() => []);
}

/** Stops the command between the first blob and the manifest of its next checkpoint. */
async function stoppedInCheckpoint(name: string, run: RunningCommand): Promise<void> {
  for (;;) {
    const manifests = await namesIn(name, 'checkpoints', 'manifests');
    const blobCount = (await namesIn(name, 'checkpoints', 'blobs')).length;
    while ((await namesIn(name, 'checkpoints', 'blobs')).length <= blobCount)
      await systemClock.sleep(1);
    run.signal('SIGSTOP');
    const isUnchanged =
      (await namesIn(name, 'checkpoints', 'manifests')).join() === manifests.join();
    if (isUnchanged) return;
    run.signal('SIGCONT');
  }
}

async function childrenOf(pid: number): Promise<number[]> {
  const text = await readFile(`/proc/${pid}/task/${pid}/children`, 'utf8');
  return text.trim().split(' ').map(Number);
}

async function hasEnded(pid: number): Promise<void> {
  const stateOf = async (): Promise<string> =>
    readFile(`/proc/${pid}/stat`, 'utf8').then(
      (text) => text.slice(text.lastIndexOf(')') + 2, text.lastIndexOf(')') + 3),
      () => 'Z',
    );
  while ((await stateOf()) !== 'Z') await systemClock.sleep(10);
}

it.each(['pieces', 'whole'])(
  'with a digest over %s',
  async (tableDigest) => {
    const expected = await digestOf(`flat-${tableDigest}`, { tableDigest });
    const name = `killed-${tableDigest}`;
    const killed = await train(name, { tableDigest });
    await killed.saw(/checkpoint of outer step 10\b/);
    await stoppedInCheckpoint(name, killed);
    const children = await childrenOf(killed.pid);
    expect(children).not.toHaveLength(0);
    killed.signal('SIGKILL');
    expect((await killed.ended).signal).toBe('SIGKILL');
    for (const pid of children) await hasEnded(pid);
    expect(await digestOf(name, { tableDigest }, '--resume')).toBe(expected);
  },
  WAIT_MS_MAX,
);
