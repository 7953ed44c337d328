/**
 * `npm run check -- images`: builds the images and runs them as a cluster would. They prepare, train two outer
 * steps, end with 4 when asked to stop, continue to the digest of an undisturbed run, and serve.
 *
 *   npm run check -- images --built
 *   npm run check -- images --image coordinator,server
 */

import { chown, mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { startEmbeddedRedis } from '../../../infra/bootstrap/embedded-redis.mjs';
import { systemClock } from '../../../shared/base/clock.js';
import { smallLog, smallRun } from '../../fixtures/commands/small-run.js';
import { benchHeader } from '../../bench/bench-header.js';
import { benchOptions } from '../../bench/bench-options.js';
import { listOf, oneOf } from '../../bench/option-values.js';
import { openChecks, type Checks } from '../checks.js';
import { digestIn, endedWith } from '../programs.js';
import { startContainer, type ContainerOrder } from './container.js';
import { buildBase, buildImage, revisionOf, unpackImage, whyNoImages } from './engineless.js';
import { scratchFolder } from '../../bench/scratch-folder.js';

const USER = 10001;
const LONG_OUTER_STEPS = 40;
const TOKEN = 'a-token-of-this-check-alone';
const IMAGES = ['coordinator', 'server', 'worker'] as const;
const GPU_IMAGE = 'worker-gpu';

/** `/config` and `/data` as a cluster would mount them. */
async function volumesIn(folder: string): Promise<Readonly<Record<string, string>>> {
  const [config, data] = [join(folder, 'config'), join(folder, 'data')];
  await mkdir(config);
  await mkdir(data);
  await chown(data, USER, USER);
  await writeFile(join(config, 'log.csv'), smallLog());
  await writeFile(join(config, 'token'), TOKEN);
  const write = (name: string, outerSteps: number): Promise<void> => {
    const plain = smallRun(name, outerSteps);
    const training = { ...plain.training, checkpointEveryOuterSteps: 2 };
    const placed = { logs: '/config/log.csv', store: '/data/store' };
    const { queue: _own, ...rest } = plain;
    const placedRun = {
      ...rest,
      training,
      data: { ...plain.data, ...placed },
      output: `/data/${name}`,
    };
    return writeFile(join(config, `${name}.yaml`), JSON.stringify(placedRun));
  };
  await write('two', 2);
  await write('long', LONG_OUTER_STEPS);
  await write('same', LONG_OUTER_STEPS);
  return { '/config': config, '/data': data };
}

interface Scene {
  readonly images: Readonly<Record<'coordinator' | 'worker' | 'server', string>>;
  readonly order: Pick<ContainerOrder, 'environment' | 'volumes'>;
}

async function checkCommands({ check }: Checks, { images, order }: Scene): Promise<void> {
  await check('user and root', async () => {
    const script = 'id -u; touch /opt/qianmo/x 2>&1; touch /tmp/x /data/x && node --version';
    const container = startContainer(images.worker, { ...order, command: ['sh', '-c', script] });
    const output = endedWith(await container.ended, 0);
    if (!/^10001\n.*Read-only file system\nv\d+/.test(output)) throw new Error(output);
    return `uid ${output.trim().replaceAll('\n', '; ')}`;
  });
  await check('native TensorFlow in the worker', async () => {
    const args = ['check', '--device', 'cpu'];
    const output = endedWith(await startContainer(images.worker, { ...order, args }).ended, 0);
    const [line] = /ok +native TensorFlow.*/.exec(output) ?? [];
    if (line === undefined) throw new Error(output);
    return line.replace(/ +/g, ' ');
  });
  await check('a GPU that is demanded and missing', async () => {
    const args = ['worker', '--device', 'gpu'];
    const output = endedWith(await startContainer(images.worker, { ...order, args }).ended, 3);
    return `exit code 3: ${output.trim().split('\n')[0] ?? ''}`;
  });
  await check('qianmo prepare', async () => {
    const args = ['prepare', '/config/two.yaml'];
    endedWith(await startContainer(images.coordinator, { ...order, args }).ended, 0);
    return 'exit code 0';
  });
}

/** Arguments of the chart's coordinator. */
const training = (name: string): readonly string[] => ['train', `/config/${name}.yaml`, '--resume'];

async function checkTraining({ check }: Checks, { images, order }: Scene): Promise<void> {
  const worker = startContainer(images.worker, {
    ...order,
    args: ['worker', '--device', 'cpu', '--store-allow', '/data'],
  });
  await check('two outer steps', async () => {
    const coordinator = startContainer(images.coordinator, { ...order, args: training('two') });
    return `digest ${digestIn(endedWith(await coordinator.ended, 0))}`;
  });
  await check('SIGTERM at the coordinator', async () => {
    const coordinator = startContainer(images.coordinator, { ...order, args: training('long') });
    await coordinator.saw(/outer step|step \d/);
    const startedMs = systemClock.monotonicMs();
    await coordinator.stop();
    endedWith(await coordinator.ended, 4);
    return `exit code 4 after ${((systemClock.monotonicMs() - startedMs) / 1000).toFixed(1)} s`;
  });
  await check('the same command again', async () => {
    const again = startContainer(images.coordinator, { ...order, args: training('long') });
    const digest = digestIn(endedWith(await again.ended, 0));
    const undisturbed = startContainer(images.coordinator, { ...order, args: training('same') });
    const other = digestIn(endedWith(await undisturbed.ended, 0));
    if (digest !== other) throw new Error(`digest ${digest}, undisturbed ${other}`);
    return `continued to the digest of an undisturbed run, ${digest}`;
  });
  await check('a bundle', async () => {
    for (const verb of ['evaluate', 'export']) {
      const args = [verb, '/config/long.yaml'];
      endedWith(await startContainer(images.coordinator, { ...order, args }).ended, 0);
    }
    return 'evaluated and exported by coordinator and worker';
  });
  await check('SIGTERM at the worker', async () => {
    const startedMs = systemClock.monotonicMs();
    await worker.stop();
    endedWith(await worker.ended, 0);
    return `exit code 0 after ${((systemClock.monotonicMs() - startedMs) / 1000).toFixed(1)} s`;
  });
}

async function checkServer({ check }: Checks, { images, order }: Scene): Promise<void> {
  const server = startContainer(images.server, {
    ...order,
    args: [
      ...['serve', '--bundle', '/data/long/bundles', '--host', '0.0.0.0', '--port', '8080'],
      ...['--token-file', '/config/token', '--cache', '/data/cache'],
    ],
  });
  await check('the server and its health check', async () => {
    await server.saw(/rankings: /);
    const dockerfile = await readFile('infra/deploy/images/Dockerfile', 'utf8');
    const [, stage = ''] = dockerfile.split('FROM portable AS server');
    const health = /HEALTHCHECK[^[]*\\\n +CMD (\[.*\])/.exec(stage)?.[1] ?? '[]';
    await server.exec(...(JSON.parse(health) as string[]));
    const answer = await fetch('http://127.0.0.1:8080/v1/rank', {
      method: 'POST',
      headers: { 'content-type': 'application/json', authorization: `Bearer ${TOKEN}` },
      body: JSON.stringify({
        context: { user: 'u1', age: 30 },
        candidates: ['g0', 'g1'].map((adgroup) => ({ adgroup, features: { site: 's1' } })),
      }),
    });
    if (!answer.ok) throw new Error(`${answer.status}: ${await answer.text()}`);
    return 'healthy; ranked two candidates';
  });
  await check('SIGTERM at the server', async () => {
    await server.stop();
    endedWith(await server.ended, 0);
    return 'exit code 0';
  });
}

async function buildAll({ check }: Checks, targets: readonly string[]): Promise<void> {
  const revision = benchHeader().commit;
  await check('base', buildBase);
  for (const target of targets)
    await check(`image ${target}`, async () => await buildImage(target, revision));
}

async function demandedRevision(target: string): Promise<string> {
  const revision = await revisionOf(target);
  if (revision === null) throw new Error('there is no such image: leave out --built');
  return `commit ${revision}`;
}

async function main(): Promise<void> {
  const asked = benchOptions(import.meta.url, {
    built: {
      type: 'boolean',
      default: false,
      about: 'takes the images that an earlier call has made',
    },
    image: {
      value: listOf(oneOf([...IMAGES, GPU_IMAGE])),
      about: 'builds these images alone, separated by commas, and runs none',
    },
  });
  const missing = await whyNoImages();
  if (missing !== '') {
    console.error(`the images cannot be checked: ${missing}`);
    process.exitCode = 3;
    return;
  }
  const checks = openChecks();
  const targets = asked.image ?? [...IMAGES];
  if (!asked.built) await buildAll(checks, targets);
  if (asked.image !== undefined) {
    process.exitCode = checks.finish({ title: 'Images', command: 'npm run check -- images' });
    return;
  }
  for (const target of targets)
    await checks.check(`sources of ${target}`, () => demandedRevision(target));
  checks.leftOut('a worker on a GPU', 'this machine has none');
  const folder = scratchFolder('images');
  const redis = await startEmbeddedRedis({ dataDir: join(folder, 'redis') });
  try {
    const scene: Scene = {
      images: {
        coordinator: await unpackImage('coordinator', folder),
        worker: await unpackImage('worker', folder),
        server: await unpackImage('server', folder),
      },
      order: {
        environment: { QIANMO_REDIS_URL: redis.url },
        volumes: await volumesIn(folder),
      },
    };
    await checkCommands(checks, scene);
    await checkTraining(checks, scene);
    await checkServer(checks, scene);
  } finally {
    await redis.stop();
  }
  const failures = checks.finish({
    path: 'infra/results/deployment.md',
    title: 'Images',
    command: 'npm run check -- images',
  });
  process.exitCode = failures === 0 ? 0 : 1;
}

await main();
