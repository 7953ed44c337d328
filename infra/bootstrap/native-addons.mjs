// Native addons that need no TensorFlow: compiled on this machine once for each content of their sources,
// and kept in the cache. A failure never stops the setup: the problem is reported, and again by what needs the addon.
import { existsSync, rmSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import {
  cacheRoot,
  digestOf,
  problemOf,
  projectRoot,
  publishFolder,
  readIfThere,
} from './base.mjs';
import { NODE_API_VERSION, obtainCompiler, obtainNodeHeaders } from './packages.mjs';

/** @typedef {import('./base.mjs').Announce} Announce */
/** @typedef {import('./base.mjs').StepOutcome} StepOutcome */

/**
 * @typedef {object} AddonSource
 * @property {string} name
 * @property {string} processor of x86-64, whose instructions the file may use
 * @property {string[]} [flags]
 */

/**
 * @typedef {object} AddonRecipe
 * @property {string} name of the file, and in messages
 * @property {string} folder of the sources, relative to the project
 * @property {string[]} headers relative to the folder; the addon is compiled anew when one changes
 * @property {AddonSource[]} sources
 * @property {string[]} flags of all sources
 * @property {number} seconds that compiling takes, about
 * @property {string} withoutIt what happens on a machine where it does not compile
 */

/**
 * @typedef {object} NativeAddon
 * @property {() => string} path where the addon is once it is compiled
 * @property {() => boolean} isSettled whether no action is needed: compiled, or known not to compile here
 * @property {(announce: Announce, options: { retry: boolean }) => Promise<StepOutcome>} install
 *   retry: try again although an earlier attempt failed
 */

/**
 * @param {AddonRecipe} recipe
 * @returns {NativeAddon}
 */
function nativeAddon(recipe) {
  const sources = recipe.sources.filter(({ processor }) => isX86 || processor === 'x86-64');
  const target = () => targetFolder(recipe, sources);
  const problemPath = () => join(target(), 'problem.txt');
  const note = `compiling (about ${recipe.seconds} s)`;
  const paths = sources.map((source) => ({
    ...source,
    path: join(projectRoot, recipe.folder, source.name),
  }));
  return {
    path: () => join(target(), `${recipe.name}.node`),
    isSettled: () => existsSync(target()),
    async install(announce, { retry }) {
      if (retry && existsSync(problemPath())) rmSync(target(), { recursive: true });
      await publishFolder(target(), async (folder) => {
        try {
          await buildAddon(announce, { ...recipe, sources: paths, note }, folder);
        } catch (error) {
          writeFileSync(join(folder, 'problem.txt'), problemOf(error));
        }
      });
      const problem = readIfThere(problemPath());
      if (problem === undefined) return { state: 'ok', note: 'compiled' };
      return {
        state: 'warning',
        note: problem,
        cure: [`${recipe.withoutIt}. Then: qianmo setup`],
      };
    },
  };
}

const isX86 = process.arch === 'x64';

/**
 * @param {AddonRecipe} recipe
 * @param {AddonSource[]} sources
 */
function targetFolder({ name, folder, headers, flags }, sources) {
  const names = [...headers, ...sources.map((source) => source.name)];
  const texts = names.map((file) => readIfThere(join(projectRoot, folder, file)) ?? '');
  const key = digestOf(JSON.stringify([flags, sources, texts])).slice(0, 12);
  return join(cacheRoot(), `${name}-addon-${key}-${process.platform}-${process.arch}`);
}

/**
 * @typedef {object} AddonBuild
 * @property {string} name of the addon's file
 * @property {string} note what is announced
 * @property {{ path: string, processor?: string, flags?: string[] }[]} sources
 * @property {string[]} flags of all sources
 * @property {string[]} [linked] what is linked beside the objects
 */

/**
 * Compiles sources to an addon. Throws an Error with the problem.
 * @param {Announce} announce
 * @param {AddonBuild} build
 * @param {string} folder
 */
export async function buildAddon(announce, { name, note, sources, flags, linked = [] }, folder) {
  const compiler = await obtainCompiler(announce);
  const headers = await obtainNodeHeaders(announce);
  announce(note);
  const shared = [
    ...['-O3', '-std=c++17', '-fPIC', `-DNAPI_VERSION=${NODE_API_VERSION}`, `-I${headers}`],
    ...[`-DNODE_GYP_MODULE_NAME=${name}`, '-DBUILDING_NODE_EXTENSION', ...flags],
  ];
  const objects = await Promise.all(
    sources.map(async ({ path, processor, flags: own = [] }) => {
      const object = join(folder, `${basename(path)}.o`);
      const ofProcessor = processor && isX86 ? compiler.flagsFor(processor) : [];
      const args = [...shared, ...own, ...ofProcessor, '-c', path, '-o', object];
      const compiled = await compiler.run(args);
      if (!compiled.ok) throw new Error(`${basename(path)} does not compile: ${compiled.problem}`);
      return object;
    }),
  );
  const addon = join(folder, `${name}.node`);
  const built = await compiler.run(['-shared', '-o', addon, ...objects, ...linked]);
  if (!built.ok) throw new Error(`the addon ${name} does not link: ${built.problem}`);
  for (const object of objects) rmSync(object);
}

/** Loops over table rows, which coordinators and workers use. */
export const rowAddon = nativeAddon({
  name: 'rows',
  folder: 'shared/tensors/native',
  headers: ['arguments.h', 'posterior.h', 'rows.h', 'row-loops.h', 'processor.h'],
  sources: [
    { name: 'rows-portable.cc', processor: 'x86-64' },
    { name: 'rows-addon.cc', processor: 'x86-64' },
    { name: 'rows-haswell.cc', processor: 'haswell' },
  ],
  // Results are those of TypeScript, bit for bit: products and sums are rounded apart.
  flags: ['-ffp-contract=off', '-fno-math-errno'],
  seconds: 5,
  withoutIt: 'rows of tables are gathered and updated in TypeScript, several times slower',
});

const SCORING_HEADERS = [
  'addon.h',
  'model.h',
  'vectors.h',
  'layers.h',
  'score.h',
  'buckets.h',
  'dictionary.h',
  'json-reader.h',
  '../../../shared/tensors/native/arguments.h',
  '../../../shared/tensors/native/posterior.h',
  '../../../shared/tensors/native/processor.h',
];
const SCORING_SOURCES = [
  { name: 'kernel-portable.cc', processor: 'x86-64' },
  { name: 'mapping.cc', processor: 'x86-64' },
  { name: 'columns.cc', processor: 'x86-64' },
  {
    name: 'ranking.cc',
    processor: 'x86-64',
    flags: ['-ffp-contract=off', '-fno-associative-math', '-fsigned-zeros', '-ftrapping-math'],
  },
  { name: 'addon.cc', processor: 'x86-64' },
  { name: 'kernel-avx2.cc', processor: 'haswell' },
];
// Sums may associate in any order; what is not a number stays so.
const SCORING_FLAGS = [
  ...['-ffp-contract=fast', '-fno-math-errno', '-fno-trapping-math'],
  ...['-fno-signed-zeros', '-fassociative-math', '-Wno-psabi'],
];

/** The scoring kernel, compiled once for each instruction set. */
export const scoringAddon = nativeAddon({
  name: 'scoring',
  folder: 'worker/serving/native',
  headers: SCORING_HEADERS,
  sources: SCORING_SOURCES,
  flags: SCORING_FLAGS,
  seconds: 15,
  withoutIt: 'qianmo serve does not start: it has no other scorer',
});
