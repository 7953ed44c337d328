// `npm pack` and `npm publish` run this first. It compiles the packed code, so that users who
// install the package need no TypeScript, and writes the type declarations of the package's entry points and of the files
// that they import. Type errors stop it.
import {
  cpSync,
  existsSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, relative } from 'node:path';
import { BootstrapError, failWith, projectRoot, runCommand, runStep } from './base.mjs';
import { buildProject } from './build.mjs';
import { installNpmPackages } from './packages.mjs';
import { checkNodeVersion, withSetupLock } from './setup.mjs';

const dist = join(projectRoot, 'dist');

/** @returns {string[]} the type declarations named in package.json's `exports`, relative to `dist` */
function typesOfExports() {
  /** @type {{ exports: Record<string, { types?: string }> }} */
  const manifest = JSON.parse(readFileSync(join(projectRoot, 'package.json'), 'utf8'));
  return Object.values(manifest.exports).flatMap(({ types }) =>
    types === undefined ? [] : [relative(dist, join(projectRoot, types))],
  );
}

/**
 * @param {import('./base.mjs').Announce} announce
 * @returns {Promise<import('./base.mjs').StepOutcome>}
 */
async function writeDeclarations(announce) {
  announce('type declarations (about 10 s)');
  const entries = typesOfExports();
  const folder = mkdtempSync(join(tmpdir(), 'qianmo-declarations-'));
  try {
    await emitAll(entries, folder);
    for (const file of readdirSync(dist, { recursive: true, encoding: 'utf8' })) {
      if (file.endsWith('.d.ts') && !file.startsWith('node_modules')) rmSync(join(dist, file));
    }
    const reached = reachedFrom(entries, folder);
    for (const file of reached) cpSync(join(folder, file), join(dist, file));
    return { state: 'ok', note: `${reached.size} files` };
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/**
 * @param {string[]} entries
 * @param {string} folder receives the declarations of everything that the entries import
 */
async function emitAll(entries, folder) {
  const config = join(folder, 'tsconfig.json');
  const compilerOptions = {
    rootDir: projectRoot,
    outDir: folder,
    typeRoots: [join(projectRoot, 'node_modules', '@types')],
    declaration: true,
    emitDeclarationOnly: true,
    sourceMap: false,
    incremental: false,
    tsBuildInfoFile: null,
  };
  const files = entries.map((entry) => join(projectRoot, entry.replace(/\.d\.ts$/, '.ts')));
  const extended = join(projectRoot, 'tsconfig.json');
  writeFileSync(
    config,
    JSON.stringify({ extends: extended, compilerOptions, include: [], exclude: [], files }),
  );
  const compiler = join(projectRoot, 'node_modules', 'typescript', 'bin', 'tsc');
  const emitted = await runCommand(process.execPath, [compiler, '-p', config, '--pretty', 'false']);
  if (!emitted.ok) {
    const lines = emitted.output.trimEnd().split('\n');
    throw new BootstrapError('cannot write the type declarations', lines);
  }
}

/**
 * @param {string[]} entries
 * @param {string} folder
 * @returns {Set<string>} the entries and all files that they import, relative to the folder
 */
function reachedFrom(entries, folder) {
  /** @type {Set<string>} */
  const reached = new Set();
  /** @param {string} file */
  const visit = (file) => {
    if (reached.has(file)) return;
    reached.add(file);
    const text = readFileSync(join(folder, file), 'utf8');
    for (const [, keyword, imported = ''] of text.matchAll(
      /(from|import\(|import) ?['"](\.[^'"]+)['"]/g,
    )) {
      // A JavaScript module that is imported for its effect alone adds no types.
      if (keyword === 'import' && imported.endsWith('.mjs')) continue;
      const target = join(dirname(file), imported.replace(/\.js$/, '.d.ts'));
      if (!existsSync(join(folder, target))) {
        throw new BootstrapError(`${file} uses types of ${imported}, which has no declarations`, [
          'export only types of TypeScript modules from the entry points of the package',
        ]);
      }
      visit(target);
    }
  };
  for (const entry of entries) visit(entry);
  return reached;
}

try {
  checkNodeVersion();
  // `npm pack --dry-run` packs nothing, but the files that it lists must exist.
  delete process.env['npm_config_dry_run'];
  await withSetupLock(async () => {
    await runStep('npm packages', installNpmPackages);
    await runStep('build', async (announce) => {
      const built = await buildProject(announce, { checksTypes: true });
      if (built.errors.length === 0) return built;
      throw new BootstrapError('the sources have type errors', built.errors);
    });
    await runStep('types', writeDeclarations);
  });
} catch (error) {
  failWith(error);
}
