// The versions of Node that qianmo supports, and the functions that tfjs-node needs restored on the
// newer ones.
import { execFileSync } from 'node:child_process';
import { readFileSync, readdirSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { expect, it } from 'vitest';
import { isNodeSupported } from '../../infra/bootstrap/base.mjs';

const restoring = new URL('../../worker/compute/engine/removed-node-functions.mjs', import.meta.url)
  .href;

/** Names of the functions of Node's util that the package calls, taken from its compiled code. */
function utilFunctionsIn(folder: string): Set<string> {
  const names = new Set<string>();
  for (const file of readdirSync(folder, { recursive: true, encoding: 'utf8' })) {
    if (!file.endsWith('.js') || file.endsWith('_test.js')) continue;
    const code = readFileSync(join(folder, file), 'utf8');
    const local = /var (\w+) = require\("util"\)/.exec(code)?.[1];
    if (local === undefined) continue;
    for (const [, name = ''] of code.matchAll(new RegExp(`\\b${local}\\.(\\w+)`, 'g')))
      names.add(name);
  }
  return names;
}

it('accepts the range of versions that package.json states', () => {
  const { engines } = JSON.parse(readFileSync('package.json', 'utf8')) as {
    engines: { node: string };
  };
  const [, lowest, above] = /^>=(\d+) <(\d+)$/.exec(engines.node) ?? [];
  expect(isNodeSupported(`${Number(lowest) - 1}.99.0`)).toBe(false);
  expect(isNodeSupported(`${Number(lowest)}.0.0`)).toBe(true);
  expect(isNodeSupported(`${Number(above) - 1}.99.0`)).toBe(true);
  expect(isNodeSupported(`${Number(above)}.0.0`)).toBe(false);
});

it('restores each function of util that tfjs-node calls, without a warning', () => {
  const manifest = createRequire(import.meta.url).resolve('@tensorflow/tfjs-node-gpu/package.json');
  const called = utilFunctionsIn(join(dirname(manifest), 'dist'));
  expect(called).toContain('isNullOrUndefined');
  // This simulates the newest Node: the deprecated functions are removed before the import.
  const script = `
    import util from 'node:util';
    for (const name of Object.keys(util)) if (/^is[A-Z]/.test(name)) delete util[name];
    await import(${JSON.stringify(restoring)});
    const missing = ${JSON.stringify([...called])}.filter((name) => util[name] === undefined);
    const answers = [null, undefined, 0, '', []].map((value) => util.isNullOrUndefined(value));
    const arrays = [[], {}, 'a'].map((value) => util.isArray(value));
    console.log(JSON.stringify({ missing, answers, arrays }));`;
  const args = ['--throw-deprecation', '--input-type=module', '-e', script];
  const output = execFileSync(process.execPath, args, { encoding: 'utf8' });
  expect(JSON.parse(output)).toEqual({
    missing: [],
    answers: [true, true, false, false, false],
    arrays: [true, false, false],
  });
});
