/** `qianmo auto` on a tiny store: data alone in, one trained run and its config out. */

import { readdir, readFile, writeFile } from 'node:fs/promises';
import { beforeAll, describe, expect, it } from 'vitest';
import { z } from 'zod';
import { decodeTestLogits } from '../../../coordinator/scoring/test-logits.js';
import { at } from '../../../shared/base/arrays.js';
import type { ArmName } from '../../../shared/config/arms.js';
import { parseSweepRecord, type SweepRecord } from '../../../coordinator/sweep/sweep-record.js';
import { RUN_CONFIG } from '../../../shared/config/load-run-config.js';
import { loadConfig } from '../../../shared/config/yaml-file.js';
import { commandRoom } from '../../fixtures/commands/command-room.js';
import { openedOnce } from '../../fixtures/opened.js';

const ExportSchema = z.looseObject({ evaluatedDifferenceMax: z.number() });

const room = openedOnce(commandRoom);
let data: string;

beforeAll(async () => {
  data = await room.config('data', (config) => {
    config['model'] = undefined;
    config['method'] = 'auto';
    config.data['taskSplit'] = { by: 'hash', validationShare: 0.3, testShare: 0.2 };
    Object.assign(config.training, {
      outerSteps: 4,
      tasksPerOuterStep: 6,
      earlyStopping: { everyOuterSteps: 2, patience: 9 },
    });
    // One setting of the arms that adapt.
    const grid = { innerRates: [0.1], innerSteps: [1] };
    const arms = ['constant', 'global', 'meta-unadapted', 'meta-adapted', 'meta-chosen'];
    Object.assign(config, { evaluation: { arms, ...grid } });
  });
  await room.done(['prepare', data]);
});

describe('qianmo auto', () => {
  it('is named by the commands that need its choice', () =>
    room.refused(['train', data], {
      exitCode: 2,
      what: /leaves model, method and training to a search/,
      cure: /qianmo auto run\.yaml.*data\/auto\/best\.yaml/,
    }));

  it('is the method that check names', async () =>
    expect(await room.done(['check', data])).toContain('run data, method auto'));

  it('tells the outer step at which a trial stopped early', async () => {
    const file = await room.config('early', (config) => {
      Object.assign(config, { model: undefined, method: 'auto' });
      config.data['taskSplit'] = { by: 'hash', validationShare: 0.3, testShare: 0.2 };
      Object.assign(config.training, {
        ...{ outerSteps: 6, tasksPerOuterStep: 6, optimizer: { kind: 'sgd', rate: 50 } },
        earlyStopping: { everyOuterSteps: 1, patience: 1 },
      });
    });
    const search = ['auto', file, '--trials-max', '2', '--format', 'json'];
    const { trials } = parseSweepRecord(await room.done(search), 'the output');
    const [told, found]: [number[], number[]] = [[], []];
    for (const { name, scores } of trials.filter((trial) => trial.name.startsWith('t'))) {
      const folder = room.path(`early/auto/trials/${name}/events`);
      const texts = (await readdir(folder)).map((file) => readFile(`${folder}/${file}`, 'utf8'));
      const lines = (await Promise.all(texts)).join('').split('\n');
      const ends = lines.flatMap((line) =>
        line.includes('"run-finished"') ? [/"outerStep":(\d+)/.exec(line)] : [],
      );
      found.push(Number(ends.at(-1)?.[1]));
      told.push(scores.at(-1)?.outerSteps ?? 0);
    }
    expect(Math.min(...found)).toBeLessThan(6);
    expect(told).toEqual(found);
  });

  it.each(['early.yaml', 'early'])('is what `status %s` tells of', async (run) => {
    const status: unknown = JSON.parse(await room.done(['status', run, '--format', 'json']));
    const output = expect.stringMatching(/early\/auto$/) as string;
    expect(status).toMatchObject({ callName: 'auto', state: 'finished', output });
    expect(await room.done(['status', run])).not.toContain('stage');
    await room.done(['wait', run]);
  });

  it('is not compared itself: the error names what it chose', () =>
    room.refused(['compare', 'early', 'data'], {
      ...{ exitCode: 2, what: /not evaluated/, cure: /auto\/best\.yaml/ },
    }));

  it('ends with one model, which its config makes again and a bundle serves', async () => {
    const search = ['auto', data, '--trials-max', '3', '--format', 'json'];
    const record = parseSweepRecord(await room.done(search), 'the output');
    const best = record.trials.find(({ name }) => name === record.best?.trial);
    expect(record.rungs).toEqual([{ outerSteps: 4, trialCount: 3 }]);
    const trained = record.trials.filter(({ averageOf }) => averageOf === undefined);
    expect(trained.map(({ name }) => name)).toEqual(['t01', 't02', 't03']);
    const lossOf = ({ scores }: SweepRecord['trials'][number]) =>
      scores.at(-1)?.validationLogloss ?? Infinity;
    expect(best && lossOf(best)).toBe(Math.min(...record.trials.map(lossOf)));
    const average = record.trials.find(({ averageOf }) => averageOf !== undefined);
    const averaged = average?.averageOf ?? [];
    expect(averaged).toHaveLength(2);
    expect(await readFile(room.path('data/auto/auto.html'), 'utf8')).toContain(
      `mean of ${averaged.join(', ')}`,
    );

    const config = await loadConfig(RUN_CONFIG, room.path('data/auto/trials/a01/run.yaml'));
    const again = { ...config, run: 'again', output: 'again' };
    await room.write('again.yaml', JSON.stringify(again));
    await room.done(['train', 'again.yaml']);
    await room.done(['evaluate', 'data/auto/best.yaml']);
    const logitsOf = async (file: string, arms: readonly ArmName[]): Promise<Float32Array[]> => {
      await room.done(['evaluate', file]);
      const { output } = await loadConfig(RUN_CONFIG, room.path(file));
      const bytes = await readFile(room.path(`${output}/test-logits.safetensors`));
      const { logits } = decodeTestLogits(bytes, output);
      return arms.map((arm) => logits.get(arm) ?? new Float32Array());
    };
    const adapts = config.method.kind !== 'global';
    const [output = new Float32Array()] = await logitsOf('again.yaml', [
      adapts ? 'meta-unadapted' : 'global',
    ]);
    const digest = average?.scores.at(-1)?.metaDigest ?? 'none';
    expect(await readFile(room.path('again/evaluation.json'), 'utf8')).toContain(digest);
    expect(output.length).toBeGreaterThan(20);
    if (!adapts) {
      const members: Float32Array[] = [];
      for (const name of averaged)
        members.push(...(await logitsOf(`data/auto/trials/${name}/run.yaml`, ['global'])));
      for (const [row, mean] of output.entries())
        expect(mean).toBeCloseTo(members.reduce((sum, of) => sum + at(of, row), 0) / 2, 5);
    }

    const exported = ['export', 'again.yaml', '--format', 'json'];
    const bundle = ExportSchema.parse(JSON.parse(await room.done(exported)));
    expect(bundle.evaluatedDifferenceMax).toBeLessThan(1e-5);

    await room.refused(search, {
      exitCode: 2,
      what: /contains a search/,
      where: /data\/auto\/auto\.json$/,
      cure: /--resume .* --fresh/,
    });

    // The record of a search that was stopped before its last trial. An average of an earlier end is made again.
    const trials = record.trials.map(({ scores, ...trial }) => ({
      ...trial,
      scores: trial.name === 't03' ? [] : scores,
    }));
    const stopped = JSON.stringify({ ...record, trials, best: null });
    await writeFile(room.path('data/auto/auto.json'), stopped);
    const resumed = parseSweepRecord(await room.done([...search, '--resume']), 'the output');
    expect(resumed).toEqual(record);
  });

  it('starts from no average of runs that have none', async () => {
    const config = await loadConfig(RUN_CONFIG, room.path('again.yaml'));
    const [one] = ['data/auto/trials/t01'];
    const startFrom = { average: [one, one] };
    const training = { ...config.training, startFrom };
    const method = { kind: 'global' };
    await room.write(
      'other.yaml',
      JSON.stringify({ ...config, run: 'other', output: 'other', method, training }),
    );
    await room.refused(['train', 'other.yaml'], {
      exitCode: 2,
      what: /these runs have no average/,
      where: /training\.startFrom\.average/,
      found: /hiddenWidths/,
      cure: /give the run these/,
    });
  });
});
