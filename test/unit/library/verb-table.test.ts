/** One entry of the table of verbs is a function of the library and a command with options, help and exit codes. */

import { describe, expect, test } from 'vitest';
import { z } from 'zod';
import {
  decimal,
  flag,
  integer,
  oneOf,
  text,
  texts,
} from '../../../coordinator/runs/request-fields.js';
import { runCommand } from '../../../infra/cli/program.js';
import { call } from '../../../infra/library/verb.js';
import type { RunContext } from '../../../coordinator/runs/run-context.js';
import { QianmoError } from '../../../shared/base/errors.js';
import { noticeEvent, warningEvent } from '../../../shared/events/run-events.js';
import { expectFailureOf } from '../../fixtures/failures.js';

const entry = {
  request: z.strictObject({
    runs: texts('<run> names'),
    edges: z.array(integer(1, 9)).describe('<edges> several numbers').optional(),
    server: text('<url> an address', { variable: 'QIANMO_TEST_SERVER' }).optional(),
    kind: oneOf(['plain', 'deep'], '<kind> one word').default('plain'),
    dryRun: flag('change nothing'),
    columns: z.strictObject({ reward: text('<column> the reward').default('reward') }).prefault({}),
  }),
  about: 'try an entry',
  operands: ['runs'] as const,
  extra: { share: decimal({ from: 0, upTo: 1 }, '<share> a share').optional() },
  help: '\nExample:\n  qianmo try-entry a',
};

const tryEntry = call('tryEntry', {
  ...entry,
  command: 'try entry',
  run: () => Promise.resolve((request: z.output<typeof entry.request>) => Promise.resolve(request)),
  show: (result, extra) => ({ text: `tried ${result.runs.length}`, json: { ...result, ...extra } }),
});

call('tryDeeply', {
  ...entry,
  command: 'try entry',
  extra: { deeply: flag('fail after the result') },
  when: 'deeply',
  run: () => Promise.resolve(() => Promise.resolve('deep')),
  show: (result) => ({
    text: result,
    json: result,
    failure: new QianmoError({ kind: 'failed', what: 'it is too deep' }),
  }),
});

call('tryLoudly', {
  ...entry,
  command: 'try entry',
  extra: { loudly: flag('say something at every level, and fail') },
  when: 'loudly',
  run: () =>
    Promise.resolve((_request: unknown, { sink }: RunContext) => {
      sink(noticeEvent('loud', 'a notice'));
      sink(warningEvent('loud', 'something odd'));
      sink({ kind: 'call-ended', call: 'tryLoudly' });
      const cause = new Error('the root', { cause: new Error('its own root') });
      throw new QianmoError({ kind: 'failed', what: 'it is too loud', cause });
    }),
});

async function ended(line: string) {
  let [output, diagnostics] = ['', ''];
  const exitCode = await runCommand(['try', 'entry', ...line.split(' ')], {
    environment: {},
    output: { write: (part) => void (output += part) },
    diagnostics: { write: (part) => void (diagnostics += part) },
  });
  return { exitCode, output, diagnostics };
}

test('the function takes the request', async () => {
  expect(await tryEntry({ runs: ['a'] })).toMatchObject({ kind: 'plain', dryRun: false });
  await expectFailureOf(tryEntry({ runs: [] }), 'usage', { where: 'tryEntry()' });
});

test('the command reads operands, lists, sections, flags and options of its own', async () => {
  const line = 'a b --edges 2,3 --dry-run --reward gain --share 0.5 --format json';
  const { exitCode, output } = await ended(line);
  expect(exitCode).toBe(0);
  expect(JSON.parse(output)).toEqual({
    ...{ runs: ['a', 'b'], edges: [2, 3], kind: 'plain', dryRun: true },
    ...{ columns: { reward: 'gain' }, share: 0.5, format: 'json' },
  });
});

test.each([
  ['a --edges 2,x', '--edges', 'a whole number from 1 to 9', '2,x'],
  ['a --kind odd', '--kind', 'one of plain, deep', 'odd'],
  ['a --share 2', '--share', 'a number from 0 to 1', '2'],
])('%s is refused', async (line, option, expected, found) => {
  const { exitCode, diagnostics } = await ended(line);
  expect(exitCode).toBe(2);
  expect(diagnostics).toContain(`error: ${option} cannot have this value`);
  expect(diagnostics).toContain(`expected: ${expected}`);
  expect(diagnostics).toContain(`found:    ${found}`);
  expect(diagnostics).toContain('`qianmo try entry --help`');
});

test('an option selects another entry, whose failure follows its result', async () => {
  const { exitCode, output, diagnostics } = await ended('a --deeply');
  expect([exitCode, output]).toEqual([1, 'deep\n']);
  expect(diagnostics).toContain('it is too deep');
});

describe('standard error', () => {
  const failure = 'error: it is too loud\n  because:  the root\n';

  test('has notices and warnings', async () => {
    const { exitCode, output, diagnostics } = await ended('a --loudly');
    expect([exitCode, output]).toEqual([1, '']);
    expect(diagnostics).toBe(`a notice\nwarning: something odd\n${failure}`);
  });

  test.each(['-q', '--quiet'])('has only warnings and errors with %s', async (flagGiven) => {
    const { exitCode, diagnostics } = await ended(`a --loudly ${flagGiven}`);
    expect([exitCode, diagnostics]).toEqual([1, `warning: something odd\n${failure}`]);
  });

  test.each(['-v', '--verbose'])('has details and causes with %s', async (flagGiven) => {
    const { exitCode, diagnostics } = await ended(`a --loudly ${flagGiven}`);
    expect(exitCode).toBe(1);
    expect(diagnostics).toContain(
      `a notice\nwarning: something odd\ntryLoudly has ended\n${failure}`,
    );
    const traces = diagnostics.slice(diagnostics.indexOf(failure) + failure.length);
    expect(traces.match(/^(caused by: )?\w+: .*$/gm)).toEqual([
      'QianmoError: it is too loud',
      'caused by: Error: the root',
      'caused by: Error: its own root',
    ]);
    expect(traces).toMatch(/^ +at .*verb-table/m);
  });

  test('cannot be quiet and verbose', async () => {
    const { exitCode, diagnostics } = await ended('a -q -v');
    expect(exitCode).toBe(2);
    expect(diagnostics).toMatch(/-q, --quiet.* cannot be used with .*-v, --verbose/);
  });
});
