/** `qianmo stream` as a user runs it on a small log: output, files, and stopping. */

import { existsSync } from 'node:fs';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { z } from 'zod';
import type { CommandContext } from '../../../infra/cli/command/command-context.js';
import { streamVerb } from '../../../infra/cli/verbs/stream.js';
import { systemClock } from '../../../shared/base/clock.js';
import { randomStream } from '../../../shared/base/random.js';
import { temporaryFolder, type TemporaryFolder } from '../../fixtures/temporary-folder.js';
import { codeOf } from '../../../test/fixtures/told.js';

let folder: TemporaryFolder;
let config: string;
beforeAll(async () => {
  folder = await temporaryFolder();
  const draws = randomStream(3, 'stream-verb');
  const lines = Array.from({ length: 300 }, (_, row) => {
    const ad = draws.below(6);
    return `${row},${ad},${draws.below(4)},${draws.uniform() < ad / 6 ? 1 : 0}`;
  });
  await writeFile(join(folder.path, 'log.csv'), ['at,ad,user,click', ...lines, ''].join('\n'));
  config = join(folder.path, 'stream.yaml');
  await writeFile(
    config,
    JSON.stringify({
      run: 'small',
      data: { logs: join(folder.path, 'log.csv'), label: { column: 'click' }, time: 'at' },
      slots: [{ name: 'ad' }, { name: 'user' }, { name: 'ad x user', cross: ['ad', 'user'] }],
      candidates: 3,
      segments: 10,
      learned: { rank: 2, windows: 5, epochs: 2 },
      output: join(folder.path, 'out'),
    }),
  );
});
afterAll(() => folder.remove());

function contextOf(printed: string[], signal = new AbortController().signal): CommandContext {
  return {
    clock: systemClock,
    environment: {},
    print: (text) => void printed.push(text),
    outputColumns: 100,
    onEvent: () => undefined,
    showEventsAsLines: () => undefined,
    signal,
    endProgress: () => undefined,
    close: () => undefined,
  };
}

/** As the program fills it in. */
const PLACE = { metricsHost: '127.0.0.1', logFormat: 'text' };

const ReportSchema = z.looseObject({
  run: z.literal('small'),
  judgedRowCount: z.literal(210),
  rules: z.array(z.looseObject({ rule: z.string(), logloss: z.number(), digest: z.string() })),
});

describe('qianmo stream', () => {
  test('prints a table of the five rules, and writes the same figures as JSON', async () => {
    const table: string[] = [];
    await streamVerb.parse([config], { ...PLACE, format: 'table' })(contextOf(table));
    const written = await readFile(join(folder.path, 'out', 'stream.json'), 'utf8');
    const json: string[] = [];
    await streamVerb.parse([config], { ...PLACE, format: 'json' })(contextOf(json));
    expect(JSON.parse(json.join())).toEqual(JSON.parse(written));
    const { rules } = ReportSchema.parse(JSON.parse(written));
    expect(rules.map(({ rule }) => rule)).toEqual(['sgd', 'adagrad', 'ftrl', 'adam', 'learned']);
    const log = join(folder.path, 'out', 'events', 'events-000001.ndjson');
    expect(await readFile(log, 'utf8')).toContain('"code":"rule-tuned"');
    for (const { rule, logloss } of rules)
      expect(table.join()).toMatch(new RegExp(`${rule} +${logloss.toFixed(5)}`));
  });

  test('refuses a prior part with a single time, and writes nothing', async () => {
    const lines = Array.from({ length: 300 }, (_, row) => `0,${row % 6},${row % 4},${row % 2}`);
    const logs = join(folder.path, 'one-time.csv');
    await writeFile(logs, ['at,ad,user,click', ...lines, ''].join('\n'));
    const output = join(folder.path, 'one-time');
    const changed = join(folder.path, 'one-time.yaml');
    const parsed = JSON.parse(await readFile(config, 'utf8')) as { data: object };
    await writeFile(changed, JSON.stringify({ ...parsed, data: { ...parsed.data, logs }, output }));
    await expect(
      streamVerb.parse([changed], { ...PLACE, format: 'table' })(contextOf([])),
    ).rejects.toMatchObject({
      kind: 'data',
    });
    expect(existsSync(output)).toBe(false);
  });

  test('stops on request before it has written anything new', async () => {
    const abort = new AbortController();
    const printed: string[] = [];
    const stopping: CommandContext = {
      ...contextOf(printed, abort.signal),
      onEvent: (event) => codeOf(event) === 'rule-tuned' && abort.abort(),
    };
    await expect(
      streamVerb.parse([config], { ...PLACE, format: 'table' })(stopping),
    ).rejects.toMatchObject({
      kind: 'interrupted',
    });
    expect(printed).toEqual([]);
  });
});
