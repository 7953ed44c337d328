/** The single score of a trained run, against the formula model's own losses. */

import { describe, expect, it } from 'vitest';
import { readFlatRows } from '../../../coordinator/scoring/held-out-rows.js';
import { lossSum } from '../../../coordinator/scoring/metrics.js';
import {
  validationLossOf,
  validationScore,
  validationTasksOf,
} from '../../../coordinator/evaluation/validation-score.js';
import type { RunConfig } from '../../../shared/config/run-config.js';
import { DivergenceError, QianmoError } from '../../../shared/base/errors.js';
import { modelSpecOf } from '../../../shared/models/model-spec.js';
import type { TaskStore } from '../../../shared/tasks/task-store.js';
import { encodeTensors } from '../../../shared/tensors/tensor-codec.js';
import {
  formulaDispatcher,
  formulaLogits,
  type FormulaDispatcher,
} from '../../fixtures/queue/formula-dispatcher.js';
import { formulaConfig, parametersWithBias } from '../../fixtures/evaluation/formula-evaluation.js';
import { tinyTaskStore } from '../../fixtures/stores/tiny-task-store.js';
import { tasksOfJob } from '../../fixtures/queue/tasks-of-job.js';

type ScoredRun = Parameters<typeof validationScore>[0];

const store = tinyTaskStore({ taskCount: 60, counts: true });

function runOf(
  config: RunConfig = formulaConfig(),
  dispatcher: FormulaDispatcher = formulaDispatcher(store),
): ScoredRun {
  return {
    config,
    store,
    spec: modelSpecOf(config.model, store.manifest.features, config.method),
    storeAddress: 'store',
    dispatcher,
    signal: new AbortController().signal,
  };
}

const readValidationRows = async (of: TaskStore, where: string, segment: string | null) =>
  readFlatRows(of, validationTasksOf(of, where, segment), 'query');

/** Mean logloss of the formula model on the query rows of the validation adgroups. */
async function formulaLogloss(
  bias: number,
  innerRate: number,
  innerSteps: number,
  among: readonly number[] | null = null,
): Promise<number> {
  const tasks = store.tasks.filter(
    ({ split, taskIndex }) => split === 'validation' && (among?.includes(taskIndex) ?? true),
  );
  let loss = 0;
  let impressions = 0;
  for (const task of await store.readTasks(tasks.map(({ taskIndex }) => taskIndex))) {
    const counts = {
      clicks: task.clicks.subarray(task.supportRowCount),
      impressions: task.impressions.subarray(task.supportRowCount),
    };
    const logits = formulaLogits(task, bias, { innerRate, innerSteps }, 'query');
    loss += lossSum(Float32Array.from(logits), counts);
    impressions += counts.impressions.reduce((sum, n) => sum + n, 0);
  }
  return loss / impressions;
}

describe('the loss by which training stops', () => {
  it('is the lower one of without inner steps and with those of the method, on adgroups spread over all', async () => {
    const earlyStopping = { everyOuterSteps: 1, tasksMax: 3 };
    const method = { kind: 'fomaml', innerSteps: 4, innerRate: 0.5 };
    const run = runOf(formulaConfig({ method, training: { earlyStopping } }));
    const parameters = parametersWithBias(run.config, store, Math.fround(-0.2));
    const loss = await validationLossOf(run)?.(parameters);
    const validation = await readValidationRows(store, 'store', null);
    const [asked = []] = (run.dispatcher as FormulaDispatcher).tasksByWave;
    const { taskIndices } = validation;
    const third = taskIndices.length / 3;
    expect(asked).toEqual([0, 1, 2].map((place) => taskIndices[Math.floor(place * third)]));
    const losses = [
      await formulaLogloss(-0.2, 1, 0, asked),
      await formulaLogloss(-0.2, 0.5, 4, asked),
    ];
    expect(loss).toBeCloseTo(Math.min(...losses), 6);
  });

  it('is that of the model as it is where the method is global, although finetuning would be better', async () => {
    const earlyStopping = { everyOuterSteps: 1, tasksMax: 1_000 };
    const run = runOf(formulaConfig({ method: { kind: 'global' }, training: { earlyStopping } }));
    const loss = await validationLossOf(run)?.(parametersWithBias(run.config, store, 3));
    const unadapted = await formulaLogloss(3, 1, 0);
    expect(await formulaLogloss(3, 1, 1)).toBeLessThan(unadapted);
    expect(loss).toBeCloseTo(unadapted, 5);
  });

  it('is refused before training where there is no validation adgroup, or no such segment', () => {
    const training = { earlyStopping: { everyOuterSteps: 100 } };
    const run = runOf(formulaConfig({ training }));
    const tasks = store.tasks.filter(({ split }) => split !== 'validation');
    expect(() => validationLossOf({ ...run, store: { ...store, tasks } })).toThrow(
      'the task store has no validation adgroup',
    );
    const ofSegment = { earlyStopping: { everyOuterSteps: 100, segment: 'none' } };
    expect(() => validationLossOf(runOf(formulaConfig({ training: ofSegment })))).toThrow(
      'scored on the tasks of one segment',
    );
  });

  it('is none where training does not stop early', () => {
    expect(validationLossOf(runOf())).toBeUndefined();
  });
});

describe('the score of a run', () => {
  it('is that of the best cell, and uses no test adgroup', async () => {
    const run = runOf();
    const bias = Math.fround(-0.2);
    const losses: number[] = [await formulaLogloss(bias, 1, 0)];
    for (const rate of [0.5, 2])
      for (const steps of [1, 4, 16]) losses.push(await formulaLogloss(bias, rate, steps));
    const validation = await readValidationRows(store, 'store', null);
    const parameters = parametersWithBias(run.config, store, bias);
    const { validationLogloss, cell } = await validationScore(run, parameters, validation);
    expect(validationLogloss).toBeCloseTo(Math.min(...losses), 10);
    expect(cell).toMatchObject({ kind: 'inner-steps' });
    const asked = (run.dispatcher as FormulaDispatcher).tasksByWave.flat();
    expect(new Set(asked)).toEqual(new Set(validation.taskIndices));
  });

  it('is that without adaptation when adapting makes it worse', async () => {
    const config = formulaConfig({ evaluation: { innerRates: [90], innerSteps: [1] } });
    const parameters = parametersWithBias(config, store, 0);
    const validation = await readValidationRows(store, 'store', null);
    const { validationLogloss, cell } = await validationScore(
      runOf(config),
      parameters,
      validation,
    );
    expect(cell).toMatchObject({ innerSteps: 0 });
    expect(validationLogloss).toBeCloseTo(await formulaLogloss(0, 1, 0), 10);
  });

  it('is found for more adgroups than a call takes arguments', async () => {
    const config = formulaConfig({
      method: { kind: 'global' },
      training: { tasksPerOuterStep: 1024 },
    });
    const few = await readValidationRows(store, 'store', null);
    const { length } = few.taskIndices;
    const many = Array.from({ length: 150_000 - (150_000 % length) }, (_, place) =>
      Number(few.taskIndices[place % length]),
    );
    const run = runOf(config);
    const parameters = parametersWithBias(config, store, -0.2);
    const rows = await readFlatRows(store, many, 'query');
    const score = await validationScore(run, parameters, rows);
    const ofFew = await validationScore(run, parameters, few);
    expect(score.validationLogloss).toBeCloseTo(ofFew.validationLogloss, 10);
    expect(score.heldOutLosses).toHaveLength(many.length);
  });

  it('is missing when every cell diverges', async () => {
    const dispatcher = formulaDispatcher(store, {
      change: (_, { job }) => {
        const rows = tasksOfJob(job).reduce((n, i) => n + (store.tasks[i]?.queryRowCount ?? 0), 0);
        const values = new Float32Array(7 * rows).fill(NaN);
        return encodeTensors(new Map([['logits', { shape: [7, rows], values }]]));
      },
    });
    const run = runOf(formulaConfig(), dispatcher);
    const parameters = parametersWithBias(run.config, store, 0);
    const validation = await readValidationRows(store, 'store', null);
    await expect(validationScore(run, parameters, validation)).rejects.toThrow(DivergenceError);
  });
});

describe('the rows of the score', () => {
  const refusalOf = async (of: TaskStore, segment: string | null) => {
    const error: unknown = await readValidationRows(of, 'store', segment).catch((e: unknown) => e);
    if (!(error instanceof QianmoError)) throw new Error('nothing was refused', { cause: error });
    return error.report;
  };

  it('come from a segment, which must be named if there are several', async () => {
    const labels = ['new', 'old'].map((segment) => ({ loss: 'binary' as const, segment }));
    const segmented: TaskStore = {
      ...store,
      manifest: { ...store.manifest, labels },
      tasks: store.tasks.map((task) => ({ ...task, labelIndex: task.taskIndex % 2 })),
    };
    const refusal = await refusalOf(segmented, null);
    expect(refusal).toMatchObject({ kind: 'usage', found: 'none' });
    expect(refusal.expected).toContain('new, old');
    const rows = await readValidationRows(segmented, 'store', 'old');
    expect(rows.taskIndices.length).toBeGreaterThan(0);
    expect(rows.taskIndices.every((index) => index % 2 === 1)).toBe(true);
  });

  it('are missing when nothing was held out', async () => {
    const none = { ...store, tasks: store.tasks.filter(({ split }) => split !== 'validation') };
    expect(await refusalOf(none, null)).toMatchObject({ kind: 'data', where: 'store' });
  });
});
