/**
 * The main guarantee of a distributed run: whichever processes compute it and whatever faults
 * occur, the meta-parameters are bit-identical. Real processes, a real Redis, the real command.
 */

import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { Redis } from 'ioredis';
import { beforeAll, describe, expect, it } from 'vitest';
import { systemClock } from '../../shared/base/clock.js';
import { commandHere } from '../fixtures/commands/command-here.js';
import { commandRoom } from '../fixtures/commands/command-room.js';
import { digestIn, type RunningCommand } from '../fixtures/commands/command.js';
import { smallRun } from '../fixtures/commands/small-run.js';
import { isRunning } from '../fixtures/faults/processes.js';
import { openedOnce } from '../fixtures/opened.js';
import { redisForTest, type RedisForTest } from '../fixtures/queue/redis-for-test.js';

/** Resolves when a worker holds a job of the queue with this prefix, at once if one does. */
async function jobUnderWay(
  { url, client }: Pick<RedisForTest, 'url' | 'client'>,
  prefix: string,
): Promise<void> {
  const active = `${prefix}:inner-loops:active`;
  await client.config('SET', 'notify-keyspace-events', 'Kl');
  const listener = new Redis(url);
  try {
    const taken = new Promise<void>((resolve) => {
      listener.on('message', (_channel, event) => {
        if (event.endsWith('push')) resolve();
      });
    });
    await listener.subscribe(`__keyspace@0__:${active}`);
    if ((await client.llen(active)) === 0) await taken;
  } finally {
    listener.disconnect();
  }
}

/** Enough for four faults one after the other, and for the last one to strike before the end. */
const OUTER_STEPS = 48;
/** Without a fault, which needs time to strike. */
const FEW_STEPS = 8;
/** The job that a worker computes, the one before and the one ahead. */
const OUTPUTS_PER_WORKER_MAX = 3;
/** Printed a few outer steps into the run; the faults strike after it. */
const UNDER_WAY = /checkpoint of outer step 4\b/;

const room = openedOnce(commandRoom);
const redis = openedOnce(redisForTest);
let undisturbed: string;
let overlapped: string;

beforeAll(async () => {
  await room.done(['prepare', await runFile('prepared')]);
  undisturbed = await digestOf(await runFile('undisturbed'));
  overlapped = await digestOf(await overlappingFile('overlapped'));
});

function runFile(name: string, departures: object = {}): Promise<string> {
  return room.config(name, (config) => {
    Object.assign(config, smallRun(name, OUTER_STEPS), departures);
  });
}

/** A run whose outer steps overlap. */
function overlappingFile(name: string, departures: object = {}): Promise<string> {
  const training = {
    ...smallRun(name, OUTER_STEPS).training,
    checkpointEveryOuterSteps: 6,
    staleness: { outerSteps: 2, drainEveryOuterSteps: 6 },
  };
  return runFile(name, { ...departures, training });
}

function started(file: string, ...options: string[]): RunningCommand {
  return room.start(['train', file, '--format', 'json', ...options]);
}

/** The coordinator is in this process. */
async function digestOf(file: string, ...options: string[]): Promise<string> {
  return digestIn(await commandHere(['train', file, '--format', 'json', ...options]));
}

function workerPids(diagnostics: string): number[] {
  const told = [...diagnostics.matchAll(/worker \d+ \(process (\d+)\)/g)];
  // Workers share a process.
  return [...new Set(told.map(([, pid]) => Number(pid)))];
}

async function gone(pids: readonly number[]): Promise<void> {
  while (pids.some(isRunning)) await systemClock.sleep(20);
}

/** Two workers that serve the runs of a group of tests, one after the other. */
interface SharedWorkers {
  /** The options of `train` that leave its jobs to these workers. */
  readonly options: readonly string[];
  /** The part of a config that names their queue. */
  readonly queue: { readonly prefix: string };
  stop(): Promise<void>;
}

async function sharedWorkers(): Promise<SharedWorkers> {
  const queue = { prefix: '{shared-workers}' };
  const options = ['--redis', redis.url];
  const args = ['worker', ...options, '--prefix', queue.prefix];
  const workers = ['w1', 'w2'].map((name) => room.start([...args, '--name', name]));
  await Promise.all(workers.map((worker) => worker.saw(/takes jobs from/)));
  return {
    options,
    queue,
    stop: async () => {
      for (const worker of workers) worker.signal('SIGTERM');
      await Promise.all(workers.map((worker) => worker.ended));
    },
  };
}

describe('the same digest, in process and from two workers that serve run after run,', () => {
  const workers = openedOnce(sharedWorkers);

  const fomaml = { kind: 'fomaml', innerSteps: 2, innerRate: 0.3, coldShare: 0.2 };
  it.each<[string, string, object, object?]>([
    [
      'first-order MAML with dropped units and ids',
      'dropped',
      fomaml,
      { dropout: 0.2, idDropout: 0.1 },
    ],
    [
      'a global model of rows that are drawn one by one, with dropped ids',
      'drawn-rows',
      { kind: 'global' },
      { rowsPerOuterStep: 50, leavesPerOuterStepMin: 3, taskWeight: 'examples', idDropout: 0.1 },
    ],
    [
      'first-order MAML on episodes',
      'episodes',
      { ...fomaml, coldShare: 0 },
      { rowsPerOuterStep: 30, leavesPerOuterStepMin: 2, taskWeight: 'examples' },
    ],
    ['gated starts', 'gate', { kind: 'paml-gate', innerSteps: 2 }],
  ])('of %s', async (_, prefix, method, dropped = {}) => {
    const digestWith = async (name: string, ...options: string[]): Promise<string> => {
      const training = { ...smallRun(name, FEW_STEPS).training, ...dropped };
      const { queue } = workers;
      return digestOf(await runFile(`${prefix}-${name}`, { method, training, queue }), ...options);
    };
    const inProcess = await digestWith('in-process');
    expect(await digestWith('two-workers', ...workers.options)).toBe(inProcess);
  });

  it('with frozen tables and layers, sent whole or by row packs', async () => {
    const digestWith = async (
      name: string,
      frozenTablesByteCountMax: number,
      ...options: string[]
    ): Promise<string> => {
      const queue = { ...workers.queue, frozenTablesByteCountMax };
      const training = { ...smallRun(name, FEW_STEPS).training, trainable: ['output', 'bias'] };
      return digestOf(await runFile(`frozen-${name}`, { training, queue }), ...options);
    };
    const inProcess = await digestWith('in-process', 1_000_000);
    expect(await digestWith('packs', 0)).toBe(inProcess);
    expect(await digestWith('two-workers', 1_000_000, ...workers.options)).toBe(inProcess);
    expect(await digestWith('two-workers-packs', 0, ...workers.options)).toBe(inProcess);
  });

  it('with outer steps that overlap, also stopped and resumed', async () => {
    const { queue } = workers;
    expect(overlapped).not.toBe(undisturbed);
    const onWorkers = await overlappingFile('overlapped-workers', { queue });
    expect(await digestOf(onWorkers, ...workers.options)).toBe(overlapped);
    const stopped = await overlappingFile('overlapped-stopped', { queue });
    const run = started(stopped, ...workers.options);
    await run.saw(/checkpoint of outer step 12\b/);
    run.signal('SIGINT');
    expect((await run.ended).diagnostics).toMatch(/outer step \d+ of 48 is safe/);
    expect(await digestOf(stopped, '--resume', ...workers.options)).toBe(overlapped);
  });
});

describe('the same digest', () => {
  it.runIf(existsSync('/proc/self/task'))(
    'without a queue, in two processes whose outer steps overlap, when one is killed in the middle of a job',
    async () => {
      const run = started(await overlappingFile('killed-process'), '--processes', '2');
      await run.saw(/checkpoint of outer step 6\b/);
      const children = await readFile(`/proc/${run.pid}/task/${run.pid}/children`, 'utf8');
      process.kill(Number(children.trim().split(' ')[0]), 'SIGKILL');
      const done = await run.ended;
      expect(digestIn(done)).toBe(overlapped);
      expect(done.diagnostics).toMatch(/SIGKILL/);
    },
  );

  it('when the workers are killed in the middle of a job, and when Ctrl-C stops the run and it is resumed', async () => {
    const run = started(await runFile('unlucky-workers'), '--workers', '2', '--redis', redis.url);
    const { input } = await run.saw(UNDER_WAY);
    const victims = workerPids(input);
    expect(victims.length).toBeGreaterThan(0);
    await jobUnderWay(redis, '{unlucky-workers}');
    for (const pid of victims) process.kill(pid, 'SIGKILL');
    await run.saw(/SIGKILL/);
    await run.saw(/checkpoint of outer step 12\b/);
    run.signal('SIGINT');
    const stopped = await run.ended;
    expect(stopped.exitCode, stopped.diagnostics).toBe(4);
    expect(stopped.diagnostics).toContain('--resume');
    await gone(workerPids(stopped.diagnostics));
    // A killed or stopped worker may have put outputs that its coordinator did not read; these expire.
    const left = await redis.client.keys('{unlucky-workers}:blob:*');
    expect(left.length).toBeLessThanOrEqual((2 + 2) * OUTPUTS_PER_WORKER_MAX);
    for (const key of left) expect(await redis.client.pttl(key)).toBeGreaterThan(0);
    expect(await digestOf(await runFile('unlucky-workers'), '--resume')).toBe(undisturbed);
  });

  it('when Redis loses everything, restarts, and is killed and loses its last second, and when the coordinator is killed and the run resumed', async () => {
    const run = started(await runFile('unlucky-redis'), '--workers', '2', '--redis', redis.url);
    await run.saw(UNDER_WAY);
    await jobUnderWay(redis, '{unlucky-redis}');
    await redis.client.flushall();
    await run.saw(/checkpoint of outer step 8\b/);
    await redis.server.restart();
    await run.saw(/checkpoint of outer step 12\b/);
    await redis.server.kill();
    await redis.server.restart();
    await run.saw(/checkpoint of outer step 16\b/);
    run.signal('SIGKILL');
    const killed = await run.ended;
    expect(killed.signal).toBe('SIGKILL');
    // Workers of a killed coordinator stop by themselves.
    await gone(workerPids(killed.diagnostics));
    expect(await digestOf(await runFile('unlucky-redis'), '--resume')).toBe(undisturbed);
  });
});
