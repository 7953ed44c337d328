/** A search that continues without checkpoints that its end had removed, so that the trial it chooses is trained again. */

import { cp, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import { latestManifestOf } from '../../../coordinator/checkpoints/checkpoint-manifest.js';
import {
  SweepRecordSchema,
  type SweepRecord,
  type TrialScore,
} from '../../../coordinator/sweep/sweep-record.js';
import { FileObjectStore } from '../../../shared/storage/file-object-store.js';
import { compiledLibrary } from '../../fixtures/commands/compiled-library.js';
import { smallLog, smallRun } from '../../fixtures/commands/small-run.js';
import { temporaryFolder, type TemporaryFolder } from '../../fixtures/temporary-folder.js';

const OUTER_STEPS = 4;
const NAMES = ['t01', 't02', 't03'];
const library = await compiledLibrary();

let folder: TemporaryFolder;
let ended: SweepRecord;
beforeAll(async () => {
  folder = await temporaryFolder();
  await writeFile(at('log.csv'), smallLog());
  await library.prepare({ config: search().config });
  ended = await library.auto(search());
  await cp(at('run/auto'), at('ended'), { recursive: true });
});
afterAll(() => folder.remove());

/** The end of a search with less time that chose none of these trials. */
beforeEach(async () => {
  await rm(at('run/auto'), { recursive: true });
  await cp(at('ended'), at('run/auto'), { recursive: true });
  for (const { name } of ended.trials) await rm(checkpointsOf(name), { recursive: true });
});

const at = (path: string): string => join(folder.path, path);
const checkpointsOf = (name: string): string => at(`run/auto/trials/${name}/checkpoints`);

function search() {
  const { data, model: _model, method: _method, training, ...run } = smallRun('run', OUTER_STEPS);
  const taskSplit = { by: 'hash' as const, validationShare: 0.3, testShare: 0.2 };
  const config = {
    ...run,
    data: { ...data, taskSplit, logs: at('log.csv'), store: at('store') },
    training: { ...training, earlyStopping: { everyOuterSteps: 2, patience: 9 } },
    auto: {},
    output: at('run'),
  };
  return { config, trialsMax: 3 };
}

/** Gives trials the checkpoints that they ended with. */
async function restored(names: readonly string[]): Promise<void> {
  for (const name of names)
    await cp(at(`ended/trials/${name}/checkpoints`), checkpointsOf(name), { recursive: true });
}

async function outerStepOf(name: string): Promise<number | null> {
  const manifest = await latestManifestOf(new FileObjectStore({ folder: checkpointsOf(name) }));
  return manifest === null ? null : manifest.outerStep;
}

function lastScoreOf({ trials, best }: SweepRecord, name = best?.trial): TrialScore | undefined {
  return trials.find((trial) => trial.name === name)?.scores.at(-1);
}

test('trains it to its score after it was stopped on the way there, and averages it with no other', async () => {
  const stop = new AbortController();
  const stopped = library.auto(
    { ...search(), resume: true },
    {
      signal: stop.signal,
      onEvent: (event) => {
        if (event.kind === 'progress' && event.stage === 'outer steps of all trials') stop.abort();
      },
    },
  );
  await expect(stopped).rejects.toMatchObject({ kind: 'interrupted' });
  const steps = await Promise.all(NAMES.map(outerStepOf));
  expect([...steps].sort()).toEqual([1, null, null]);
  const [chosen = ''] = NAMES.filter((_name, place) => steps[place] === 1);
  const [other = ''] = NAMES.filter((name) => name !== chosen);
  await restored([other]);
  const resumed = await library.auto({ ...search(), resume: true });
  expect(resumed.trials.map(({ name }) => name)).toEqual(NAMES);
  expect(resumed.best?.trial).toBe(chosen);
  expect(await outerStepOf(chosen)).toBe(OUTER_STEPS);
  expect(lastScoreOf(resumed)).toEqual(lastScoreOf(ended, chosen));
});

test.each([
  ['', () => Promise.resolve()],
  [', also if it was stopped before that score', () => restored(NAMES)],
])('gives it the score of what it has become, where that is another%s', async (_, restore) => {
  await restore();
  const text = await readFile(at('run/auto/auto.json'), 'utf8');
  const record = SweepRecordSchema.parse(JSON.parse(text));
  const elsewhere = (score: TrialScore): TrialScore => ({
    ...{ ...score, metaDigest: 'of another machine' },
    validationLogloss: (score.validationLogloss ?? NaN) + 0.001,
  });
  const trials = record.trials.map((trial) => ({ ...trial, scores: trial.scores.map(elsewhere) }));
  await writeFile(at('run/auto/auto.json'), JSON.stringify({ ...record, trials }));
  const resumed = await library.auto({ ...search(), resume: true });
  const { trial: chosen = '', validationLogloss } = resumed.best ?? {};
  expect(lastScoreOf(resumed)).toEqual(lastScoreOf(ended, chosen));
  expect(validationLogloss).toBe(lastScoreOf(ended, chosen)?.validationLogloss);
  for (const { name } of resumed.trials)
    if (name !== chosen) expect(lastScoreOf(resumed, name)?.metaDigest).toBe('of another machine');
});
