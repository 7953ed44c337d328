/** `qianmo compare` on the output of `qianmo evaluate`: two runs of one store, and refusals. */

import { readFile, rm } from 'node:fs/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { ComparisonReportSchema } from '../../../coordinator/scoring/compare-runs.js';
import { parseReport } from '../../../coordinator/scoring/evaluation-report.js';
import { commandRoom, type CommandRoom } from '../../fixtures/commands/command-room.js';

let room: CommandRoom;

beforeAll(async () => {
  room = await commandRoom();
  const evaluation = { innerRates: [0.1], innerSteps: [1], bootstrapSamples: 100 };
  for (const [name, personal] of [
    ['first', ['bias']],
    ['second', ['bias', 'output']],
  ] as const) {
    const arms = ['constant', 'meta-unadapted', 'meta-adapted'];
    const run = await room.config(name, (config) => {
      Object.assign(config, { model: { hiddenWidths: [4], personal } });
      config['evaluation'] = { ...evaluation, arms };
    });
    if (name === 'first') await room.done(['prepare', run]);
    await room.done(['train', run]);
    await room.done(['evaluate', run]);
  }
  await room.copy('first', 'trained');
  await rm(room.path('trained/evaluation.json'));
});
afterAll(() => room.remove());

describe('qianmo compare', () => {
  it('prints JSON with the numbers of the evaluations', async () => {
    const printed = await room.done([
      'compare',
      'first',
      'second',
      '--out',
      'out',
      '--format',
      'json',
    ]);
    const report = ComparisonReportSchema.parse(JSON.parse(printed));
    for (const [index, name] of ['first', 'second'].entries()) {
      const path = room.path(`${name}/evaluation.json`);
      const evaluated = parseReport(await readFile(path, 'utf8'), path);
      const adapted = evaluated.slices[0]?.arms.find(({ arm }) => arm === 'meta-adapted');
      const { metrics, differences } = report.slices[0]?.arms[index] ?? {};
      expect(metrics?.logloss).toBeCloseTo(adapted?.metrics.logloss ?? NaN, 12);
      expect(differences).toHaveLength(index);
    }
    expect(await readFile(room.path('out/comparison.json'), 'utf8')).toBe(printed);
  });
});

describe('qianmo compare refuses', () => {
  it.each<[string, readonly string[], Parameters<CommandRoom['refused']>[1]]>([
    [
      'a run that does not exist',
      ['first', 'nowhere'],
      { exitCode: 2, what: /not evaluated/, where: /nowhere$/, cure: /a run's output/ },
    ],
    [
      'a run that was not evaluated',
      ['first', 'trained'],
      {
        exitCode: 2,
        what: /not evaluated/,
        where: /trained$/,
        cure: /qianmo evaluate/,
      },
    ],
    [
      'one run',
      ['first'],
      { exitCode: 2, what: /at least two runs/, found: /^1$/, cure: /qianmo compare/ },
    ],
  ])('%s', async (_, runs, expected) => {
    await room.refused(['compare', ...runs], expected);
  });

  it('an evaluation whose logits are missing', async () => {
    await room.copy('second', 'bare');
    await rm(room.path('bare/test-logits.safetensors'));
    await room.refused(['compare', 'first', 'bare'], {
      exitCode: 1,
      what: /no logits of its test rows/,
      where: /bare\/test-logits\.safetensors$/,
      cure: /evaluate the run again/,
    });
  });
});
