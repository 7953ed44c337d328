// The npm package tfjs-node-gpu: JavaScript and C++ sources, downloaded once into the cache and
// copied to where the modules of qianmo find it by name.
//
// In package.json it is an optional peer dependency, which names the version but is not installed
// by npm. As a regular dependency, its install script would download a libtensorflow that qianmo
// does not use, and a failure of that download would make npm fail to install qianmo. npm installs
// the packages that it imports (@tensorflow/tfjs, google-protobuf, progress, @mapbox/node-pre-gyp)
// as dependencies of qianmo.
import { createHash } from 'node:crypto';
import { cpSync, existsSync, mkdtempSync, readFileSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { runCommand } from '../base/commands.mjs';
import {
  cacheRoot,
  isCheckout,
  projectRoot,
  publishFolder,
  readIfThere,
} from '../base/project.mjs';

const TFJS_PACKAGE = '@tensorflow/tfjs-node-gpu';
/** @type {{ peerDependencies: Record<string, string> }} */
const { peerDependencies } = JSON.parse(readFileSync(join(projectRoot, 'package.json'), 'utf8'));
export const TFJS_VERSION = peerDependencies[TFJS_PACKAGE] ?? '';
// The integrity hash of this version's tarball. It must change with the version.
const TARBALL_INTEGRITY =
  'sha512-p//NN6DGiN4hInUmIkRffaFVMcdTREUMjPyjW04J7OXvB2zBlQimj61eFKSgRrH3f5TnOfKzb0n56he/B6a4bw==';
const DOWNLOAD_TIMEOUT_MS = 5 * 60_000;

/**
 * In a checkout, all code looks for packages in `node_modules`. In an installed package that folder
 * belongs to npm, which removes unknown packages; all code that loads TensorFlow is in `dist`.
 */
const modulesFolder = isCheckout
  ? join(projectRoot, 'node_modules')
  : join(projectRoot, 'dist', 'node_modules');

/** The path of the package, whether or not it is installed. */
export const tfjsPackageFolder = join(modulesFolder, ...TFJS_PACKAGE.split('/'));

/**
 * Installs the package as published. Its addon and libraries are added later.
 * @param {import('../base/progress.mjs').Announce} announce
 * @returns {Promise<void>} throws an Error with the problem
 */
export async function placeTfjsPackage(announce) {
  if (installedVersion() === TFJS_VERSION) return;
  const cached = join(cacheRoot(), `tfjs-node-gpu-${TFJS_VERSION}`);
  if (!existsSync(cached)) {
    announce(`downloading ${TFJS_PACKAGE} ${TFJS_VERSION} from the npm registry`);
    await publishFolder(cached, fetchPackage);
  }
  // Another version, or the stamp of a failed setup.
  rmSync(tfjsPackageFolder, { recursive: true, force: true });
  await publishFolder(tfjsPackageFolder, async (folder) => {
    cpSync(cached, folder, { recursive: true });
  });
}

/** @returns {string | undefined} */
function installedVersion() {
  const manifest = readIfThere(join(tfjsPackageFolder, 'package.json'));
  return manifest === undefined ? undefined : JSON.parse(manifest).version;
}

/**
 * @param {string} folder receives the unpacked package
 * @returns {Promise<void>}
 */
async function fetchPackage(folder) {
  const download = mkdtempSync(join(tmpdir(), 'qianmo-tfjs-'));
  try {
    const pack = ['pack', `${TFJS_PACKAGE}@${TFJS_VERSION}`, '--pack-destination', download];
    const packed = await runCommand('npm', pack, { cwd: download, timeoutMs: DOWNLOAD_TIMEOUT_MS });
    if (!packed.ok) throw new Error(`${TFJS_PACKAGE}: ${packed.problem}`);
    const file = readdirSync(download).find((name) => name.endsWith('.tgz'));
    if (file === undefined) throw new Error(`${TFJS_PACKAGE}: npm pack wrote no file`);
    const tarball = join(download, file);
    const found = `sha512-${createHash('sha512').update(readFileSync(tarball)).digest('base64')}`;
    if (found !== TARBALL_INTEGRITY) {
      throw new Error(`${TFJS_PACKAGE}: the registry's file has another hash: ${found}`);
    }
    const unpack = ['-xzf', tarball, '-C', folder, '--strip-components=1', '--no-same-owner'];
    const unpacked = await runCommand('tar', unpack);
    if (!unpacked.ok) throw new Error(`${TFJS_PACKAGE}: ${unpacked.problem}`);
  } finally {
    rmSync(download, { recursive: true, force: true });
  }
}
