// Compiles the TypeScript sources to dist/ when they are newer than the last build. Types are checked for packages alone,
// which doubles the time. When run directly (`npm run build`), it always compiles and fails on type errors.
import { cpSync, existsSync, readdirSync, rmSync, statSync } from 'node:fs';
import { extname, join, relative } from 'node:path';
import { pathToFileURL } from 'node:url';
import { digestOf, projectRoot, readIfThere, runCommand, writeWhole } from './base.mjs';

const SOURCE_FOLDERS = ['shared', 'coordinator', 'worker', 'infra', 'test'];
const COMPILED = new Set(['.ts']);
// Files that compiled code reads at run time from its own folder; tsc does not copy all of them.
const COPIED = new Set(['.mjs', '.cjs', '.lua', '.sql', '.css', '.html']);
// Pages that nobody imports.
const RESULTS = join(projectRoot, 'infra/results');
const dist = join(projectRoot, 'dist');
const stampPath = join(dist, '.qianmo-build.json');

/** @typedef {{ digest: string, paths: string[], errors: string[] }} BuildStamp */

/** @typedef {{ digest: string, paths: string[] }} SourceSurvey digest: of names, times and sizes */

/** @type {SourceSurvey | null} taken once: nobody edits sources while a command starts */
let surveyed = null;

/** @returns {SourceSurvey} of all sources */
function surveySources() {
  if (surveyed !== null) return surveyed;
  /** @type {string[]} */
  const paths = [];
  /** @type {string[]} */
  const facts = [];
  /** @param {string} folder */
  const walk = (folder) => {
    for (const entry of readdirSync(folder, { withFileTypes: true })) {
      const path = join(folder, entry.name);
      if (path === RESULTS) continue;
      if (entry.isDirectory()) walk(path);
      else if (COMPILED.has(extname(path)) || COPIED.has(extname(path))) {
        const { mtimeMs, size } = statSync(path);
        paths.push(relative(projectRoot, path));
        facts.push(`${path} ${mtimeMs} ${size}`);
      }
    }
  };
  for (const folder of SOURCE_FOLDERS.map((name) => join(projectRoot, name))) {
    if (existsSync(folder)) walk(folder);
  }
  facts.push(readIfThere(join(projectRoot, 'tsconfig.json')) ?? '');
  facts.push(readIfThere(join(projectRoot, 'package-lock.json')) ?? '');
  return (surveyed = { digest: digestOf(facts.join('\n')), paths });
}

/** @returns {BuildStamp | undefined} */
function readStamp() {
  const text = readIfThere(stampPath);
  return text === undefined ? undefined : JSON.parse(text);
}

/** @returns {boolean} */
export function isBuildCurrent() {
  return readStamp()?.digest === surveySources().digest;
}

/**
 * @param {import('./base.mjs').Announce} announce
 * @param {{ checksTypes?: boolean }} [options] with checked types, it always compiles
 * @returns {Promise<import('./base.mjs').StepOutcome & { errors: string[] }>} with the
 *   type errors; code with type errors is still written, so that a run need not wait for a fix
 */
export async function buildProject(announce, options = {}) {
  const sources = surveySources();
  const last = readStamp();
  const checksTypes = options.checksTypes ?? false;
  if (last?.digest === sources.digest && !checksTypes) return outcomeOf(last.errors, 'up to date');
  announce('compiling (10 to 40 s)');
  if (last === undefined) rmSync(dist, { recursive: true, force: true });
  for (const path of last?.paths ?? []) {
    if (!existsSync(join(projectRoot, path))) removeOutputs(path);
  }
  const compiler = join(projectRoot, 'node_modules', 'typescript', 'bin', 'tsc');
  const args = [compiler, '-p', 'tsconfig.json', '--pretty', 'false'];
  if (!checksTypes) args.push('--noCheck');
  const compiled = await runCommand(process.execPath, args, { cwd: projectRoot });
  const errors = compiled.output.split('\n').filter((line) => /error TS\d+/.test(line));
  if (!compiled.ok && errors.length === 0) errors.push(compiled.problem);
  for (const path of sources.paths) {
    if (COPIED.has(extname(path))) cpSync(join(projectRoot, path), join(dist, path));
  }
  /** @type {BuildStamp} */
  const stamp = { digest: sources.digest, paths: sources.paths, errors };
  writeWhole(stampPath, JSON.stringify(stamp));
  return outcomeOf(errors, 'compiled to dist');
}

/** @param {string} sourcePath a deleted source, relative to the project */
function removeOutputs(sourcePath) {
  const output = join(dist, sourcePath.replace(/ts$/, 'js'));
  rmSync(output, { force: true });
  rmSync(`${output}.map`, { force: true });
}

/**
 * @param {string[]} errors
 * @param {string} note
 * @returns {import('./base.mjs').StepOutcome & { errors: string[] }}
 */
function outcomeOf(errors, note) {
  if (errors.length === 0) return { state: 'ok', note, errors };
  const cure = ['npm run build shows them'];
  return { state: 'warning', note: `${note}, ${errors.length} type errors`, cure, errors };
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) {
  const { errors } = await buildProject(() => undefined, { checksTypes: true });
  for (const error of errors) console.error(error);
  process.exit(errors.length === 0 ? 0 : 1);
}
