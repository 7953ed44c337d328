/** The help of the bench commands: every one has it, and says what it measures. */

import { execFile } from 'node:child_process';
import { availableParallelism } from 'node:os';
import { expect, test } from 'vitest';
import { BENCHES, CHECKS, commandOf, moduleOf, RECORDED_SCRIPTS } from '../bench/benches.js';
import { inLanes } from '../bench/in-lanes.js';

const CHECKS_WITHOUT_OPTIONS = ['deployment'];
const commands = [
  ...[
    ...BENCHES,
    ...CHECKS.filter(({ name }) => !CHECKS_WITHOUT_OPTIONS.includes(name)),
    ...RECORDED_SCRIPTS,
  ].map((bench) => ({ name: commandOf(bench), module: moduleOf(bench) })),
  { name: 'reproduce', module: 'dist/test/bench/reproduce.js' },
];

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
  await inLanes(commands, availableParallelism(), async ({ name, module }) => {
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
  const { output } = await ended('dist/test/bench/inner-loops/bench-peers.js', '--help');
  expect(output).toMatch(/^ {2}--rounds VALUE +how often everything is measured, in turns \[5\]$/m);
  expect(output).toMatch(/^ {2}--output VALUE +folder .* \[infra\/results\/\]$/m);
  expect(output).toMatch(/^ {2}--python VALUE +a Python[^[]*$/m);
});

test('an unknown option is a usage error', async () => {
  const { code, diagnostics } = await ended('dist/test/fuzz/fuzz.js', '--ghost', '9');
  expect(code, diagnostics).toBe(2);
  expect(diagnostics).toContain("Unknown option '--ghost'");
  expect(diagnostics).toContain('npm run fuzz -- --help');
});

test('the entry with the longest name is run', async () => {
  const words = ['bench', 'serving', 'kernel', '--ghost'];
  const { code, diagnostics } = await ended('dist/test/bench/bench.js', ...words);
  expect(code, diagnostics).toBe(2);
  expect(diagnostics).toContain('`npm run bench -- serving kernel --help` lists the options');
});

test.each([
  [
    '../deployment/images/check-images.js',
    ...['--image', 'ghost', 'one of coordinator, server, worker'],
  ],
  ['../fuzz/fuzz.js', '--inputs', 'abc', 'a whole number from 1 to'],
  ['../simulation/run-seeds.js', '--seeds', '5..4', 'the first and the last seed, as in 0..999'],
  ['scaling/scaling-bench.js', '--length', '', 'a number above 0'],
])('%s refuses %s "%s" as a usage error', async (module, option, value, expected) => {
  const { code, output, diagnostics } = await ended(`dist/test/bench/${module}`, option, value);
  expect([code, output], diagnostics).toEqual([2, '']);
  const lines = diagnostics.split('\n');
  expect(lines[0]).toBe(`error: ${option} cannot have this value`);
  expect(diagnostics).toContain(`expected: ${expected}`);
  expect(lines).toContain(`  found:    ${value === '' ? 'nothing' : value}`);
  expect(diagnostics).toMatch(/-- .*--help` lists the options/);
  expect(lines).toHaveLength(6);
});
