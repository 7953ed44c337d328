// Compiles the native addon of tfjs-node-gpu against a libtensorflow, and keeps it in the cache.
//
// The addon consists of C++ files on Node-API and the additions of the engine: an operation and the
// options of sessions.
import { existsSync, rmSync } from 'node:fs';
import { basename, join } from 'node:path';
import { cacheRoot, digestOf, projectRoot, publishFolder, readIfThere } from '../base/project.mjs';
import { NODE_API_VERSION, obtainCompiler, obtainNodeHeaders } from '../packages/compiler.mjs';
import { TENSORFLOW_VERSION } from './library.mjs';
import { TFJS_VERSION, tfjsPackageFolder } from './tfjs-package.mjs';

const SOURCES = ['tfjs_backend.cc', 'tfjs_binding.cc'];
const OWN_SOURCES = ['sum-rows.cc', 'session-options.cc', 'signals.cc'].map((name) =>
  join(projectRoot, 'worker/compute/engine/native', name),
);
// The package's own code must ask for our session options where it asks for TensorFlow's.
const PACKAGE_FLAGS = ['-DTF_NewSessionOptions=QianmoNewSessionOptions'];

/** @typedef {import('../base/progress.mjs').Announce} Announce */

/** @returns {string} changes with the additions to the package's own sources */
export function ownSourceDigest() {
  const sources = OWN_SOURCES.map((path) => readIfThere(path) ?? '');
  return digestOf([...PACKAGE_FLAGS, ...sources].join('\n')).slice(0, 8);
}

/**
 * The package tfjs-node-gpu must be installed.
 * @param {import('./library.mjs').TensorFlowLibrary} library
 * @param {Announce} announce
 * @returns {Promise<string>} path of the addon in the cache; otherwise throws an Error with a cure
 */
export async function obtainAddon(library, announce) {
  const versions = `${TFJS_VERSION}-tensorflow-${TENSORFLOW_VERSION}-napi-v${NODE_API_VERSION}`;
  const key = `${versions}-${ownSourceDigest()}`;
  const target = join(cacheRoot(), `tfjs-addon-${key}-${process.platform}-${process.arch}`);
  const addon = join(target, 'tfjs_binding.node');
  if (existsSync(addon)) return addon;
  const compiler = await obtainCompiler(announce);
  const headers = await obtainNodeHeaders(announce);
  announce('building its addon (about 15 s)');
  await publishFolder(target, async (folder) => {
    const packageSources = SOURCES.map((name) => join(tfjsPackageFolder, 'binding', name));
    const sources = [...packageSources, ...OWN_SOURCES];
    const objects = sources.map((source) => join(folder, `${basename(source)}.o`));
    const include = [`-I${headers}`, `-I${library.include}`];
    const flags = ['-O3', '-std=c++17', '-fPIC', '-fno-rtti', `-DNAPI_VERSION=${NODE_API_VERSION}`];
    const definitions = ['-DNODE_GYP_MODULE_NAME=tfjs_binding', '-DBUILDING_NODE_EXTENSION'];
    const compiles = sources.map((source, index) =>
      compiler.run([
        ...[...flags, ...definitions, ...include],
        ...(packageSources.includes(source) ? PACKAGE_FLAGS : []),
        ...['-c', source, '-o', `${objects[index]}`],
      ]),
    );
    for (const compiled of await Promise.all(compiles)) {
      if (!compiled.ok) throw new Error(`the addon does not compile: ${compiled.problem}`);
    }
    const output = join(folder, 'tfjs_binding.node');
    const libraries = [library.cc, library.framework];
    const runPath = '-Wl,-rpath,$ORIGIN/../../deps/lib';
    const linked = await compiler.run(['-shared', '-o', output, ...objects, ...libraries, runPath]);
    if (!linked.ok) throw new Error(`the addon does not link: ${linked.problem}`);
    for (const object of objects) rmSync(object);
  });
  return addon;
}
