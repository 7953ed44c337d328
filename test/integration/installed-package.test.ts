/** The npm package, installed in an empty folder: its contents, and its setup on first use. */

import { existsSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { cacheRoot, projectRoot } from '../../infra/bootstrap/base.mjs';
import { whyNoNativeTensorFlow } from '../../infra/bootstrap/tensorflow.mjs';
import {
  installPackage,
  whyNoRegistry,
  type InstalledPackage,
} from '../fixtures/commands/installed-package.js';

const TARBALL_BYTE_COUNT_MAX = 4_000_000;
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
const noRegistry = await whyNoRegistry();
const name = `the installed package${noRegistry === '' ? '' : ` (${noRegistry})`}`;

describe.skipIf(noRegistry !== '')(name, () => {
  let installed: InstalledPackage;
  beforeAll(async () => {
    // The downloads of TensorFlow and Redis come from the cache of the checkout.
    installed = await installPackage(dirname(cacheRoot()));
  });
  afterAll(() => installed.remove());

  it('contains the runtime, and no tests, sources or results but the record that the demo shows', () => {
    const { packedFiles, tarballByteCount } = installed;
    expect(packedFiles).toContain('dist/infra/cli/main.js');
    expect(packedFiles).toContain('infra/bin/qianmo.mjs');
    const unwanted = /^(dist\/)?test\/|results\/|(?<!\.d)\.ts$|\.map$|\.log$|tsbuildinfo/;
    expect(packedFiles.filter((path) => unwanted.test(path))).toEqual(['infra/results/real.json']);
    expect(tarballByteCount).toBeLessThan(TARBALL_BYTE_COUNT_MAX);
  });

  it('prints its version without any setup', async () => {
    const { stdout, stderr } = await installed.qianmo('version');
    expect(stdout).toMatch(/^qianmo \d+\.\d+\.\d+\n$/);
    expect(stderr).not.toContain('setting up');
    expect(existsSync(join(installed.folder, 'node_modules/qianmo/dist/node_modules'))).toBe(false);
  });

  it('sets itself up on first use, and only once', async () => {
    const first = await installed.qianmo('check');
    expect(first.stderr).toContain('setting up');
    expect(first.stdout).toMatch(
      whyNoNativeTensorFlow() === ''
        ? /^ok +native TensorFlow +tfjs-node-gpu/m
        : /^warning +native TensorFlow/m,
    );
    const second = await installed.qianmo('check');
    expect(second.stderr).not.toContain('setting up');
  });

  it('is a library with types', async () => {
    await writeFile(join(installed.folder, 'program.mts'), PROGRAM);
    const options = ['--strict', '--target', 'es2022', '--module', 'nodenext', '--skipLibCheck'];
    const types = ['--types', 'node', '--typeRoots', join(projectRoot, 'node_modules/@types')];
    const compiler = join(projectRoot, 'node_modules/typescript/bin/tsc');
    await installed.run(process.execPath, compiler, ...options, ...types, 'program.mts');
    const { stdout } = await installed.run(process.execPath, 'program.mjs');
    expect(stdout.split('\n')).toEqual(['ok Node', 'function, function, function', '']);
  });
});
