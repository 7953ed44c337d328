/**
 * `training.startFrom` through the command: a run, and the trials of a sweep, start from the
 * learned parameters of another run. Seen to fail: a sweep that ignores it, a resume that asks for
 * the other run again, a global arm that has to train what only the method has.
 */

import { rm } from 'node:fs/promises';
import { beforeAll, describe, expect, it } from 'vitest';
import { parseReport } from '../../../coordinator/scoring/evaluation-report.js';
import { parseSweepRecord } from '../../../coordinator/sweep/sweep-record.js';
import { commandRoom, type ExpectedFailure } from '../../fixtures/commands/command-room.js';
import { openedOnce } from '../../fixtures/opened.js';

/** Moves no parameter, so a run ends with the parameters it started with. */
const STANDING_STILL = { kind: 'sgd', rate: 1e-60 };

const room = openedOnce(commandRoom);
let baseDigest: string;

function digestIn(output: string): string {
  const digest = /digest ([0-9a-f]{64})/.exec(output)?.[1];
  if (digest === undefined) throw new Error(`no digest in ${output}`);
  return digest;
}

/** A run that starts from `startFrom` and does not move. */
function followingRun(name: string, startFrom: string, model = {}): Promise<string> {
  return room.config(name, (config) => {
    Object.assign(config.training, { startFrom, optimizer: STANDING_STILL });
    Object.assign(config, { model: { ...(config['model'] as object), ...model } });
  });
}

beforeAll(async () => {
  const base = await room.config('base');
  await room.done(['prepare', base]);
  baseDigest = digestIn(await room.done(['train', base]));
});

describe('a run that starts from another', () => {
  it('starts with the parameters of that run, and does not need it after its first checkpoint', async () => {
    await room.copy('base', 'lent');
    const following = await followingRun('following', 'lent');
    const trained = await room.done(['train', following]);
    expect(digestIn(trained)).toBe(baseDigest);
    await rm(room.path('lent'), { recursive: true });
    const resumed = await room.done(['train', following, '--resume']);
    expect(digestIn(resumed)).toBe(baseDigest);
  });

  it('so do the trials of a sweep', async () => {
    const base = await followingRun('swept', 'base');
    const sweep = {
      sweep: 'tiny',
      base,
      grid: { 'method.innerRate': [0.1, 0.3] },
      output: 'sweep',
    };
    await room.write('sweep.yaml', JSON.stringify(sweep));
    const printed = await room.done(['sweep', 'sweep.yaml', '--format', 'json']);
    const { trials } = parseSweepRecord(printed, 'the output');
    const digests = trials.map(({ scores }) => scores.at(-1)?.metaDigest);
    expect(digests).toEqual([baseDigest, baseDigest]);
  });

  it('so does its global arm, without the parameters that only the method trains', async () => {
    const gated = await room.config('gated', (config) => {
      Object.assign(config.training, { startFrom: 'base', trainable: ['preference.bias'] });
      Object.assign(config, { method: { kind: 'paml-gate', innerSteps: 1 } });
      const evaluation = config['evaluation'] as object;
      config['evaluation'] = { ...evaluation, arms: ['global', 'meta-adapted'] };
    });
    await room.done(['train', gated]);
    const printed = await room.done(['evaluate', gated, '--format', 'json']);
    expect(parseReport(printed, 'what was printed').run.globalDigest).toBe(baseDigest);
  });
});

describe('it refuses', () => {
  it.each<[string, string, object, Omit<ExpectedFailure, 'exitCode'>]>([
    [
      'a run that does not exist',
      'nowhere',
      {},
      {
        what: /^training cannot start from this run$/,
        where: /^training\.startFrom: nowhere$/,
        expected: /the same task store/,
        found: /^no checkpoint$/,
        cure: /train that run first/,
      },
    ],
    [
      'a run whose tables have other shapes',
      'base',
      { embeddingWidth: 3 },
      {
        what: /^the run to start from has another model$/,
        where: /^training\.startFrom: base$/,
        expected: /model of this run/,
        found: /\w+ is \[\d+, \d+\], not \[\d+, \d+\]/,
        cure: /the same model section/,
      },
    ],
  ])('%s', async (_, startFrom, model, expected) => {
    const run = await followingRun('refused', startFrom, model);
    await room.refused(['train', run], { exitCode: 2, ...expected });
  });

  it('a run on another task store', async () => {
    const other = await room.config('other', (config) => {
      Object.assign(config.data, { store: 'other-store', rowSplit: { by: 'time' } });
      Object.assign(config.training, { startFrom: 'base' });
    });
    await room.done(['prepare', other]);
    await room.refused(['train', other], {
      exitCode: 2,
      what: /^training cannot start from this run$/,
      where: /^training\.startFrom: base$/,
      found: /another task store/,
      cure: /the same data section/,
    });
  });
});
