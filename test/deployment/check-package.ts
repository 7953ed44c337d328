/** The npm package as a user installs it in an empty folder: it sets itself up once, and is a library with types. */

import { mkdirSync, realpathSync, writeFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { dirname, join } from 'node:path';
import { cacheRoot, projectRoot } from '../../infra/bootstrap/base.mjs';
import { benchOptions } from '../bench/bench-options.js';
import { openChecks } from './checks.js';
import { endedWith, startProgram } from './programs.js';
import { scratchFolder } from '../bench/scratch-folder.js';

/** Compiles when the types are those of the library and not `any`. */
const PROGRAM = `
import { check, evaluate, prepare, train } from 'qianmo';
import { RankingClient } from 'qianmo/client';
import { defineMethod } from 'qianmo/plugin';

const [node] = await check({ device: 'cpu' });
console.log(\`\${node?.state ?? ''} \${node?.requirement ?? ''}\`);
console.log([evaluate, prepare, train].map((call) => typeof call).join(', '));
export const entryPoints = [defineMethod];
// @ts-expect-error a config is missing
export const wrong = (): unknown => train({});
export const ranked = (client: RankingClient): Promise<readonly number[]> =>
  client.rank({ candidates: [{ adgroup: 'a' }], fields: ['order'] }).then(({ order }) => order);
// @ts-expect-error the answer has the lists that were asked for
export const absent = (client: RankingClient) => client.rank({ candidates: [], fields: ['order'] }).then(({ scores }) => scores);
`;
const COMPILER = join(projectRoot, 'node_modules/typescript/bin/tsc');

benchOptions(import.meta.url, {});
const checks = openChecks();
const room = realpathSync(scratchFolder('installed'));
const [home, user] = [join(room, 'home'), join(room, 'user')];
for (const folder of [home, user]) mkdirSync(folder);

/**
 * HOME is moved. The downloads of TensorFlow and Redis come from the cache of the checkout, and npm keeps its settings
 * and its cache.
 */
async function printed(program: string, args: readonly string[], folder = user): Promise<string> {
  const environment = {
    npm_config_userconfig: join(homedir(), '.npmrc'),
    npm_config_cache: join(homedir(), '.npm'),
    ...{ HOME: home, XDG_CACHE_HOME: dirname(cacheRoot()) },
  };
  return endedWith(await startProgram(program, args, { folder, environment }).ended, 0);
}

function expectMatch(text: string, pattern: RegExp): string {
  const found = pattern.exec(text)?.[0];
  if (found === undefined) throw new Error(`no ${String(pattern)} in\n${text}`);
  return found;
}

await checks.check('npm pack and npm install', async () => {
  const packed = await printed('npm', ['pack', '--pack-destination', room], projectRoot);
  const tarball = expectMatch(packed, /^qianmo-\S+\.tgz$/m);
  await printed('npm', ['install', join(room, tarball)]);
  return tarball;
});
await checks.check('a version without a setup', async () =>
  expectMatch(await printed('npx', ['qianmo', 'version']), /^qianmo \d+\.\d+\.\d+\n$/).trim(),
);
await checks.check('a setup on first use', async () => {
  const first = await printed('npx', ['qianmo', 'check']);
  expectMatch(first, /setting up/);
  return expectMatch(first, /^ok +native TensorFlow +tfjs-node-gpu.*/m);
});
await checks.check('no second setup', async () => {
  const second = await printed('npx', ['qianmo', 'check']);
  if (second.includes('setting up')) throw new Error(second);
  return 'none';
});
await checks.check('a library with types', async () => {
  writeFileSync(join(user, 'program.mts'), PROGRAM);
  const options = ['--strict', '--target', 'es2022', '--module', 'nodenext', '--skipLibCheck'];
  const types = ['--types', 'node', '--typeRoots', join(projectRoot, 'node_modules/@types')];
  await printed(process.execPath, [COMPILER, ...options, ...types, 'program.mts']);
  const output = await printed(process.execPath, ['program.mjs']);
  return expectMatch(output, /ok Node\nfunction, function, function\n/).replaceAll('\n', ' ');
});
const failures = checks.finish({ title: 'Package', command: 'npm run check -- package' });
process.exitCode = failures === 0 ? 0 : 1;
