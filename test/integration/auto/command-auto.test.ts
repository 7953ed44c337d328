/** `qianmo auto` on a tiny store: data alone in, one trained run and its config out. */

import { readFile, writeFile } from 'node:fs/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { SweepRecordSchema, type SweepRecord } from '../../../coordinator/sweep/sweep-record.js';
import { loadRunConfig } from '../../../shared/config/load-run-config.js';
import { commandRoom, type CommandRoom } from '../../fixtures/commands/command-room.js';

let room: CommandRoom;
let data: string;

beforeAll(async () => {
  room = await commandRoom();
  data = await room.config('data', (config) => {
    config['model'] = undefined;
    config['method'] = 'auto';
    config.data['taskSplit'] = { by: 'hash', validationShare: 0.3, testShare: 0.2 };
    Object.assign(config.training, {
      outerSteps: 8,
      tasksPerOuterStep: 6,
      earlyStopping: { everyOuterSteps: 2, patience: 9 },
    });
  });
  await room.done(['prepare', data]);
});
afterAll(() => room.remove());

function withoutTimes({ trials, ...record }: SweepRecord): unknown {
  const scoresOf = ({ scores }: SweepRecord['trials'][number]) =>
    scores.map(({ spentMs: _time, ...score }) => score);
  return { ...record, trials: trials.map((trial) => ({ ...trial, scores: scoresOf(trial) })) };
}

describe('qianmo auto', () => {
  it('is named by the commands that need its choice', () =>
    room.refused(['train', data, '--in-process'], {
      exitCode: 2,
      what: /leaves model, method and training to a search/,
      cure: /qianmo auto run\.yaml.*data\/auto\/best\.yaml/,
    }));

  it('ends with a trained run, whose config trains the same parameters again', async () => {
    const search = ['auto', data, '--trials-max', '3', '--in-process', '--format', 'json'];
    const record = SweepRecordSchema.parse(JSON.parse(await room.done(search)));
    const best = record.trials.find(({ name }) => name === record.best?.trial);
    expect(record.trials.map(({ scores }) => scores.length).sort()).toEqual([1, 1, 3]);
    expect(record.search).toMatchObject({ budgetMinutes: null });
    expect(await readFile(room.path('data/auto/auto.html'), 'utf8')).toContain('The choice');

    const bestFile = room.path('data/auto/best.yaml');
    const config = await loadRunConfig(bestFile);
    const again = { ...config, run: 'again', output: 'again' };
    await room.write('again.yaml', JSON.stringify(again));
    const digest = best?.scores.at(-1)?.metaDigest ?? 'none';
    await room.done(['train', 'again.yaml', '--in-process']);
    const arms = { ...config.evaluation, arms: ['constant', 'meta-unadapted'] };
    await room.write('again.yaml', JSON.stringify({ ...again, evaluation: arms }));
    await room.done(['evaluate', 'again.yaml', '--in-process']);
    expect(await readFile(room.path('again/evaluation.json'), 'utf8')).toContain(digest);

    await room.refused(search, {
      exitCode: 2,
      what: /contains a finished sweep/,
      where: /data\/auto\/auto\.json$/,
      cure: /--resume .* --fresh/,
    });

    // As if it had been stopped after the first rung, with a checkpoint beyond the second.
    const trials = record.trials.map(({ scores, ...trial }) => ({
      ...trial,
      scores: scores.filter(({ rungIndex }) => rungIndex === 0),
    }));
    const stopped = JSON.stringify({ ...record, trials, best: null });
    await writeFile(room.path('data/auto/auto.json'), stopped);
    const resumed = SweepRecordSchema.parse(JSON.parse(await room.done([...search, '--resume'])));
    expect(withoutTimes(resumed)).toEqual(withoutTimes(record));
  });
});
