/**
 * A run on unlike machines ends with the digest of one kind of machine, or says why it cannot. Real
 * processes and a real Redis. The other kind of machine is one without native TensorFlow, whose bits
 * differ and which no setting can make equal.
 */

import { readFile, readdir } from 'node:fs/promises';
import { beforeAll, expect, it } from 'vitest';
import { type EndedCommand, type RunningCommand, digestIn } from '../fixtures/commands/command.js';
import { commandRoom } from '../fixtures/commands/command-room.js';
import { smallRun } from '../fixtures/commands/small-run.js';
import { openedOnce } from '../fixtures/opened.js';
import { redisForTest } from '../fixtures/queue/redis-for-test.js';

const OUTER_STEPS = 8;
const STOPPED_OUTER_STEPS = 40;
const UNDER_WAY = /checkpoint of outer step 4\b/;

const room = openedOnce(commandRoom);
const redis = openedOnce(redisForTest);
let otherMachine: Readonly<Record<string, string>>;
let undisturbed: string;

beforeAll(async () => {
  otherMachine = await withoutNativeTensorFlow();
  await succeeded({ ended: room.ended(['prepare', await runFile('prepared')]) });
  undisturbed = digestIn(await trained('undisturbed', []));
});

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

async function succeeded({ ended }: Pick<RunningCommand, 'ended'>): Promise<EndedCommand> {
  const done = await ended;
  expect(done.exitCode, done.diagnostics).toBe(0);
  return done;
}

async function trained(
  name: string,
  options: readonly string[],
  departures: object = {},
): Promise<EndedCommand> {
  const file = await runFile(name, departures);
  return succeeded({ ended: room.ended(['train', file, '--format', 'json', ...options]) });
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

/** Workers that serve the runs of one queue, one after the other. */
interface QueueWorkers {
  readonly add: (environment: Readonly<Record<string, string>>) => Promise<unknown>;
  readonly started: (name: string, departures: object) => Promise<RunningCommand>;
  readonly trained: (name: string, departures?: object) => Promise<EndedCommand>;
}

async function withWorkers(
  prefix: string,
  work: (to: QueueWorkers) => Promise<void>,
): Promise<void> {
  const workers: RunningCommand[] = [];
  const place = ['--redis', redis.url];
  const add: QueueWorkers['add'] = (environment) => {
    const args = ['worker', ...place, '--prefix', prefix, '--name', `w${workers.length}`];
    const worker = room.start(args, environment);
    workers.push(worker);
    return worker.saw(/takes jobs from/);
  };
  const started: QueueWorkers['started'] = async (name, rest) => {
    const file = await runFile(name, { ...rest, queue: { prefix } });
    return room.start(['train', file, '--format', 'json', ...place]);
  };
  try {
    await work({
      ...{ add, started },
      trained: (name, rest) => trained(name, place, { ...rest, queue: { prefix } }),
    });
  } finally {
    for (const worker of workers) worker.signal('SIGTERM');
    await Promise.all(workers.map((worker) => worker.ended));
  }
}

it('the environment of a worker does not decide the digest, also not of a portable run between others', () =>
  withWorkers('{environments}', async (workers) => {
    const xla = '--tf_xla_auto_jit=2 --tf_xla_cpu_global_jit';
    await Promise.all([
      workers.add({ TF_ENABLE_ONEDNN_OPTS: '0', TF_XLA_FLAGS: xla }),
      workers.add({ ONEDNN_MAX_CPU_ISA: 'SSE41' }),
    ]);
    const departures = { compute: { portable: true } };
    const inProcess = digestIn(await trained('portable', [], departures));
    const portable = await workers.trained('portable-on-workers', departures);
    expect(digestIn(portable)).toBe(inProcess);
    const plain = await workers.trained('environments');
    expect(digestIn(plain)).toBe(undisturbed);
    // A worker whose bits differ from those of the first one says so.
    expect(plain.diagnostics).not.toContain('refuses');
  }));

it('a worker of another kind never mixes its bits in, and computes nothing when the config names the first kind', () =>
  withWorkers('{kinds}', async (workers) => {
    await workers.add(otherMachine);
    const alone = await workers.trained('alone');
    expect(digestIn(alone)).not.toBe(undisturbed);

    const { computedOn } = await latestManifest('undisturbed');
    const fingerprint = computedOn[0]?.fingerprint ?? 'none';
    const demanded = await workers.started('demanded', { compute: { fingerprint } });
    await demanded.saw(/worker w0 refuses the jobs of this run/);
    await workers.add({});
    expect(digestIn(await succeeded(demanded))).toBe(undisturbed);
    expect((await latestManifest('demanded')).computedOn).toEqual([{ outerStep: 0, fingerprint }]);

    const mixed = await workers.trained('mixed');
    expect([undisturbed, digestIn(alone)]).toContain(digestIn(mixed));
  }));

it('a resume on another kind of machine is refused with both names and the cure, and recorded when the config demands it', async () => {
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
  const moved = await succeeded(room.start(resume, otherMachine));
  expect(moved.diagnostics).toContain(`the run continues on ${after}`);
  expect((await latestManifest('moved')).computedOn).toEqual([
    { outerStep: 0, fingerprint: before },
    { outerStep: first.outerStep, fingerprint: after },
  ]);
});
