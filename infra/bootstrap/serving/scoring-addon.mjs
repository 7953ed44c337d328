// The scoring kernel as a native addon of its own, which needs no TensorFlow: compiled on this machine
// once for each instruction set, and kept in the cache. A failure never stops the setup: the captured
// graph scores instead.
import { existsSync, rmSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { cacheRoot, digestOf, projectRoot, publishFolder, readIfThere } from '../base/project.mjs';
import { NODE_API_VERSION, obtainCompiler, obtainNodeHeaders } from '../packages/compiler.mjs';

const SOURCE_FOLDER = join(projectRoot, 'worker/serving/native');
const HEADERS = [
  'model.h',
  'vectors.h',
  'ahead.h',
  'layers.h',
  'score.h',
  'build-model.h',
  'mapping.h',
];
/** Sources, and the processors of x86-64 whose instructions they may use. */
const SOURCES = [
  { name: 'kernel-portable.cc', processor: 'x86-64' },
  { name: 'build-model.cc', processor: 'x86-64' },
  { name: 'mapping.cc', processor: 'x86-64' },
  { name: 'addon.cc', processor: 'x86-64' },
  { name: 'kernel-avx2.cc', processor: 'haswell' },
  { name: 'kernel-avx512.cc', processor: 'skylake-avx512', flags: ['-mprefer-vector-width=512'] },
];
// Sums may associate in any order; what is not a number stays so.
const FLAGS = [
  ...['-O3', '-std=c++17', '-fPIC', '-ffp-contract=fast', '-fno-math-errno', '-fno-trapping-math'],
  ...[
    '-fno-signed-zeros',
    '-fassociative-math',
    '-Wno-psabi',
    `-DNAPI_VERSION=${NODE_API_VERSION}`,
  ],
  ...['-DNODE_GYP_MODULE_NAME=scoring', '-DBUILDING_NODE_EXTENSION'],
];

/** @typedef {import('../base/progress.mjs').Announce} Announce */
/** @typedef {import('../base/progress.mjs').StepOutcome} StepOutcome */

const isX86 = process.arch === 'x64';
const sourcesHere = SOURCES.filter(({ processor }) => isX86 || processor === 'x86-64');

function targetFolder() {
  const names = [...HEADERS, ...sourcesHere.map(({ name }) => name)];
  const texts = names.map((name) => readIfThere(join(SOURCE_FOLDER, name)) ?? '');
  const key = digestOf(JSON.stringify([FLAGS, sourcesHere, texts])).slice(0, 12);
  return join(cacheRoot(), `scoring-kernel-${key}-${process.platform}-${process.arch}`);
}

/** @returns {string} where the addon is once it is compiled */
export function scoringAddonPath() {
  return join(targetFolder(), 'scoring.node');
}

const problemPath = () => join(targetFolder(), 'problem.txt');

/** @returns {boolean} whether no action is needed: compiled, or known not to compile here */
export function isScoringAddonSettled() {
  return existsSync(targetFolder());
}

/**
 * @param {Announce} announce
 * @param {{ retry: boolean }} options retry: try again although an earlier attempt failed
 * @returns {Promise<StepOutcome>}
 */
export async function installScoringAddon(announce, { retry }) {
  const target = targetFolder();
  if (retry && existsSync(problemPath())) rmSync(target, { recursive: true });
  await publishFolder(target, async (folder) => {
    try {
      await compile(folder, announce);
    } catch (error) {
      writeFileSync(
        join(folder, 'problem.txt'),
        error instanceof Error ? error.message : String(error),
      );
    }
  });
  const problem = readIfThere(problemPath());
  if (problem === undefined) return { state: 'ok', note: 'compiled' };
  const cure = [
    'requests are scored by the captured graph, several times slower. Then: qianmo setup',
  ];
  return { state: 'warning', note: problem, cure };
}

/**
 * @param {string} folder
 * @param {Announce} announce
 */
async function compile(folder, announce) {
  const compiler = await obtainCompiler(announce);
  const headers = await obtainNodeHeaders(announce);
  announce('compiling (about 15 s)');
  const objects = [];
  for (const { name, processor, flags = [] } of sourcesHere) {
    const object = join(folder, `${basename(name)}.o`);
    const compiled = await compiler.run([
      ...[...FLAGS, ...flags, ...(isX86 ? compiler.flagsFor(processor) : [])],
      ...[`-I${headers}`, '-c', join(SOURCE_FOLDER, name), '-o', object],
    ]);
    if (!compiled.ok) throw new Error(`${name} does not compile: ${compiled.problem}`);
    objects.push(object);
  }
  const linked = await compiler.run(['-shared', '-o', join(folder, 'scoring.node'), ...objects]);
  if (!linked.ok) throw new Error(`the kernel does not link: ${linked.problem}`);
  for (const object of objects) rmSync(object);
}
