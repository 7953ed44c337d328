/**
 * A run on unlike machines ends with the digest of one kind of machine, or says why it cannot. Real
 * processes and a real Redis. The other kind of machine is one without native TensorFlow, whose bits
 * differ and which no setting can make equal.
 */

import { readFile, readdir } from 'node:fs/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { EndedCommand } from '../fixtures/commands/command.js';
import { commandRoom, type CommandRoom } from '../fixtures/commands/command-room.js';
import { smallRun } from '../fixtures/commands/small-run.js';
import { redisForTest, type RedisForTest } from '../fixtures/queue/redis-for-test.js';

const OUTER_STEPS = 8;
const STOPPED_OUTER_STEPS = 40;
const UNDER_WAY = /checkpoint of outer step 4\b/;

let room: CommandRoom;
let redis: RedisForTest;
let otherMachine: Readonly<Record<string, string>>;
let undisturbed: string;

beforeAll(async () => {
  [room, redis] = await Promise.all([commandRoom(), redisForTest()]);
  otherMachine = await withoutNativeTensorFlow();
  await succeeded(['prepare', await runFile('prepared')]);
  undisturbed = digestIn(await trained('undisturbed', []));
});

afterAll(() => Promise.all([redis.close(), room.remove()]));

/** The environment of a process in which the addon does not load. */
async function withoutNativeTensorFlow(): Promise<Record<string, string>> {
  const preload = room.path('no-native-tensorflow.cjs');
  await room.write(
    'no-native-tensorflow.cjs',
    `const Module = require('node:module');
     const load = Module._load;
     Module._load = function (request, ...rest) {
       if (request.startsWith('@tensorflow/tfjs-node')) throw new Error('not here');
       return load.call(this, request, ...rest);
     };`,
  );
  return { NODE_OPTIONS: `--require ${preload}` };
}

function runFile(name: string, departures: object = {}, outerSteps = OUTER_STEPS): Promise<string> {
  return room.config(name, (config) => {
    Object.assign(config, smallRun(name, outerSteps), departures);
  });
}

async function succeeded(
  args: readonly string[],
  environment?: Readonly<Record<string, string>>,
): Promise<EndedCommand> {
  const done = await (environment === undefined
    ? room.ended(args)
    : room.start(args, environment).ended);
  expect(done.exitCode, done.diagnostics).toBe(0);
  return done;
}

async function trained(
  name: string,
  options: readonly string[],
  departures: object = {},
): Promise<EndedCommand> {
  const file = await runFile(name, departures);
  return succeeded(['train', file, '--format', 'json', ...options]);
}

function digestIn({ output }: EndedCommand): string {
  return (JSON.parse(output) as { digest: string }).digest;
}

interface Manifest {
  readonly outerStep: number;
  readonly computedOn: readonly { readonly outerStep: number; readonly fingerprint: string }[];
}

async function latestManifest(name: string): Promise<Manifest> {
  const manifests = room.path(`${name}/checkpoints/manifests`);
  const latest = (await readdir(manifests)).sort().at(-1) ?? 'none';
  return JSON.parse(await readFile(`${manifests}/${latest}`, 'utf8')) as Manifest;
}

/** Runs `work` beside workers with these environments, and stops them afterwards. */
async function besideWorkers<Result>(
  prefix: string,
  environments: readonly Readonly<Record<string, string>>[],
  work: () => Promise<Result>,
): Promise<Result> {
  const args = ['worker', '--redis', redis.url, '--prefix', `{${prefix}}`];
  const workers = environments.map((environment, index) =>
    room.start([...args, '--name', `w${index}`], environment),
  );
  try {
    await Promise.all(workers.map((worker) => worker.saw(/takes jobs from/)));
    return await work();
  } finally {
    for (const worker of workers) worker.signal('SIGTERM');
    await Promise.all(workers.map((worker) => worker.ended));
  }
}

describe('the environment of a worker', () => {
  it('does not decide the digest', async () => {
    const environments = [
      { TF_ENABLE_ONEDNN_OPTS: '0', TF_XLA_FLAGS: '--tf_xla_auto_jit=2 --tf_xla_cpu_global_jit' },
      { ONEDNN_MAX_CPU_ISA: 'SSE41' },
    ];
    const done = await besideWorkers('environments', environments, () =>
      trained('environments', ['--redis', redis.url]),
    );
    expect(digestIn(done)).toBe(undisturbed);
    // A worker whose bits differ from those of the first one says so.
    expect(done.diagnostics).not.toContain('refuses');
  });
});

describe('a worker of another kind', () => {
  it('that was there from the start computes nothing when the config names the first kind', async () => {
    const { computedOn } = await latestManifest('undisturbed');
    const fingerprint = computedOn[0]?.fingerprint ?? 'none';
    const done = await besideWorkers('demanded', [otherMachine, {}], () =>
      trained('demanded', ['--redis', redis.url], { compute: { fingerprint } }),
    );
    expect(digestIn(done)).toBe(undisturbed);
    expect(done.diagnostics).toMatch(/worker w0 refuses the jobs of this run/);
    expect((await latestManifest('demanded')).computedOn).toEqual([{ outerStep: 0, fingerprint }]);
  });

  it('never mixes its bits in, whichever worker answers first', async () => {
    const alone = await besideWorkers('alone', [otherMachine], () =>
      trained('alone', ['--redis', redis.url]),
    );
    expect(digestIn(alone)).not.toBe(undisturbed);
    const mixed = await besideWorkers('mixed', [otherMachine, {}], () =>
      trained('mixed', ['--redis', redis.url]),
    );
    expect([undisturbed, digestIn(alone)]).toContain(digestIn(mixed));
    expect(mixed.diagnostics).toMatch(/worker w\d refuses the jobs of this run/);
  });
});

describe('a resume on another kind of machine', () => {
  it('is refused with both names and the cure, and recorded when the config demands it', async () => {
    const file = await runFile('moved', {}, STOPPED_OUTER_STEPS);
    const run = room.start(['train', file]);
    await run.saw(UNDER_WAY);
    run.signal('SIGINT');
    expect((await run.ended).exitCode).toBe(4);
    const first = await latestManifest('moved');
    const before = first.computedOn[0]?.fingerprint ?? 'none';

    const resume = ['train', file, '--resume', '--format', 'json'];
    const refused = await room.start(resume, otherMachine).ended;
    expect(refused.exitCode, refused.diagnostics).toBe(3);
    expect(refused.diagnostics).toContain(`fingerprint ${before}`);
    const after = /set compute\.fingerprint: (\S+)/.exec(refused.diagnostics)?.[1] ?? 'none';
    expect(after).toMatch(/^(wasm|js)-[0-9a-f]{8}$/);

    await runFile('moved', { compute: { fingerprint: after } }, STOPPED_OUTER_STEPS);
    const moved = await succeeded(resume, otherMachine);
    expect(moved.diagnostics).toContain(`the run continues on ${after}`);
    expect((await latestManifest('moved')).computedOn).toEqual([
      { outerStep: 0, fingerprint: before },
      { outerStep: first.outerStep, fingerprint: after },
    ]);
  });
});

describe('a portable run', () => {
  it('has one digest in process and on workers, which serve other runs between its jobs', async () => {
    const departures = { compute: { portable: true } };
    const inProcess = digestIn(await trained('portable', [], departures));
    const [portable, plain] = await besideWorkers('portable-shared', [{}, {}], async () => {
      const queue = { prefix: '{portable-shared}' };
      const options = ['--redis', redis.url];
      return [
        await trained('portable-shared', options, { ...departures, queue }),
        await trained('plain-shared', options, { queue }),
      ];
    });
    expect(digestIn(portable)).toBe(inProcess);
    expect(digestIn(plain)).toBe(undisturbed);
  });
});
