/** The averages that a search tries: their members, and when one is chosen. */

import { describe, expect, it } from 'vitest';
import { averageTrials } from '../../../coordinator/auto/average-trials.js';
import { chooseTrial } from '../../../coordinator/auto/choose-trial.js';
import { choiceSentence } from '../../../coordinator/reports/sweep-document.js';
import { trialsOnRung } from '../../../coordinator/sweep/safe-trials.js';
import { beforeEnd } from '../../../coordinator/sweep/sweep-record.js';
import { checkedRunConfig } from '../../../shared/config/load-run-config.js';
import { recordOf } from '../../fixtures/evaluation/recorded-search.js';
import { GLOBAL, LINEAR, OUTPUT, trialOf } from '../../fixtures/evaluation/search-trials.js';

const LEVEL = { kind: 'maml', levelShift: true };
const TOWER = { kind: 'deepfm', embeddingWidth: 4, hiddenWidths: [8], personal: [] };

const toTheEnd = (losses: readonly number[]) => [losses, losses, losses];
const EQUAL = toTheEnd([1, 1, 1, 1]);
/** D = 0.1, d - D = 0.4, -0.4, 0.4, -0.4, SE = sqrt(4 / 3 * 0.64) / 4 = 0.231. */
const NEAR = toTheEnd([1.5, 0.7, 1.5, 0.7]);
/** D = 0.15, d - D = 0.05, -0.05, ..., SE = 0.029: more than five of it apart. */
const APART = toTheEnd([1.1, 1.2, 1.1, 1.2]);
/** D = 0.05 and SE = 0.029: 1.73 of it, more than the 1.21 that are allowed to a choice of four adgroups, and less than two. */
const BETWEEN = toTheEnd([1, 1.1, 1, 1.1]);

describe('the averages of a search', () => {
  it('are of trials within two standard errors of the lowest loss, the lowest first', () => {
    const trials = ['t01', 't02', 't03', 't04'].map((name) => trialOf(name, LINEAR));
    const record = recordOf({ t01: APART, t02: BETWEEN, t03: EQUAL, t04: [[1, 1, 1, 1]] });
    const [average, ...others] = averageTrials(record, trials, OUTPUT);
    expect(others).toEqual([]);
    expect(average).toMatchObject({ name: 'a01', averageOf: ['t03', 't02'] });
    expect(average?.config).toMatchObject({
      ...{ run: 'tiny-auto-a01', output: 'out/auto/trials/a01', method: GLOBAL },
      training: {
        outerSteps: 0,
        startFrom: { average: ['out/auto/trials/t03', 'out/auto/trials/t02'] },
      },
    });
    expect(average?.config.training).not.toHaveProperty('earlyStopping');
    expect(average?.config.training).not.toHaveProperty('trainable');
    // The config can be read again.
    expect(checkedRunConfig(average?.config, 'best.yaml')).toEqual(average?.config);
  });

  it('are one for each method, without models that have no mean', () => {
    const trials = [
      trialOf('t01', TOWER),
      trialOf('t02', TOWER, LEVEL),
      trialOf('t03', LINEAR),
      trialOf('t04', LINEAR, LEVEL),
      trialOf('t05', { ...TOWER, personal: ['bias'] }, LEVEL),
      trialOf('t06', LINEAR, { kind: 'maml', levelShift: { features: ['user'] } }),
    ];
    const losses = Object.fromEntries(trials.map(({ name }) => [name, EQUAL]));
    const found = averageTrials(recordOf(losses), trials, OUTPUT);
    expect(found.map(({ averageOf }) => averageOf)).toEqual([
      ['t01', 't03'],
      ['t02', 't04'],
    ]);
    expect(found.map(({ config }) => config.method.kind)).toEqual(['global', 'maml']);
    const mixed = [trialOf('t01', TOWER), trialOf('t02', { ...TOWER, kind: 'dcn-v2' })];
    expect(averageTrials(recordOf({ t01: EQUAL, t02: EQUAL }), mixed, OUTPUT)).toEqual([]);
  });

  it('have two towers and two linear models at most', () => {
    const models = [TOWER, LINEAR, TOWER, TOWER, LINEAR, LINEAR];
    const trials = models.map((model, index) => trialOf(`t0${index + 1}`, model));
    const losses = Object.fromEntries(trials.map(({ name }) => [name, EQUAL]));
    const [average] = averageTrials(recordOf(losses), trials, OUTPUT);
    expect(average?.averageOf).toEqual(['t01', 't02', 't03', 't05']);
    expect(average?.config.model).toMatchObject({ embeddingWidth: 8, hiddenWidths: [16] });
  });

  it('are of the best network of each of two kinds as well, however far apart they are', () => {
    const GENERATED = { kind: 'encoder', innerSteps: 0, linearWeights: false };
    const personal = ['bias', 'adgroupEmbedding', 'output'];
    const generated = { ...TOWER, adgroupEmbedding: true, personal };
    const trials = [
      trialOf('t01', TOWER),
      trialOf('t02', generated, GENERATED),
      trialOf('t03', LINEAR),
      trialOf('t04', TOWER),
      trialOf('t05', generated, { ...GENERATED, linearWeights: true }),
    ];
    expect(trials.map(({ tower }) => tower?.kind)).toEqual([
      ...['global', 'generated', undefined, 'global', undefined],
    ]);
    const losses = { t01: APART, t02: EQUAL, t03: BETWEEN, t04: EQUAL, t05: EQUAL };
    const found = averageTrials(recordOf(losses), trials, OUTPUT);
    expect(found.map(({ averageOf }) => averageOf)).toEqual([
      ['t04', 't03'],
      ['t02', 't04', 't03'],
    ]);
    const [, average] = found;
    expect(average?.config).toMatchObject({
      model: { embeddingWidth: 8, hiddenWidths: [16], adgroupEmbedding: true, personal },
      method: { ...GENERATED, rowWidth: 32, taskWidth: 16 },
      training: { outerSteps: 0 },
    });
    expect(checkedRunConfig(average?.config, 'best.yaml')).toEqual(average?.config);
    const apart = averageTrials(recordOf({ t01: APART, t02: EQUAL }), trials, OUTPUT);
    expect(apart.map(({ averageOf }) => averageOf)).toEqual([['t02', 't01']]);
    expect(averageTrials(recordOf({ t01: EQUAL, t03: APART }), trials, OUTPUT)).toEqual([]);
  });

  it('leave out what has no mean with the members before it', () => {
    const inputs = { clickRate: true, count: true, priorRate: 0.2 };
    const generated = {
      ...{ ...TOWER, hiddenWidths: [8, 4], adgroupEmbedding: true },
      personal: ['bias', 'adgroupEmbedding', 'output'],
    };
    const trials = [
      trialOf('t01', { ...TOWER, hiddenWidths: [8] }),
      trialOf('t02', {
        ...TOWER,
        hiddenWidths: [8, 4],
        supportInputs: { ...inputs, smoothing: 5 },
      }),
      trialOf('t03', { ...TOWER, hiddenWidths: [4, 2] }),
      trialOf('t04', { ...LINEAR, supportInputs: { ...inputs, smoothing: 9 } }),
      trialOf('t05', { ...TOWER, kind: 'dcn-v2' }),
      trialOf('t06', generated, { kind: 'encoder', innerSteps: 0, linearWeights: false }),
    ];
    const membersOf = (...names: readonly string[]) =>
      averageTrials(
        recordOf(Object.fromEntries(names.map((name) => [name, EQUAL]))),
        trials,
        OUTPUT,
      ).map(({ averageOf }) => averageOf);
    expect(membersOf('t01', 't02', 't03')).toEqual([['t02', 't03']]);
    expect(membersOf('t02', 't05', 't03', 't04')).toEqual([['t02', 't03']]);
    expect(membersOf('t01', 't06', 't02', 't04')).toEqual([
      ['t01', 't04'],
      ['t06', 't02'],
    ]);
  });

  it('have both networks trained to the end, if one of them may be chosen', () => {
    const early = (losses: readonly number[]) => [losses];
    const towers = { t02: 'generated', t04: 'global', t05: 'global' } as const;
    const equal = early([1, 1, 1, 1]);
    const apart = early([1.1, 1.2, 1.1, 1.2]);
    const namesOf = (losses: Parameters<typeof recordOf>[0]) =>
      trialsOnRung(recordOf(losses, { towers }), 1).map(({ name }) => name);
    const worst = early([2, 2, 2, 2]);
    // Five trials: three continue, of which the safest takes the last place.
    expect(namesOf({ t01: equal, t02: equal, t03: equal, t04: worst, t05: apart })).toEqual([
      ...['t01', 't02', 't05'],
    ]);
    expect(namesOf({ t01: equal, t02: apart, t03: equal, t04: worst, t05: apart })).toEqual([
      ...['t01', 't03', 't02'],
    ]);
    // Beside the two of three that continue.
    expect(namesOf({ t01: equal, t02: equal, t04: worst })).toEqual(['t01', 't02', 't04']);
  });

  it('are chosen before a trial of fewer parts, if their loss is not two standard errors above the lowest', () => {
    const parts = { t01: 4, t02: 0 };
    const averages = { a01: ['t01', 't02'] };
    const good = recordOf({ t01: EQUAL, t02: NEAR, a01: NEAR }, { parts, averages });
    const chosen = chooseTrial(good);
    expect(chosen.trial.name).toBe('a01');
    expect(chosen.compared.map(({ trial }) => trial)).toEqual(['a01', 't02', 't01']);
    const cell = { kind: 'inner-steps' as const, innerRate: 1, innerSteps: 0 };
    const best = { trial: 'a01', validationLogloss: 1.1, config: '', cell };
    expect(choiceSentence({ ...good, best: { ...best, compared: [...chosen.compared] } })).toMatch(
      /^a01 is one model with the mean output of t01, t02, .* of the lowest, that of t01: 0\.10000 above/,
    );
    const towers = { t01: 'generated', t02: 'global' } as const;
    const ofKinds = recordOf({ t01: EQUAL, t02: NEAR, a01: NEAR }, { parts, averages, towers });
    expect(
      choiceSentence({ ...ofKinds, best: { ...best, compared: [...chosen.compared] } }),
    ).toMatch(/the mean output of t01, t02, networks that use support rows in two ways\. /);
    const lessSure = recordOf({ t01: EQUAL, t02: NEAR, a01: BETWEEN }, { parts, averages });
    expect(chooseTrial(lessSure).trial.name).toBe('a01');
    const poor = recordOf({ t01: EQUAL, t02: NEAR, a01: APART }, { parts, averages });
    expect(chooseTrial(poor).trial.name).toBe('t02');
  });

  it('are made anew at the end of a search that continues', () => {
    const record = recordOf({ t01: EQUAL, a01: EQUAL }, { averages: { a01: ['t01', 't02'] } });
    expect(trialsOnRung(record, 0).map(({ name }) => name)).toEqual(['t01']);
    expect(beforeEnd(record).trials.map(({ name }) => name)).toEqual(['t01']);
  });
});
