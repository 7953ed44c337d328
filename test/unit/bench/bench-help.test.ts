/** The help of the bench commands: every one has it, and says what it measures. */

import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { expect, test } from 'vitest';
import { z } from 'zod';
import { inLanes } from '../../bench/in-lanes.js';

const PackageSchema = z.looseObject({ scripts: z.record(z.string(), z.string()) });
const { scripts } = PackageSchema.parse(JSON.parse(readFileSync('package.json', 'utf8')));
const benches = Object.entries(scripts).flatMap(([name, command]) => {
  const [module] = /dist\/test\/bench\/\S+\.js$/.exec(command) ?? [];
  return module === undefined ? [] : [{ name, module }];
});

interface Ended {
  readonly code: number | string;
  readonly output: string;
  readonly diagnostics: string;
}

function ended(...words: string[]): Promise<Ended> {
  return new Promise((resolve) => {
    execFile(process.execPath, words, (error, output, diagnostics) => {
      resolve({ code: error?.code ?? 0, output, diagnostics });
    });
  });
}

test('every bench says what it measures, its options with defaults, and an example', async () => {
  expect(benches.length).toBeGreaterThan(40);
  await inLanes(benches, availableParallelism(), async ({ name, module }) => {
    const { code, output, diagnostics } = await ended(module, '--help');
    expect([code, diagnostics], name).toEqual([0, '']);
    const [first = '', ...others] = output.split('\n\n');
    expect(first.length, name).toBeGreaterThan(40);
    const rest = others.join('\n\n');
    expect(rest, name).toMatch(/^Options:\n(.*\n)* {2}--help +prints this\n/m);
    expect(rest, name).toMatch(new RegExp(`^Examples:\n {2}npm run ${name}( --)?( |\n)`, 'm'));
  });
}, 120_000);

test('an option has its default, also where it is a path of the checkout', async () => {
  const { output } = await ended('dist/test/bench/overhead/overhead-bench.js', '--help');
  expect(output).toMatch(/^ {2}--rounds VALUE +how often everything is measured, in turns \[3\]$/m);
  expect(output).toMatch(/^ {2}--output VALUE +folder .* \[infra\/results\/\]$/m);
  expect(output).toMatch(/^ {2}--base VALUE +another checkout[^[]*$/m);
});

test('an unknown option is a usage error', async () => {
  const { code, diagnostics } = await ended('dist/test/bench/capture-soak.js', '--rows', '9');
  expect(code).toBe(2);
  expect(diagnostics).toContain("Unknown option '--rows'");
  expect(diagnostics).toContain('npm run bench:soak -- --help');
});

test.each([
  ['plan/plan-bench.js', '--rounds', 'abc', 'a whole number from 1 to 1000000000'],
  ['plan/plan-bench.js', '--rows', '1.5', 'a whole number from 1 to 10000000000, as in 250, 760k'],
  ['scaling/more-workers.js', '--workers', '1,x', 'a whole number from 1 to'],
  ['scaling/scaling-bench.js', '--length', '', 'a number above 0'],
  ['overhead/overhead-bench.js', '--cases', 'queue,mist', 'one of '],
  ['serving/kernel-bench.js', '--adgroups', '9', 'a whole number from 1000 to 4000000'],
  ['digests/digests.js', '--only', 'no-such-case', 'one of '],
  ['learned-rule/learned-rule.js', '--only', 'no-such-case', 'words of '],
  ['meta-embedding/reproduce.js', '--workers', 'none', 'a whole number from 0 to'],
])('%s refuses %s "%s" as a usage error', async (module, option, value, expected) => {
  const { code, output, diagnostics } = await ended(`dist/test/bench/${module}`, option, value);
  expect([code, output], diagnostics).toEqual([2, '']);
  const lines = diagnostics.split('\n');
  expect(lines[0]).toBe(`error: ${option} cannot have this value`);
  expect(diagnostics).toContain(`expected: ${expected}`);
  expect(lines).toContain(`  found:    ${value === '' ? 'nothing' : value}`);
  expect(diagnostics).toContain('-- --help` lists the options');
  expect(lines).toHaveLength(6);
});
