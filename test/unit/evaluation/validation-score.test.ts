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
import { modelSpecOf } from '../../../shared/models/model-spec.js';
import type { TaskStore } from '../../../shared/tasks/task-store.js';
import {
  formulaDispatcher,
  formulaLogits,
  type FormulaDispatcher,
} from '../../fixtures/queue/formula-dispatcher.js';
import { formulaConfig, parametersWithBias } from '../../fixtures/evaluation/formula-evaluation.js';
import { tinyTaskStore } from '../../fixtures/stores/tiny-task-store.js';

type ScoredRun = Parameters<typeof validationScore>[0];

const store = tinyTaskStore({ taskCount: 60, counts: true });

function runOf(config: RunConfig = formulaConfig()): ScoredRun {
  return {
    config,
    store,
    spec: modelSpecOf(config.model, store.manifest.features, config.method),
    storeAddress: 'store',
    dispatcher: formulaDispatcher(store),
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

it('the loss by which training stops is the lower one of without inner steps and with those of the method, on adgroups spread over all', async () => {
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
});
