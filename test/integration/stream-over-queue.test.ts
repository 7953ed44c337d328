/**
 * `qianmo stream` with its meta-gradients on workers: the report has the bytes of a run in one process,
 * whoever computes and whoever is killed. Real processes, a real Redis, the real command.
 */

import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { randomStream } from '../../shared/base/random.js';
import {
  startCommand,
  type EndedCommand,
  type RunningCommand,
} from '../fixtures/commands/command.js';
import { jobUnderWay } from '../fixtures/queue/job-under-way.js';
import { redisForTest, type RedisForTest } from '../fixtures/queue/redis-for-test.js';

const ROW_COUNT = 12_000;
/** Windows of the prior part; 2 epochs of 11 pairs, 4 in an outer step, are 6 outer steps. */
const learned = { rank: 32, windows: 12, epochs: 2, pairsPerStep: 4 };

let folder: string;
let redis: RedisForTest;
let undisturbed: string;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'qianmo-stream-'));
  redis = await redisForTest();
  const draws = randomStream(3, 'stream-over-queue');
  const lines = Array.from({ length: ROW_COUNT }, (_, row) => {
    const ad = draws.below(20);
    return `${row},${ad},${draws.below(30)},${draws.uniform() < ad / 20 ? 1 : 0}`;
  });
  await writeFile(join(folder, 'log.csv'), ['at,ad,user,click', ...lines, ''].join('\n'));
  undisturbed = await reportOf('undisturbed', await streamed('undisturbed'));
});

afterAll(async () => {
  await redis.close();
  await rm(folder, { recursive: true, force: true });
});

async function streamed(name: string, ...options: string[]): Promise<RunningCommand> {
  const path = join(folder, `${name}.yaml`);
  const config = {
    run: 'stream',
    data: { logs: 'log.csv', label: { column: 'click' }, time: 'at' },
    slots: [{ name: 'ad' }, { name: 'user' }, { name: 'ad x user', cross: ['ad', 'user'] }],
    ...{ candidates: 3, segments: 10, priorShare: 0.5, learned },
    queue: { prefix: `{${name}}` },
    output: name,
  };
  await writeFile(path, JSON.stringify(config));
  return startCommand(['stream', path, ...options], folder);
}

async function reportOf(name: string, run: RunningCommand): Promise<string> {
  const { exitCode, diagnostics } = await run.ended;
  expect(exitCode, diagnostics).toBe(0);
  return readFile(join(folder, name, 'stream.json'), 'utf8');
}

async function eventsOf(name: string): Promise<string> {
  return readFile(join(folder, name, 'events', 'events-000001.ndjson'), 'utf8');
}

function workerPids({ diagnostics }: Pick<EndedCommand, 'diagnostics'>): number[] {
  const told = [...diagnostics.matchAll(/worker \d+ \(process (\d+)\)/g)];
  // Workers share a process.
  return [...new Set(told.map(([, pid]) => Number(pid)))];
}

describe('a stream whose meta-gradients are computed by workers', () => {
  it('has the report of one process, with two workers on a Redis of its own', async () => {
    const run = await streamed('two-workers', '--workers', '2');
    expect(await reportOf('two-workers', run)).toBe(undisturbed);
    expect(await eventsOf('two-workers')).toContain('"kind":"fingerprint-taken"');
    expect(await eventsOf('undisturbed')).not.toContain('"kind":"fingerprint-taken"');
  });

  it('has it when the workers are killed in the middle of a job', async () => {
    const run = await streamed('killed', '--workers', '2', '--redis', redis.url);
    await jobUnderWay(redis, '{killed}');
    const { input } = await run.saw(/worker \d+ \(process \d+\)/);
    const victims = workerPids({ diagnostics: input });
    expect(victims.length).toBeGreaterThan(0);
    for (const pid of victims) process.kill(pid, 'SIGKILL');
    expect(await reportOf('killed', run)).toBe(undisturbed);
    expect((await run.ended).diagnostics).toMatch(/SIGKILL/);
    expect(await redis.client.keys('{killed}:blob:*')).toEqual([]);
  });

  it('has it with a worker that was started elsewhere, and a second coordinator is refused', async () => {
    const run = await streamed('elsewhere', '--redis', redis.url);
    await run.saw(/wait/);
    const second = await (await streamed('elsewhere', '--redis', redis.url)).ended;
    expect(second.exitCode).toBe(2);
    expect(second.diagnostics).toContain('another coordinator works on run stream');
    const worker = startCommand(
      ['worker', '--redis', redis.url, '--prefix', '{elsewhere}'],
      folder,
    );
    expect(await reportOf('elsewhere', run)).toBe(undisturbed);
    worker.signal('SIGTERM');
    expect((await worker.ended).exitCode).toBe(0);
  });

  it('stops on Ctrl-C, says that it has to run again, and leaves no report', async () => {
    const run = await streamed('interrupted', '--redis', redis.url);
    await run.saw(/wait/);
    run.signal('SIGINT');
    const { exitCode, diagnostics } = await run.ended;
    expect(exitCode, diagnostics).toBe(4);
    expect(diagnostics).toContain('run it again from the beginning');
    expect(diagnostics).not.toContain('--resume');
    await expect(readFile(join(folder, 'interrupted', 'stream.json'))).rejects.toThrow();
  });
});
