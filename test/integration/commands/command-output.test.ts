/**
 * The output of the verbs: JSON that parses and has the expected content, and the preflight as a
 * table.
 */

import { beforeAll, describe, expect, it } from 'vitest';
import { z } from 'zod';
import { commandRoom, expectFailure } from '../../fixtures/commands/command-room.js';
import { findNvidiaDriver } from '../../../infra/bootstrap/cuda-libraries.mjs';
import { ComparisonReportSchema } from '../../../coordinator/scoring/compare-runs.js';
import { DeviceReportSchema } from '../../../shared/events/device-report.js';
import { openedOnce } from '../../fixtures/opened.js';
import { redisForTest } from '../../fixtures/queue/redis-for-test.js';

const room = openedOnce(commandRoom);
let run: string;
beforeAll(async () => {
  run = await room.config('run');
});

async function json(...args: string[]): Promise<unknown> {
  return JSON.parse(await room.done([...args, '--format', 'json']));
}

const digest = z.string().regex(/^[0-9a-f]{64}$/);

it('--format json of prepare, train and evaluate, in sequence', async () => {
  const prepared = z
    .object({ taskCount: z.literal(24), rowCount: z.literal(480), store: z.literal('store') })
    .parse(await json('prepare', run));
  expect(prepared.taskCount).toBe(24);
  // The second time the store is kept and reported as the same.
  expect(await json('prepare', run)).toMatchObject(prepared);
  const trained = z
    .strictObject({
      run: z.literal('run'),
      outerSteps: z.literal(2),
      checkpoint: z.string().startsWith('file://'),
      digest,
    })
    .parse(await json('train', run));
  expect(await json('evaluate', run)).toMatchObject({
    run: { run: 'run', metaDigest: trained.digest },
    counts: { trainTasks: expect.any(Number) as number },
  });
  const runs = ['run:global', 'run:meta-adapted'];
  const report = ComparisonReportSchema.parse(await json('compare', ...runs, '--out', 'out'));
  expect(report.slices[0]?.arms).toHaveLength(2);
  await room.refused(['compare', 'run', 'nowhere'], {
    ...{ exitCode: 2, what: /not evaluated/, where: /nowhere$/, cure: /a run's output/ },
  });
});

it('says on standard error as much as is asked for, and prints the same results', async () => {
  const levels: readonly (readonly [string, readonly string[]])[] = [
    ['quiet', ['-q']],
    ['normal', []],
    ['verbose', ['-v']],
  ];
  const diagnostics: Record<string, string> = {};
  const tables = new Set<string>();
  for (const [name, options] of levels) {
    const config = await room.config(name, (small) => {
      small.data['store'] = `${name}-store`;
    });
    diagnostics[name] = '';
    for (const verb of ['prepare', 'train', 'evaluate']) {
      const ended = await room.ended([verb, config, ...options]);
      expect(ended.exitCode, ended.diagnostics).toBe(0);
      diagnostics[name] += ended.diagnostics;
      if (verb === 'evaluate') tables.add(ended.output.replaceAll(name, 'NAME'));
    }
  }
  expect(diagnostics['quiet']).toBe('');
  expect(diagnostics['normal']).toContain('step 2/2');
  expect(diagnostics['normal']).not.toContain('in milliseconds');
  expect(diagnostics['verbose']).toContain('step 2/2');
  expect(diagnostics['verbose']).toMatch(/^outer step 2 in milliseconds: .*compute \d+/m);
  expect(tables.size).toBe(1);
});

it('writes only warnings as lines of JSON with --quiet', async () => {
  const quiet = ['train', run, '--fresh', '-q', '--log-format', 'json'];
  const { exitCode, diagnostics } = await room.ended(quiet);
  expect([exitCode, diagnostics]).toEqual([0, '']);
});

it('ends its work when nobody reads its progress any more', async () => {
  const unread = await room.config('unread', (config) => {
    config.data['store'] = 'unread-store';
  });
  const running = room.start(['prepare', unread]);
  running.closeDiagnostics();
  const { exitCode, output } = await running.ended;
  expect([exitCode, output]).toEqual([0, expect.stringContaining('task store unread-store')]);
});

const CheckSchema = z.array(
  z.strictObject({
    requirement: z.string(),
    state: z.enum(['ok', 'warning', 'problem']),
    detail: z.string().min(1),
    cure: z.string().min(1).nullable(),
    device: DeviceReportSchema.optional(),
    logs: z.looseObject({ isWhole: z.boolean() }).optional(),
  }),
);

const MACHINE = ['Node', 'native TensorFlow', 'memory'];
const RUN = [...MACHINE, 'config', 'Redis', 'task store', 'output', 'disk'];

describe('check', () => {
  it('of the machine', async () => {
    const results = CheckSchema.parse(await json('check'));
    expect(results.map(({ requirement }) => requirement)).toEqual(MACHINE);
    for (const { state, cure } of results) expect(cure === null).toBe(state === 'ok');
    expect(results.filter(({ device }) => device !== undefined)).toMatchObject([
      { requirement: 'native TensorFlow' },
    ]);
  });

  it.skipIf(findNvidiaDriver() !== null)('for a GPU that is not there', async () => {
    const checked = await room.ended(['check', '--device', 'gpu']);
    expect(checked.exitCode).toBe(3);
    expect(checked.output).toMatch(/^problem {2}native TensorFlow {2}a GPU is demanded/m);
    expect(checked.output).toMatch(/cure: /);
    const demanding = await room.config('demanding', (config) => {
      config['compute'] = { device: 'gpu' };
    });
    const worker = ['worker', '--redis', 'redis://127.0.0.1:1', '--device', 'gpu'];
    for (const words of [['train', demanding], ['train', demanding, '--workers', '2'], worker])
      await room.refused(words, {
        exitCode: 3,
        what: /^a GPU is demanded, yet TensorFlow computes on the CPU$/,
        found: /no GPU that this process may see/,
        cure: /setup --gpu|driver/,
      });
  });

  it('of a run that has all requirements', async () => {
    await room.done(['prepare', run]);
    const redis = await redisForTest();
    const results = CheckSchema.parse(await json('check', run, '--redis', redis.url));
    expect(results.map(({ requirement }) => requirement)).toEqual(RUN);
    expect(results.filter(({ state }) => state === 'problem')).toEqual([]);
    expect(results.find(({ requirement }) => requirement === 'Redis')?.detail).toMatch(
      /^(redis|valkey) \d.*noeviction/,
    );
    expect(results.find(({ requirement }) => requirement === 'task store')?.detail).toBe(
      'store: 24 tasks, 480 rows',
    );
    await redis.close();
  });

  it('of a run that lacks several requirements names each with its cure', async () => {
    const lacking = await room.config('lacking', (config) => {
      config.data['store'] = 'none';
      config['output'] = 'log.csv';
    });
    const args = ['check', lacking, '--redis', 'redis://127.0.0.1:1'];
    const asJson = await room.ended([...args, '--format', 'json']);
    const problems = CheckSchema.parse(JSON.parse(asJson.output)).filter(
      ({ state }) => state === 'problem',
    );
    expect(problems).toMatchObject([
      { requirement: 'Redis', detail: expect.stringContaining('ECONNREFUSED') as string },
      { requirement: 'output', cure: expect.stringContaining('path') as string },
    ]);
    const asTable = await room.ended(args);
    for (const ended of [asJson, asTable])
      expectFailure(ended, {
        exitCode: 3,
        what: /^2 of 9 requirements are not met$/,
        found: /^Redis, output$/,
        cure: /cures are named above/,
      });
    for (const { requirement, cure } of problems) {
      expect(asTable.output).toMatch(new RegExp(`^problem  ${requirement} `, 'm'));
      expect(asTable.output).toContain(`cure: ${cure ?? ''}`);
    }
  });
});
