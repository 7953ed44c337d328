/** `qianmo sweep` on a tiny store with real inner loops: stop, resume, and refusals. */

import { readFileSync } from 'node:fs';
import { readdir, readFile } from 'node:fs/promises';
import { beforeAll, describe, expect, it } from 'vitest';
import { parseSweepRecord, type SweepRecord } from '../../../coordinator/sweep/sweep-record.js';
import { RUN_CONFIG } from '../../../shared/config/load-run-config.js';
import { loadConfig, parseConfig } from '../../../shared/config/yaml-file.js';
import { SWEEP_CONFIG } from '../../../shared/config/sweep-config.js';
import { commandRoom } from '../../fixtures/commands/command-room.js';
import { smallLog } from '../../fixtures/commands/small-run.js';
import { openedOnce } from '../../fixtures/opened.js';

const room = openedOnce(commandRoom);

/** The example with another base, and with its own grids and halving. */
const EXAMPLE = 'infra/examples/sweep.yaml';
const SWEEP = {
  ...parseConfig(SWEEP_CONFIG, readFileSync(EXAMPLE, 'utf8'), EXAMPLE),
  sweep: 'tiny',
  base: 'base.yaml',
  output: 'sweep',
};

async function sweepFile(changes: Record<string, unknown> = {}): Promise<string> {
  await room.write('sweep.yaml', JSON.stringify({ ...SWEEP, ...changes }));
  return 'sweep.yaml';
}

beforeAll(async () => {
  const base = await room.config('base', (config) => {
    Object.assign(config.training, { outerSteps: 6, optimizer: { kind: 'adam', rate: 0.01 } });
    config['evaluation'] = {
      arms: ['constant', 'meta-unadapted', 'meta-adapted'],
      innerRates: [0.1],
      innerSteps: [1, 2],
      bootstrapSamples: 100,
    };
  });
  await room.done(['prepare', base]);
});

it('qianmo sweep stops, resumes, and leaves the best trial as a run that can be evaluated', async () => {
  const sweep = await sweepFile();
  const first = room.start(['sweep', sweep]);
  await first.saw(/t01 at outer step 1: validation logloss/);
  first.signal('SIGINT');
  const stopped = await first.ended;
  expect(stopped.exitCode, stopped.diagnostics).toBe(4);
  expect(stopped.diagnostics).toMatch(
    /its scores and the checkpoints of unfinished trials are kept[^]*--resume/,
  );
  await room.refused(['sweep', sweep], {
    exitCode: 2,
    what: /contains a sweep that was started before/,
    where: /sweep\/sweep\.json$/,
    cure: /--resume .* --fresh/,
  });

  const printed = await room.done(['sweep', sweep, '--resume', '--format', 'json']);
  const record = parseSweepRecord(printed, 'the output');
  expect(record.rungs).toEqual([
    { outerSteps: 1, trialCount: 12 },
    { outerSteps: 2, trialCount: 4 },
    { outerSteps: 6, trialCount: 1 },
  ]);
  const kept = record.trials.filter(({ scores }) => scores.length === 3).map(({ name }) => name);
  expect(kept).toEqual([record.best?.trial]);
  const saved = await readFile(room.path('sweep/sweep.json'), 'utf8');
  expect(parseSweepRecord(saved, 'sweep.json')).toEqual(record);

  // Eliminated trials have no checkpoint left; every trial has its config, and the record of its training.
  for (const { name } of record.trials) {
    const files = await readdir(room.path(`sweep/trials/${name}`), { recursive: true });
    expect(files.includes('run.yaml'), name).toBe(true);
    const status = await room.done(['status', `sweep/trials/${name}`, '--format', 'json']);
    expect(JSON.parse(status), name).toMatchObject({
      ...{ run: `tiny-${name}`, callName: 'trial', state: 'finished' },
      training: {
        outerStep: record.trials.find((trial) => trial.name === name)?.scores.at(-1)?.outerSteps,
      },
    });
    expect(files.includes('checkpoints/latest.json'), name).toBe(kept.includes(name));
  }
  const best = await loadConfig(RUN_CONFIG, room.path('sweep/best.yaml'));
  expect(best).toMatchObject({ run: `tiny-${kept[0] ?? ''}`, training: { checkpointsKept: 3 } });
  const trained = await room.done(['train', 'sweep/best.yaml', '--resume']);
  const digest = record.trials.find(({ name }) => name === kept[0])?.scores[2]?.metaDigest;
  expect(trained).toContain(digest);

  const table = await room.done(['sweep', sweep, '--resume']);
  expect(table).toMatch(/^config +sweep\/best\.yaml$/m);
  await room.done(['evaluate', 'sweep/best.yaml']);
});

/** A record as `--format json` prints it, and the messages printed meanwhile. */
async function swept(
  sweep: string,
  option: '--resume' | '--fresh',
): Promise<{ record: SweepRecord; diagnostics: string }> {
  const args = ['sweep', sweep, option, '--format', 'json'];
  const { exitCode, output, diagnostics } = await room.ended(args);
  expect(exitCode, diagnostics).toBe(0);
  return { record: parseSweepRecord(output, 'the output'), diagnostics };
}

/** The small log with bags of one or two members. */
function logWithBags(): string {
  const [head = '', ...rows] = smallLog().trim().split('\n');
  return [`${head},tags`, ...rows.map((row, i) => `${row},${i % 2 === 0 ? 'a' : 'a|b'}`)].join(
    '\n',
  );
}

describe('a trial of qianmo sweep', () => {
  it('reads the tasks as its own model does, not as that of the base', async () => {
    await room.write('bags.csv', logWithBags());
    const base = await room.config('bags', ({ data }) => {
      Object.assign(data, { logs: 'bags.csv', store: 'bag-store' });
      data['features'] = [{ name: 'tags', kind: 'bag', separator: '|', lengthMax: 2 }];
    });
    await room.done(['prepare', base]);
    const sweep = await sweepFile({
      ...{ base, output: 'padding', halving: undefined },
      grid: { 'model.padding': ['masked', 'trained'] },
    });
    const { record } = await swept(sweep, '--fresh');
    const scores = record.trials.map(({ scores: [score] }) => score?.validationLogloss ?? null);
    expect(scores).not.toContain(null);
    expect(new Set(scores).size).toBe(2);
  });

  it('is scored where its rung ends, even if it was trained further while the sweep was stopped', async () => {
    const sweep = await sweepFile({
      ...{ output: 'further', concurrentTrials: 1, halving: { eta: 4, rungs: 2 } },
      grid: { seed: [1, 2, 3, 4] },
    });
    const first = room.start(['sweep', sweep]);
    await first.saw(/t01 at outer step 2: validation logloss/);
    first.signal('SIGINT');
    expect((await first.ended).exitCode).toBe(4);
    await room.done(['train', 'further/trials/t04/run.yaml', '--resume']);

    const { record, diagnostics } = await swept(sweep, '--resume');
    expect(diagnostics).toMatch(
      /t04 was trained to outer step 6 .* scores it at 2: it is trained again/,
    );
    expect(record).toEqual((await swept(sweep, '--fresh')).record);
  });
});

it.each<[string, Record<string, unknown>, RegExp, RegExp]>([
  ['an empty grid', { grid: {} }, /nothing to choose from/, /grid/],
  ['a path that does not exist', { grid: { 'method.x': [1, 2] } }, /fields that are wrong/, /t01/],
  ['a base that does not exist', { base: 'nowhere.yaml' }, /cannot be read/, /nowhere\.yaml/],
  [
    'another sweep in its output',
    { output: 'sweep', grid: { seed: [1, 2] } },
    /the output contains/,
    /./,
  ],
])('qianmo sweep refuses %s', async (_, changes, what, where) => {
  const sweep = await sweepFile({ output: 'other', ...changes });
  await room.refused(['sweep', sweep], { exitCode: 2, what, where, cure: /./ });
});
