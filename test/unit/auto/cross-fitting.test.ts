/** Training adgroups as judges of a search: their folds, the models without a fold, and which trials they judge. */

import { describe, expect, it } from 'vitest';
import { chooseTrial } from '../../../coordinator/auto/choose-trial.js';
import {
  configWithoutFold,
  crossFittedTrials,
  storeWithoutFold,
  trainingFolds,
} from '../../../coordinator/auto/cross-fitting.js';
import { choiceSentence } from '../../../coordinator/reports/sweep-document.js';
import { crossFittedLosses } from '../../../coordinator/auto/cross-fitted-losses.js';
import { lossSum } from '../../../coordinator/scoring/metrics.js';
import { readFlatRows } from '../../../coordinator/scoring/held-out-rows.js';
import {
  beforeEnd,
  withTrainingLosses,
  type SweepRecord,
} from '../../../coordinator/sweep/sweep-record.js';
import { modelSpecOf } from '../../../shared/models/model-spec.js';
import type { TaskStore } from '../../../shared/tasks/task-store.js';
import { formulaConfig, parametersWithBias } from '../../fixtures/evaluation/formula-evaluation.js';
import { recordOf } from '../../fixtures/evaluation/recorded-search.js';
import { formulaDispatcher, formulaLogits } from '../../fixtures/queue/formula-dispatcher.js';
import { tinyTaskStore } from '../../fixtures/stores/tiny-task-store.js';

const indicesOf = ({ tasks }: Pick<TaskStore, 'tasks'>, split: string): number[] =>
  tasks.filter((task) => task.split === split).map(({ taskIndex }) => taskIndex);

describe('folds of training adgroups', () => {
  const tasks = [2, 3, 5, 7, 11, 13, 17, 19];

  it('have each of them once, and differ by at most one in size', () => {
    const folds = trainingFolds(tasks, 4);
    expect(folds.flat().sort((a, b) => a - b)).toEqual(tasks);
    expect(folds.map((fold) => fold.length)).toEqual([3, 3, 2]);
    expect(trainingFolds(tasks, 4)).toEqual(folds);
    expect(trainingFolds(tasks, 5)).not.toEqual(folds);
    expect(trainingFolds([2, 3], 4)).toHaveLength(2);
  });

  it('judge by models that were trained without them, and stopped by the same validation adgroups', async () => {
    const store = tinyTaskStore({ taskCount: 30 });
    const config = formulaConfig({ method: { kind: 'global' } });
    const folds = trainingFolds(indicesOf(store, 'train'), 1);
    const rows = await Promise.all(folds.map((fold) => readFlatRows(store, fold, 'query')));
    const spec = modelSpecOf(config.model, store.manifest.features, config.method);
    const run = { config, store, spec, storeAddress: 'store' };
    const queue = { dispatcher: formulaDispatcher(store), signal: new AbortController().signal };
    const trained: string[] = [];
    const losses = await crossFittedLosses({ ...run, ...queue }, rows, (without) => {
      const fold = folds[trained.length] ?? [];
      const left = indicesOf(store, 'train').filter((task) => !fold.includes(task));
      expect(indicesOf(without.store, 'train')).toEqual(left);
      expect(indicesOf(without.store, 'validation')).toEqual(indicesOf(store, 'validation'));
      trained.push(without.config.output);
      return Promise.resolve(parametersWithBias(config, store, trained.length));
    });
    expect(trained).toEqual(['f1', 'f2', 'f3'].map((name) => `${config.output}/folds/${name}`));
    const expected: number[] = [];
    for (const [index, fold] of folds.entries())
      for (const task of await store.readTasks(fold)) {
        const logits = formulaLogits(task, index + 1, { innerRate: 1, innerSteps: 0 }, 'query');
        const [clicks, impressions] = [task.clicks, task.impressions].map((counts) =>
          counts.subarray(task.supportRowCount),
        );
        expected.push(
          lossSum(Float32Array.from(logits), { clicks: clicks!, impressions: impressions! }),
        );
      }
    expect(losses).toHaveLength(expected.length);
    for (const [index, loss] of losses.entries()) expect(loss).toBeCloseTo(expected[index]!, 4);
  });

  it('leave the rows of the store as they are', async () => {
    const store = tinyTaskStore();
    const without = storeWithoutFold(store, [0]);
    expect(await without.readTasks([0, 5])).toEqual(await store.readTasks([0, 5]));
    expect(without.tasks[0]).toMatchObject({ taskIndex: 0, split: 'test' });
  });

  it('are averaged from the members without the same fold', () => {
    const average = ['out/auto/trials/t01', 'out/auto/trials/t02'];
    const config = { ...formulaConfig(), run: 'tiny-auto-a01', output: 'out/auto/trials/a01' };
    const training = { ...config.training, startFrom: { average } };
    expect(configWithoutFold({ ...config, training }, 1)).toMatchObject({
      ...{ run: 'tiny-auto-a01-f2', output: 'out/auto/trials/a01/folds/f2' },
      training: { startFrom: { average: average.map((output) => `${output}/folds/f2`) } },
    });
  });

  it('are shifted from the trial without the same fold, but start from other runs as they are', () => {
    const startOf = (startFrom: string): unknown => {
      const config = { ...formulaConfig(), output: 'out/auto/trials/s01' };
      const training = { ...config.training, startFrom };
      return configWithoutFold({ ...config, training }, 0).training.startFrom;
    };
    expect(startOf('out/auto/trials/a01')).toBe('out/auto/trials/a01/folds/f1');
    expect(startOf('out/before')).toBe('out/before');
  });
});

describe('trials that training adgroups judge', () => {
  const toTheEnd = (losses: readonly number[]) => [losses, losses, losses];
  /** Validation: 1, 1.1 and far above. D = 0.1 and SE = 0.231 for t02, as in the tests of averages. */
  const LOSSES = {
    t01: toTheEnd([1, 1, 1, 1]),
    t02: toTheEnd([1.5, 0.7, 1.5, 0.7]),
    t03: toTheEnd([3, 3, 3, 3]),
  };

  it('are those that validation cannot tell apart, as far as there is time', () => {
    expect(crossFittedTrials(recordOf(LOSSES))).toEqual(['t01', 't02']);
    // Nine scores of a minute each; a trial of three rungs takes three folds of three minutes.
    const within = (budgetMinutes: number) =>
      crossFittedTrials(recordOf(LOSSES, { budgetMinutes }));
    expect(within(9 + 18)).toEqual(['t01', 't02']);
    expect(within(9 + 17)).toEqual([]);
    const many = Object.fromEntries(
      Array.from({ length: 8 }, (_, index) => [`t0${index + 1}`, LOSSES.t01]),
    );
    expect(crossFittedTrials(recordOf(many))).toHaveLength(6);
  });

  it('are compared on both kinds of adgroups, without the trials that were not cross-fitted', () => {
    const parts = { t01: 1, t02: 1, t03: 0 };
    const validated = recordOf(LOSSES, { parts });
    expect(chooseTrial(validated).trial.name).toBe('t01');
    const search = { budgetMinutes: null, impressions: [1, 1, 1, 1], trainingImpressions: [2, 2] };
    const fitted = [
      ['t01', [4, 4]],
      ['t02', [2, 2]],
    ] as const;
    const record = fitted.reduce<SweepRecord>(
      (before, [name, losses]) => withTrainingLosses(before, name, [...losses]),
      { ...validated, search },
    );
    const { trial, compared } = chooseTrial(record);
    // (4 + 8) / 8 = 1.5 against (4.4 + 4) / 8 = 1.05.
    expect(trial.name).toBe('t02');
    expect(compared.map((each) => each.trial)).toEqual(['t02', 't01']);
    expect(compared[1]?.difference).toBeCloseTo(0.45, 10);
    const cell = { kind: 'inner-steps' as const, innerRate: 1, innerSteps: 0 };
    const best = {
      trial: 't02',
      validationLogloss: 1.1,
      config: '',
      compared: [...compared],
      cell,
    };
    expect(choiceSentence({ ...record, best })).toMatch(
      /^t02 has the lowest logloss.* on 4 validation adgroups and on 2 training adgroups/,
    );
    expect(beforeEnd(record)).toEqual({ ...validated, search });
  });
});
