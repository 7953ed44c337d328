/** The shifted trial of a search: what it is made of, and when it is chosen. */

import { describe, expect, it } from 'vitest';
import { chooseTrial } from '../../../coordinator/auto/choose-trial.js';
import { shiftedTrials } from '../../../coordinator/auto/shifted-trial.js';
import { choiceSentence } from '../../../coordinator/reports/sweep-document.js';
import { trialsOnRung } from '../../../coordinator/sweep/safe-trials.js';
import { beforeEnd } from '../../../coordinator/sweep/sweep-record.js';
import { checkedRunConfig } from '../../../shared/config/load-run-config.js';
import { recordOf } from '../../fixtures/evaluation/recorded-search.js';
import { GLOBAL, LINEAR, OUTPUT, trialOf } from '../../fixtures/evaluation/search-trials.js';

const toTheEnd = (losses: readonly number[]) => [losses, losses, losses];
const EQUAL = toTheEnd([1, 1, 1, 1]);
/** D = 0.05 and SE = 0.029: 1.73 of it. */
const BETWEEN = toTheEnd([1, 1.1, 1, 1.1]);
/** D = 0.15, SE = 0.029: more than five of it. */
const APART = toTheEnd([1.1, 1.2, 1.1, 1.2]);

describe('the shifted trial of a search', () => {
  it('starts from the choice, and nothing but the level of an adgroup adapts', () => {
    const trials = [trialOf('t01', LINEAR), { ...trialOf('a01', LINEAR), parts: 3 }];
    const averages = { a01: ['t01', 't02'] };
    const [shifted, ...others] = shiftedTrials(
      recordOf({ t01: EQUAL, a01: EQUAL }, { averages }),
      ...([trials, OUTPUT] as const),
    );
    expect(others).toEqual([]);
    expect(shifted).toMatchObject({
      ...{ name: 's01', shiftOf: 'a01', parts: 4, settings: { 'made of': 'a01 and a shift' } },
      config: {
        ...{ run: 'tiny-auto-s01', output: 'out/auto/trials/s01' },
        model: { kind: 'logistic', personal: [] },
        method: { kind: 'maml', levelShift: true, innerRate: 1 },
        training: { outerSteps: 0, startFrom: 'out/auto/trials/a01' },
      },
    });
    expect(shifted?.config.training).not.toHaveProperty('earlyStopping');
    expect(checkedRunConfig(shifted?.config, 'best.yaml')).toEqual(shifted?.config);
  });

  it('is left out where the choice adapts, has an embedding of adgroups or is gone', () => {
    const record = recordOf({ t01: EQUAL });
    const shiftOf = (model: object, method: object, name = 't01') =>
      shiftedTrials(record, [trialOf(name, model, method)], OUTPUT);
    const embedded = {
      ...{ kind: 'deepfm', embeddingWidth: 4, hiddenWidths: [8] },
      ...{ personal: ['adgroupEmbedding'], adgroupEmbedding: true },
    };
    expect(shiftOf(LINEAR, GLOBAL)).toHaveLength(1);
    expect(shiftOf({ ...LINEAR, personal: ['bias'] }, GLOBAL)).toHaveLength(1);
    expect(shiftOf(LINEAR, { kind: 'maml', levelShift: true })).toEqual([]);
    expect(shiftOf(embedded, GLOBAL)).toEqual([]);
    expect(shiftOf(LINEAR, GLOBAL, 't02')).toEqual([]);
  });

  it('is chosen unless it is two standard errors above the lowest loss', () => {
    const losses = { t01: EQUAL, t02: BETWEEN, a01: EQUAL };
    const terms = { averages: { a01: ['t01', 't02'] }, shifts: { s01: 'a01' } };
    const good = recordOf({ ...losses, s01: BETWEEN }, terms);
    const chosen = chooseTrial(good);
    expect(chosen.trial.name).toBe('s01');
    expect(chosen.compared.map(({ trial }) => trial)).toEqual(['s01', 'a01', 't01', 't02']);
    const cell = { kind: 'inner-steps' as const, innerRate: 1, innerSteps: 1 };
    const best = { trial: 's01', validationLogloss: 1.05, config: '', cell };
    expect(choiceSentence({ ...good, best: { ...best, compared: [...chosen.compared] } })).toMatch(
      /^s01 is a01 with a shift of each adgroup's level\. a01 is one model with the mean output of t01, t02, .*\. The logloss of s01 is within two standard errors of the lowest, that of a01: 0\.05000 above/,
    );
    expect(chooseTrial(recordOf({ ...losses, s01: APART }, terms)).trial.name).toBe('a01');
  });

  it('is made anew at the end of a search that continues', () => {
    const record = recordOf({ t01: EQUAL, s01: EQUAL }, { shifts: { s01: 't01' } });
    expect(trialsOnRung(record, 0).map(({ name }) => name)).toEqual(['t01']);
    expect(beforeEnd(record).trials.map(({ name }) => name)).toEqual(['t01']);
  });
});
