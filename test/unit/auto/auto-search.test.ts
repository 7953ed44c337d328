/** The search for a config before anything is trained: its candidates, and the means of its trials. */

import { describe, expect, it } from 'vitest';
import {
  candidatesOf,
  commonTraining,
  type DataFacts,
} from '../../../coordinator/sweep/search-space.js';
import { averageTrial, type Trial } from '../../../coordinator/sweep/trials.js';
import { SEARCH_TRIALS_MAX } from '../../../shared/config/auto-config.js';
import { RUN_CONFIG } from '../../../shared/config/load-run-config.js';
import { configHash, type RunConfig } from '../../../shared/config/run-config.js';

const DATA = {
  ...{ logs: 'log.csv', store: 'store', task: 'adgroup', label: { column: 'click' } },
  features: ['user', 'slot', 'hour'].map((name) => ({ name, kind: 'category' })),
};
const FACTS: DataFacts = {
  ...{ trainTaskCount: 640, supportRowsPerTask: 40, queryRowsPerTask: 40, trainRowCount: 50_000 },
  ...{ impressions: 32_000, clickRate: 0.02, segment: null },
};

const configOf = (sections: object): RunConfig =>
  RUN_CONFIG.check({ run: 'tiny', seed: 1, output: 'out', data: DATA, ...sections }, 'run.yaml');

describe('candidates of a search', () => {
  const training = commonTraining(FACTS);
  const candidates = candidatesOf(FACTS, SEARCH_TRIALS_MAX);

  it('are valid run configs, all of different kinds', () => {
    const hashes = candidates.map(({ model, method, training: own, length }) =>
      configHash(configOf({ model, method, training: { ...training, ...length, ...own } })),
    );
    expect(new Set(hashes).size).toBe(candidates.length);
    expect(candidatesOf(FACTS, 2)).toEqual(candidates.slice(0, 2));
    expect(candidates.map(({ words }) => [words['model'], words['adapts']])).toEqual([
      ['deepfm', 'nothing'],
      ['narrow deepfm', 'posterior blocks'],
      ['encodings', 'nothing'],
    ]);
    // 2 prior clicks at a rate of 0.02
    expect(candidates[0]?.model['supportInputs']).toMatchObject({
      priorRate: 0.02,
      smoothing: 100,
    });
  });

  it('weigh fields, and trust the mean of few rows less, where adgroups have many', () => {
    const fieldsOf = (supportRowsPerTask: number) =>
      candidatesOf({ ...FACTS, supportRowsPerTask }, SEARCH_TRIALS_MAX).map(
        ({ model }) => model['interactions'],
      );
    expect(fieldsOf(63)).toEqual([undefined, undefined, undefined]);
    expect(fieldsOf(64)).toEqual([undefined, 'by-field', undefined]);
    const { method } = candidatesOf({ ...FACTS, supportRowsPerTask: 64 }, SEARCH_TRIALS_MAX)[1]!;
    expect(method).toEqual({ kind: 'posterior', coldShare: 0.2, meanShrinkage: 30 });
  });

  it('draw every task about ten times in small outer steps, within bounds', () => {
    const trainingOf = (facts: Partial<DataFacts>) => commonTraining({ ...FACTS, ...facts });
    // 10 * 640 / 16
    const usual = { tasksPerOuterStep: 16 };
    expect(trainingOf({})).toMatchObject({ ...usual, outerSteps: 400 });
    expect(trainingOf({ segment: 'new' })).toHaveProperty('earlyStopping.segment', 'new');
    // 10 * 1362 / 16 = 851, in multiples of 20.
    expect(trainingOf({ trainTaskCount: 1362 })).toMatchObject({ ...usual, outerSteps: 860 });
    // Two passes in the largest number of outer steps, of at most 64 tasks.
    const large = { outerSteps: 1000 };
    expect(trainingOf({ trainTaskCount: 9990 })).toMatchObject({ ...large, tasksPerOuterStep: 20 });
    expect(trainingOf({ trainTaskCount: 1e6 })).toMatchObject({ ...large, tasksPerOuterStep: 64 });
    expect(trainingOf({ trainTaskCount: 5 })).toMatchObject({ tasksPerOuterStep: 5 });
    expect(trainingOf({ queryRowsPerTask: 3000 })).toMatchObject({ tasksPerOuterStep: 10 });
  });
});

it('the outer steps of episodes read the rows about eight times, within bounds', () => {
  const lengthOf = (trainRowCount: number) =>
    candidatesOf({ ...FACTS, trainRowCount }, 2)[1]?.length;
  // 8 * 256,000 / 1024, whichever of them are query rows.
  const earlyStopping = { everyOuterSteps: 100, patience: 3 };
  expect(lengthOf(256_000)).toMatchObject({ outerSteps: 2000, earlyStopping });
  expect(lengthOf(1_280_000)).toMatchObject({ outerSteps: 3200 });
  // A pass of 6 outer steps, and 180 outer steps of patience as with scores every 60.
  const ofFew = { everyOuterSteps: 6, patience: 30 };
  expect(lengthOf(6000)).toMatchObject({ outerSteps: 1200, earlyStopping: ofFew });
});

describe('the mean of trials', () => {
  const LEVEL = { kind: 'posterior' };
  const TOWER = { kind: 'deepfm', embeddingWidth: 4, hiddenWidths: [8], personal: [] };
  const LINEAR = { kind: 'logistic', hiddenWidths: [], personal: [] };
  const trialOf = (name: string, model: object, method: object = { kind: 'global' }): Trial => {
    const training = {
      outerSteps: 40,
      trainable: ['bias', 'user'],
      earlyStopping: { everyOuterSteps: 10 },
    };
    const output = `out/auto/trials/${name}`;
    return { name, settings: {}, config: configOf({ run: name, output, model, method, training }) };
  };
  const meanOf = (...trials: Trial[]): Trial | null =>
    averageTrial(trials, { sweep: 'tiny-auto', output: 'out/auto' }, 'a01');

  it('is a run that starts from them and trains nothing', () => {
    const average = meanOf(trialOf('t03', LINEAR), trialOf('t02', TOWER));
    expect(average).toMatchObject({ name: 'a01', averageOf: ['t03', 't02'] });
    expect(average?.config).toMatchObject({
      ...{ run: 'tiny-auto-a01', output: 'out/auto/trials/a01', method: { kind: 'global' } },
      training: {
        outerSteps: 0,
        startFrom: { average: ['out/auto/trials/t03', 'out/auto/trials/t02'] },
      },
    });
    expect(average?.config.training).not.toHaveProperty('earlyStopping');
    expect(average?.config.training).not.toHaveProperty('trainable');
    // The config can be read again.
    expect(RUN_CONFIG.check(average?.config, 'best.yaml')).toEqual(average?.config);
  });

  it('has no plateau, which would need scores, and keeps the share of the rate for a refresh', () => {
    const [linear, tower] = [trialOf('t03', LINEAR), trialOf('t02', TOWER)];
    const scheduleOf = (schedule: Trial['config']['training']['schedule']) => {
      const training = { ...tower.config.training, schedule };
      const members = [{ ...tower, config: { ...tower.config, training } }, linear];
      return meanOf(...members)?.config.training.schedule;
    };
    const cosine = { warmupOuterSteps: 2, decay: 'cosine', finalShare: 0.25 } as const;
    expect(scheduleOf({ ...cosine, decay: 'plateau' })).toEqual(cosine);
    expect(scheduleOf(cosine)).toEqual(cosine);
  });

  it.each<[string, Trial[]]>([
    [
      'that have posterior blocks each',
      ['t01', 't02'].map((name) => trialOf(name, { ...LINEAR, personal: ['bias'] }, LEVEL)),
    ],
    ['of models without a mean', [trialOf('t01', { ...TOWER, kind: 'dcn-v2' })]],
    [
      'of blocks that steps adapt',
      [trialOf('t01', { ...TOWER, personal: ['bias'] }, { kind: 'fomaml' })],
    ],
    ['of more than two towers', ['t01', 't02', 't03'].map((name) => trialOf(name, TOWER))],
  ])('does not exist for trials %s', (_, trials) => {
    expect(meanOf(...trials)).toBeNull();
  });
});

it('`method: auto` encodes every category across tasks, and pairs of a few', () => {
  const encodingsOf = (data: object): unknown =>
    configOf({ auto: {}, data: { ...DATA, ...data } }).data.targetEncodings?.of;
  expect(encodingsOf({})).toEqual([
    ...['user', 'slot', 'hour'],
    ...[
      ['user', 'slot'],
      ['user', 'hour'],
      ['slot', 'hour'],
    ],
  ]);
  const names = ['a', 'b', 'c', 'd', 'e', 'f', 'g'];
  const features = names.map((name) => ({ name, kind: 'category' }));
  expect(encodingsOf({ features })).toEqual(names);
  // Six and their 15 pairs.
  expect(encodingsOf({ features: features.slice(1) })).toHaveLength(21);
  expect(encodingsOf({ targetEncodings: { of: ['slot'] } })).toEqual(['slot']);
  expect(encodingsOf({ features: [{ name: 'price', kind: 'number' }] })).toBeUndefined();
  expect(configOf({}).data).not.toHaveProperty('targetEncodings');
  expect(configOf({}).data).not.toHaveProperty('trunkRows');
  expect(configOf({ auto: {} }).data.trunkRows).toBe('small-tasks');
});
