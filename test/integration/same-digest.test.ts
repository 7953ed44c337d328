/**
 * The main guarantee of a distributed run: whichever processes compute it and whatever faults
 * occur, the meta-parameters are bit-identical. Real processes, a real Redis, the real command.
 */

import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { systemClock } from '../../shared/base/clock.js';
import {
  startCommand,
  type EndedCommand,
  type RunningCommand,
} from '../fixtures/commands/command.js';
import { smallLog, smallRun } from '../fixtures/commands/small-run.js';
import { redisForTest, type RedisForTest } from '../fixtures/queue/redis-for-test.js';

const OUTER_STEPS = 30;
/** The job that a worker computes, the one before and the one ahead. */
const OUTPUTS_PER_WORKER_MAX = 3;
/** Printed a few outer steps into the run; the faults strike after it. */
const UNDER_WAY = /checkpoint of outer step 4\b/;

let folder: string;
let redis: RedisForTest;
let undisturbed: string;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'qianmo-same-digest-'));
  redis = await redisForTest();
  await writeFile(join(folder, 'log.csv'), smallLog());
  const prepared = await startCommand(['prepare', await runFile('prepared')], folder).ended;
  expect(prepared.exitCode, prepared.diagnostics).toBe(0);
  undisturbed = digestIn(await ended(trained('undisturbed', '--in-process')));
});

afterAll(async () => {
  await redis.close();
  await rm(folder, { recursive: true, force: true });
});

async function runFile(name: string, departures: object = {}): Promise<string> {
  const path = join(folder, `${name}.yaml`);
  // JSON is valid YAML.
  await writeFile(path, JSON.stringify({ ...smallRun(name, OUTER_STEPS), ...departures }));
  return path;
}

async function trained(name: string, ...options: string[]): Promise<RunningCommand> {
  return startCommand(['train', await runFile(name), '--format', 'json', ...options], folder);
}

async function ended(run: Promise<RunningCommand>): Promise<EndedCommand> {
  return (await run).ended;
}

function digestIn({ exitCode, output, diagnostics }: EndedCommand): string {
  expect(exitCode, diagnostics).toBe(0);
  const outcome = JSON.parse(output) as { outerSteps: number; digest: string };
  expect(outcome.outerSteps).toBe(OUTER_STEPS);
  return outcome.digest;
}

/** Resolves when a worker holds a job of the run. */
async function jobUnderWay(name: string): Promise<void> {
  while ((await redis.client.llen(`{${name}}:inner-loops:active`)) === 0)
    await systemClock.sleep(1);
}

function workerPids(diagnostics: string): number[] {
  return [...diagnostics.matchAll(/worker \d+ \(process (\d+)\)/g)].map(([, pid]) => Number(pid));
}

function isRunning(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}

async function gone(pids: readonly number[]): Promise<void> {
  while (pids.some(isRunning)) await systemClock.sleep(20);
}

describe('the same digest', () => {
  const second = { kind: 'maml', innerSteps: 2, innerRate: 0.3, coldShare: 0.2 };
  it.each<[string, string, object, object?]>([
    ['second-order MAML, path kept', 'kept', { ...second, path: 'kept' }],
    [
      'second-order MAML, path recomputed, with dropped units and ids',
      'recomputed',
      { ...second, path: 'recomputed' },
      { dropout: 0.2, idDropout: 0.1 },
    ],
    [
      'gated starts with neighbours by user',
      'neighbours',
      { kind: 'paml-gate', innerSteps: 2, neighbours: { feature: 'user' } },
    ],
  ])('of %s, in process and with 2 workers', async (_, prefix, method, dropped = {}) => {
    const digestWith = async (name: string, ...options: string[]): Promise<string> => {
      const training = { ...smallRun(name, OUTER_STEPS).training, ...dropped };
      const file = await runFile(`${prefix}-${name}`, { method, training });
      const run = startCommand(['train', file, '--format', 'json', ...options], folder);
      return digestIn(await run.ended);
    };
    const inProcess = await digestWith('in-process', '--in-process');
    expect(inProcess).not.toBe(undisturbed);
    expect(await digestWith('two-workers', '--workers', '2')).toBe(inProcess);
  });

  it('with frozen tables and layers, sent whole or by row packs, in process and with 2 workers', async () => {
    const digestWith = async (
      name: string,
      frozenTablesByteCountMax: number,
      ...options: string[]
    ): Promise<string> => {
      const queue = { frozenTablesByteCountMax };
      const training = { ...smallRun(name, OUTER_STEPS).training, trainable: ['output', 'bias'] };
      const file = await runFile(`frozen-${name}`, { training, queue });
      const run = startCommand(['train', file, '--format', 'json', ...options], folder);
      return digestIn(await run.ended);
    };
    const inProcess = await digestWith('in-process', 1_000_000, '--in-process');
    expect(inProcess).not.toBe(undisturbed);
    expect(await digestWith('packs', 0, '--in-process')).toBe(inProcess);
    expect(await digestWith('two-workers', 1_000_000, '--workers', '2')).toBe(inProcess);
    expect(await digestWith('two-workers-packs', 0, '--workers', '2')).toBe(inProcess);
  });

  // Those as float16 differ in their codec alone, which has tests of its own.
  it('with tensors as int8, in process, with workers and row servers, and stopped and resumed', async () => {
    const started = async (
      name: string,
      departures: object,
      ...options: string[]
    ): Promise<RunningCommand> => {
      const encodings = { parameters: 'int8', gradients: 'int8' };
      const training = { ...smallRun(name, OUTER_STEPS).training, encodings, ...departures };
      const file = await runFile(`int8-${name}`, { training });
      return startCommand(['train', file, '--format', 'json', ...options], folder);
    };
    const inProcess = digestIn(await ended(started('alone', {}, '--in-process')));
    expect(inProcess).not.toBe(undisturbed);
    const served = started('served', { tableShards: 2 }, '--workers', '2');
    expect(digestIn(await ended(served))).toBe(inProcess);
    const run = await started('stopped', {}, '--workers', '2');
    await run.saw(UNDER_WAY);
    run.signal('SIGINT');
    expect((await run.ended).diagnostics).toMatch(/outer step \d+ of 30 is safe/);
    const resumed = started('stopped', {}, '--resume', '--workers', '1');
    expect(digestIn(await ended(resumed))).toBe(inProcess);
  });

  it('with outer steps that overlap, in process, with 2 workers, and stopped and resumed', async () => {
    const started = async (name: string, ...options: string[]): Promise<RunningCommand> => {
      const training = {
        ...smallRun(name, OUTER_STEPS).training,
        checkpointEveryOuterSteps: 6,
        staleness: { outerSteps: 2, drainEveryOuterSteps: 6 },
      };
      const file = await runFile(name, { training });
      return startCommand(['train', file, '--format', 'json', ...options], folder);
    };
    const inProcess = digestIn(await ended(started('stale', '--in-process')));
    expect(inProcess).not.toBe(undisturbed);
    expect(digestIn(await ended(started('stale-workers', '--workers', '2')))).toBe(inProcess);
    const run = await started('stale-stopped', '--workers', '2');
    await run.saw(/checkpoint of outer step 12\b/);
    run.signal('SIGINT');
    const stopped = await run.ended;
    expect(stopped.diagnostics).toMatch(/outer step (12|18|24) of 30 is safe/);
    const resumed = await started('stale-stopped', '--resume', '--workers', '1');
    expect(digestIn(await resumed.ended)).toBe(inProcess);
  });

  it.each([1, 2, 3])('with %i workers', async (count) => {
    const done = await ended(trained(`workers-${count}`, '--workers', String(count)));
    expect(digestIn(done)).toBe(undisturbed);
    expect(workerPids(done.diagnostics).length).toBeGreaterThan(0);
    await gone(workerPids(done.diagnostics));
  });

  it('when the workers are killed in the middle of a job', async () => {
    const run = await trained('killed-workers', '--workers', '2', '--redis', redis.url);
    const { input } = await run.saw(UNDER_WAY);
    const victims = workerPids(input);
    expect(victims.length).toBeGreaterThan(0);
    await jobUnderWay('killed-workers');
    for (const pid of victims) process.kill(pid, 'SIGKILL');
    const done = await run.ended;
    expect(digestIn(done)).toBe(undisturbed);
    expect(done.diagnostics).toMatch(/SIGKILL/);
  });

  it('when Redis restarts, and when it is killed and loses its last second', async () => {
    const run = await trained('restarted-redis', '--workers', '2', '--redis', redis.url);
    await run.saw(UNDER_WAY);
    await redis.server.restart();
    await run.saw(/checkpoint of outer step 12\b/);
    await redis.server.kill();
    await redis.server.restart();
    expect(digestIn(await run.ended)).toBe(undisturbed);
  });

  it('when Redis loses everything', async () => {
    const run = await trained('emptied-redis', '--workers', '2', '--redis', redis.url);
    await run.saw(UNDER_WAY);
    await jobUnderWay('emptied-redis');
    await redis.client.flushall();
    expect(digestIn(await run.ended)).toBe(undisturbed);
  });

  it('when the coordinator is killed and the run resumed', async () => {
    const run = await trained('killed-coordinator', '--workers', '2', '--redis', redis.url);
    await run.saw(UNDER_WAY);
    run.signal('SIGKILL');
    const killed = await run.ended;
    expect(killed.signal).toBe('SIGKILL');
    // Workers of a killed coordinator stop by themselves.
    await gone(workerPids(killed.diagnostics));
    const resumed = await trained('killed-coordinator', '--resume', '--workers', '1');
    expect(digestIn(await resumed.ended)).toBe(undisturbed);
  });

  it('when Ctrl-C stops the run and it is resumed', async () => {
    const run = await trained('interrupted', '--workers', '2', '--redis', redis.url);
    await run.saw(UNDER_WAY);
    run.signal('SIGINT');
    const stopped = await run.ended;
    expect(stopped.exitCode, stopped.diagnostics).toBe(4);
    expect(stopped.diagnostics).toContain('--resume');
    await gone(workerPids(stopped.diagnostics));
    // A worker may have put outputs that its coordinator did not read; these expire by themselves.
    const left = await redis.client.keys('{interrupted}:blob:*');
    expect(left.length).toBeLessThanOrEqual(2 * OUTPUTS_PER_WORKER_MAX);
    for (const key of left) expect(await redis.client.pttl(key)).toBeGreaterThan(0);
    const resumed = await trained('interrupted', '--resume', '--in-process');
    expect(digestIn(await resumed.ended)).toBe(undisturbed);
  });
});
