// The scoring kernel as a native addon of its own, which needs no TensorFlow: compiled on this machine
// once for each instruction set, and kept in the cache. A failure never stops the setup: the captured
// graph scores instead.
import { existsSync, rmSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { cacheRoot, digestOf, projectRoot, publishFolder, readIfThere } from '../base/project.mjs';
import { NODE_API_VERSION, obtainCompiler, obtainNodeHeaders } from '../packages/compiler.mjs';

const SOURCE_FOLDER = join(projectRoot, 'worker/serving/native');
const HEADERS = ['model.h', 'vectors.h', 'ahead.h', 'layers.h', 'score.h', 'build-model.h'];
const SOURCES = ['kernel-portable.cc', 'build-model.cc', 'addon.cc'];
const AVX2 = ['-mavx2', '-mfma', '-mf16c'];
const AVX512 = ['-mavx512f', '-mavx512bw', '-mavx512vl', '-mavx512dq', '-mprefer-vector-width=512'];
/** Sources for x86-64 alone, with the instructions that they may use. */
const X86_SOURCES = new Map([
  ['kernel-avx2.cc', AVX2],
  ['kernel-avx512.cc', [...AVX2, ...AVX512]],
]);
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

/** @returns {Map<string, string[]>} */
function sourcesHere() {
  const all = new Map(SOURCES.map((name) => [name, /** @type {string[]} */ ([])]));
  if (process.arch === 'x64') for (const [name, flags] of X86_SOURCES) all.set(name, flags);
  return all;
}

function targetFolder() {
  const sources = sourcesHere();
  const texts = [...HEADERS, ...sources.keys()].map(
    (name) => readIfThere(join(SOURCE_FOLDER, name)) ?? '',
  );
  const key = digestOf(JSON.stringify([FLAGS, [...sources], texts])).slice(0, 12);
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
  for (const [name, flags] of sourcesHere()) {
    const object = join(folder, `${basename(name)}.o`);
    const source = join(SOURCE_FOLDER, name);
    const compiled = await compiler.run([
      ...FLAGS,
      ...flags,
      `-I${headers}`,
      '-c',
      source,
      '-o',
      object,
    ]);
    if (!compiled.ok) throw new Error(`${name} does not compile: ${compiled.problem}`);
    objects.push(object);
  }
  const linked = await compiler.run(['-shared', '-o', join(folder, 'scoring.node'), ...objects]);
  if (!linked.ok) throw new Error(`the kernel does not link: ${linked.problem}`);
  for (const object of objects) rmSync(object);
}
