/** The search for a config before anything is trained: its candidates, its time, and how it chooses. */

import { describe, expect, it } from 'vitest';
import { chooseTrial, partsOf } from '../../../coordinator/auto/choose-trial.js';
import {
  candidatesOf,
  commonTraining,
  type DataFacts,
} from '../../../coordinator/auto/search-space.js';
import { mayBeginTrial, timeShares } from '../../../coordinator/auto/time-budget.js';
import { choiceSentence } from '../../../coordinator/reports/sweep-document.js';
import { standardErrorsAllowed, trialsOnRung } from '../../../coordinator/sweep/safe-trials.js';
import { searchBudgetOf } from '../../../shared/config/auto-config.js';
import { checkedRunConfig, parseRunConfig } from '../../../shared/config/load-run-config.js';
import { configHash, type RunConfig } from '../../../shared/config/run-config.js';
import { recordOf } from '../../fixtures/evaluation/recorded-search.js';

const DATA = {
  logs: 'log.csv',
  store: 'store',
  task: 'adgroup',
  label: { column: 'click' },
  features: [
    { name: 'user', kind: 'category' },
    { name: 'slot', kind: 'category' },
    { name: 'hour', kind: 'category' },
  ],
};
const FACTS: DataFacts = {
  categories: [
    { name: 'user', rowCount: 5000 },
    { name: 'slot', rowCount: 5 },
    { name: 'hour', rowCount: 25 },
  ],
  trainTaskCount: 640,
  validationTaskCount: 160,
  queryRowsPerTask: 40,
  impressions: 32_000,
  clickRate: 0.02,
  segment: null,
};

const configOf = (sections: object): RunConfig =>
  checkedRunConfig({ run: 'tiny', seed: 1, output: 'out', data: DATA, ...sections }, 'run.yaml');

describe('candidates of a search', () => {
  it('are valid run configs, all different, and the same for the same seed', () => {
    const candidates = candidatesOf(FACTS, 60, 7);
    const training = commonTraining(FACTS);
    const hashes = candidates.map(({ model, method, training: own }) =>
      configHash(configOf({ model, method, training: { ...training, ...own } })),
    );
    expect(new Set(hashes).size).toBe(60);
    expect(candidatesOf(FACTS, 60, 7)).toEqual(candidates);
    expect(candidatesOf(FACTS, 60, 8)).not.toEqual(candidates);
  });

  it('begin alike for every seed, with different ways to adapt', () => {
    const first = candidatesOf(FACTS, 8, 1).map(({ words }) => words);
    expect(candidatesOf(FACTS, 8, 2).map(({ words }) => words)).toEqual(first);
    expect(new Set(first.map(({ adapts }) => adapts)).size).toBe(3);
    const modelsOf = (trainTaskCount: number) =>
      candidatesOf({ ...FACTS, trainTaskCount }, 3, 1).map(({ words }) => words['model']);
    expect(modelsOf(100)).toEqual(['wide deepfm', 'wide deepfm', 'encodings']);
    expect(modelsOf(99)).toEqual(['encodings', 'encodings', 'wide deepfm']);
  });

  it('generate blocks in the second trial, unless few adgroups train', () => {
    const adaptsOf = (trainTaskCount: number) =>
      candidatesOf({ ...FACTS, trainTaskCount }, 60, 1).map(({ words }) => words['adapts']);
    expect(adaptsOf(100).indexOf('generated blocks')).toBe(1);
    expect(adaptsOf(99)).not.toContain('generated blocks');
  });

  it('train a ridge regression over encodings to its end, pulled as by twenty impressions', () => {
    const ridges = (facts: DataFacts) =>
      candidatesOf(facts, 60, 1).filter(({ words }) => words['regularisation'] === 'ridge');
    const common = commonTraining(FACTS);
    for (const { model, method, training, words } of ridges(FACTS)) {
      expect(words['model']).toBe('encodings');
      const config = configOf({ model, method, training: { ...common, ...training } });
      // 20 / 32,000
      expect(config.training).toMatchObject({ ridge: 0.000625, weightDecay: 0 });
      expect(config.training.earlyStopping).toBeUndefined();
    }
    expect(ridges(FACTS).length).toBeGreaterThan(1);
    // A pull of the whole of the evidence is the strongest.
    expect(ridges({ ...FACTS, impressions: 5 })[0]?.training['ridge']).toBe(1);
  });

  it('draw rows for networks that adapt nothing, where outer steps would take all adgroups', () => {
    const drawn = (trainTaskCount: number) =>
      candidatesOf({ ...FACTS, trainTaskCount }, 60, 1).filter(
        ({ training }) => training['rowsPerOuterStep'] !== undefined,
      );
    for (const { words, method } of drawn(99)) {
      expect(words).toMatchObject({ draws: 'rows', adapts: 'nothing' });
      expect(words['model']).toMatch(/deepfm|dcn/);
      expect(method).toEqual({ kind: 'global' });
    }
    expect(drawn(99).length).toBeGreaterThan(5);
    // Elsewhere in one of the first, at the lower rate.
    expect(drawn(100).map(({ words }) => [words['model'], words['rate']])).toEqual([
      ['wide deepfm', '0.002'],
    ]);
    const given = candidatesOf({ ...FACTS, trainTaskCount: 99, areDrawsGiven: true }, 60, 1);
    for (const { training } of given) expect(training).not.toHaveProperty('rowsPerOuterStep');
  });

  it('encode the narrow categories, at the click rate of the data', () => {
    const encoding = candidatesOf(FACTS, 12, 1).find(
      ({ words }) => words['support inputs'] === 'rate and values',
    );
    expect(encoding?.model['supportInputs']).toEqual({
      ...{ clickRate: true, count: true, targetEncodings: ['hour', 'slot'] },
      ...{ priorRate: 0.02, smoothing: 100 },
    });
  });

  it('train linear models at higher rates, those of encodings alone at the highest', () => {
    const ratesOf = (wanted: string): Set<string | undefined> =>
      new Set(
        candidatesOf(FACTS, 200, 1)
          .filter(({ words }) => words['model'] === wanted)
          .map(({ words }) => words['rate']),
      );
    expect(candidatesOf(FACTS, 3, 1)[2]?.words).toMatchObject({ model: 'encodings', rate: '0.05' });
    expect(ratesOf('deepfm')).toEqual(new Set(['0.002', '0.005', '0.01']));
    expect(ratesOf('logistic')).toEqual(new Set(['0.01', '0.02', '0.05']));
  });

  it('leave out shifts of values where no category is narrow', () => {
    const facts = { ...FACTS, categories: [{ name: 'user', rowCount: 5000 }] };
    for (const { model, method } of candidatesOf(facts, 30, 1))
      expect(configOf({ model, method }).method).not.toHaveProperty('levelShift.features');
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
    // Few tasks are all in every outer step, as far as its rows allow.
    const few = { outerSteps: 200, tasksPerOuterStep: 64 };
    expect(trainingOf({ trainTaskCount: 99 })).toMatchObject(few);
    expect(trainingOf({ trainTaskCount: 5, queryRowsPerTask: 8192 })).toMatchObject({
      tasksPerOuterStep: 5,
    });
    expect(trainingOf({ trainTaskCount: 99, queryRowsPerTask: 1024 })).toMatchObject({
      tasksPerOuterStep: 32,
    });
    expect(trainingOf({ queryRowsPerTask: 3000 })).toMatchObject({ tasksPerOuterStep: 10 });
  });
});

describe('the choice of a search', () => {
  const complex = configOf({ model: { personal: ['bias', 'output'] } });
  const simple = configOf({
    model: { kind: 'logistic', hiddenWidths: [], personal: [] },
    method: { kind: 'global' },
  });
  const parts = { t01: partsOf(complex), t02: partsOf(simple), t03: partsOf(simple) };
  const choose = (losses: Parameters<typeof recordOf>[0], options = {}) =>
    chooseTrial(recordOf(losses, { ...options, parts }));
  const toTheEnd = (losses: readonly number[]) => [losses, losses, losses];

  it('counts the parts of a config', () => {
    // Values, a network, factors and two blocks; values alone; and not even these.
    const encodings = { model: simple.model, method: simple.method };
    const training = { trainable: ['bias', 'numbers'] };
    expect([partsOf(complex), partsOf(simple)]).toEqual([5, 1]);
    expect(partsOf(configOf({ ...encodings, training }))).toBe(0);
    const shifted = { method: { kind: 'maml', levelShift: { features: ['slot'] } } };
    expect(partsOf(configOf({ ...shifted, model: { personal: [] } }))).toBe(5);
  });

  it('says how far each trial is above the lowest', () => {
    // D = (1 + 3) / 4 = 1; d - D n = -1, 1 with n = 2, 2; SE = sqrt(2 / 1 * 2) / 4 = 0.5.
    const losses = { t01: toTheEnd([2, 2]), t02: toTheEnd([3, 5]) };
    expect(choose(losses, { impressions: [2, 2] }).compared).toEqual([
      { trial: 't02', difference: 1, standardError: 0.5 },
      { trial: 't01', difference: 0, standardError: 0 },
    ]);
  });

  it('takes the lowest loss where a single adgroup is scored', () => {
    const losses = { t01: toTheEnd([2]), t02: toTheEnd([3]) };
    expect(choose(losses, { impressions: [2] }).trial.name).toBe('t01');
  });

  it('takes the simpler of two that are as good as one standard error can tell', () => {
    const chosen = choose({
      t01: toTheEnd([1, 1, 1, 1]),
      t02: toTheEnd([1.5, 0.7, 1.5, 0.7]),
    });
    expect(chosen.trial.name).toBe('t02');
    expect(chosen.compared.map(({ trial }) => trial)).toEqual(['t02', 't01']);
  });

  it('takes the lowest loss where the simpler one is clearly above it', () => {
    const losses = { t01: toTheEnd([1, 1, 1, 1]), t02: toTheEnd([1.1, 1.2, 1.1, 1.2]) };
    const chosen = choose(losses);
    expect(chosen.trial.name).toBe('t01');
    const compared = [...chosen.compared];
    const best = { trial: 't01', validationLogloss: 1, config: '', compared };
    const cell = { kind: 'inner-steps' as const, innerRate: 1, innerSteps: 0 };
    expect(choiceSentence({ ...recordOf(losses), best: { ...best, cell } })).toMatch(
      /^t01 has the lowest logloss, and no trial with fewer parts/,
    );
  });

  it('takes the lower loss of equally many parts, and no trial that ended before the last rung', () => {
    expect(
      choose({
        t02: toTheEnd([1.01, 1, 1.01, 1]),
        t03: toTheEnd([1, 1, 1, 1]),
        t01: [[0.1, 0.1, 0.1, 0.1]],
      }).trial.name,
    ).toBe('t03');
  });
});

describe('trials that are as good as few adgroups can tell', () => {
  it('are within more standard errors, the fewer adgroups have most of the impressions', () => {
    // (1 + 1)^2 / (1 + 1) = 2 adgroups, one degree of freedom: 1 + 1/2 + 1/4, as for fewer.
    expect(standardErrorsAllowed([1, 1])).toBe(1.75);
    expect(standardErrorsAllowed([1, 1_000_000])).toBe(1.75);
    // (4 * 1 + 4)^2 / (4 * 1 + 16) = 3.2 adgroups: 1 + 1/4.4 + 1/19.36.
    expect(standardErrorsAllowed([1, 1, 1, 1, 4])).toBeCloseTo(1.27893, 5);
    expect(standardErrorsAllowed(new Array<number>(500).fill(7))).toBeCloseTo(1, 2);
  });

  it('count as equal where one adgroup makes all of the difference', () => {
    // D = 0.8 / 4 = 0.2, d - D = 0.6, -0.2, -0.2, -0.2 and SE = sqrt(4 / 3 * 0.48) / 4 = 0.2; with a
    // thousandth more of difference elsewhere D is above SE.
    const lossesOf = {
      t01: [[1, 1, 1, 1]],
      t02: [[1.8, 1.001, 1, 1]],
      t03: [[1.8, 1.5, 1.4, 1.4]],
    };
    const parts = { t01: 4, t02: 0, t03: 0 };
    const record = recordOf(lossesOf, { parts });
    expect(trialsOnRung(record, 1).map(({ name }) => name)).toEqual(['t01', 't02']);
    const two = recordOf({ t01: lossesOf.t01, t02: lossesOf.t02 }, { parts });
    // Half of two: the lowest alone would continue, and the safest does beside it.
    expect(trialsOnRung(two, 1).map(({ name }) => name)).toEqual(['t01', 't02']);
    const clear = recordOf({ t01: lossesOf.t01, t03: lossesOf.t03 }, { parts });
    expect(trialsOnRung(clear, 1).map(({ name }) => name)).toEqual(['t01']);
  });
});

describe('trials that continue', () => {
  it('are the lowest and the first candidates that cannot be told from it, not the next lower ones', () => {
    // D = 0.0125 and SE = 0.0025 for t02, which is clearly above; 0.075 and 0.275 for t01.
    const record = recordOf({
      t01: [[1.6, 0.6, 1.5, 0.6]],
      t02: [[1.01, 1.01, 1.01, 1.02]],
      t03: [[1.02, 1.02, 1.02, 1.03]],
      t04: [[1, 1, 1, 1]],
    });
    expect(trialsOnRung(record, 1).map(({ name }) => name)).toEqual(['t04', 't01']);
    // With a budget of time, the others follow while there is some.
    const search = { budgetMinutes: 10, impressions: [1, 1, 1, 1] };
    expect(trialsOnRung({ ...record, search }, 1).map(({ name }) => name)).toEqual([
      ...['t04', 't01', 't02', 't03'],
    ]);
    const { search: _named, ...sweep } = record;
    expect(trialsOnRung(sweep, 1).map(({ name }) => name)).toEqual(['t04', 't02']);
  });
});

describe('the time of a search', () => {
  it('is shared out by outer steps', () => {
    // 8 * 50, 4 * 50 and 2 * 100 outer steps.
    expect(timeShares(recordOf({}).rungs)).toEqual([0.5, 0.75, 1]);
  });

  it('begins a trial that would end within the share of its rung', () => {
    const losses = [1, 1, 1, 1];
    const budgetMinutes = 6;
    const two = recordOf({ t01: [losses], t02: [losses] }, { budgetMinutes });
    const three = recordOf({ t01: [losses], t02: [losses], t03: [losses] }, { budgetMinutes });
    expect([mayBeginTrial(two, 0, 0), mayBeginTrial(three, 0, 0)]).toEqual([true, false]);
    // One that runs has taken no time in the record yet.
    expect(mayBeginTrial(two, 0, 1)).toBe(false);
    // Every rung begins one, whatever it takes.
    expect(mayBeginTrial(recordOf({ t01: [losses] }, { budgetMinutes: 0.1 }), 1, 0)).toBe(true);
    expect(mayBeginTrial(recordOf({ t01: [losses], t02: [losses], t03: [losses] }), 0, 0)).toBe(
      true,
    );
  });

  it('continues with the same share of those that it began', () => {
    const record = recordOf({ t01: [[3]], t02: [[1]], t03: [[2]], t04: [] }, { impressions: [1] });
    expect(trialsOnRung(record, 1).map(({ name }) => name)).toEqual(['t02', 't03']);
  });

  it('is ten minutes, or none where trials are counted', () => {
    expect(searchBudgetOf({})).toEqual({ trialsMax: 16, minutes: 10 });
    expect(searchBudgetOf({ trialsMax: 4 })).toEqual({ trialsMax: 4, minutes: null });
    expect(searchBudgetOf({ budgetMinutes: 3 }, { trialsMax: 5 })).toEqual({
      ...{ trialsMax: 5, minutes: 3 },
    });
  });
});

describe('method: auto', () => {
  it.each(['auto', '{ kind: auto }'])('%s is the section auto', (method) => {
    const text = JSON.stringify({ run: 'tiny', seed: 1, output: 'out', data: DATA });
    const yaml = `${text.slice(0, -1)}, "method": ${method === 'auto' ? '"auto"' : '{"kind":"auto"}'}}`;
    expect(parseRunConfig(yaml, 'run.yaml').auto).toEqual({});
    expect(parseRunConfig(text, 'run.yaml').auto).toBeUndefined();
  });

  it('encodes every category across tasks, and pairs of a few', () => {
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
});
