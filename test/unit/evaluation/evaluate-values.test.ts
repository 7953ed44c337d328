/** Evaluation of value labels, against the expected results of the formula model. */

import { describe, expect, it } from 'vitest';
import {
  type EvaluationReport,
  reportsData,
} from '../../../coordinator/scoring/evaluation-report.js';
import type { ArmName } from '../../../shared/config/arms.js';
import type { TaskRows } from '../../../shared/tasks/task-store.js';
import { formulaLogits } from '../../fixtures/queue/formula-dispatcher.js';
import { evaluateFormula } from '../../fixtures/evaluation/formula-evaluation.js';
import { tinyTaskStore } from '../../fixtures/stores/tiny-task-store.js';

const GLOBAL_BIAS = Math.fround(0.3);
/** The values in the tiny store. */
const MEAN = 3;
const DEVIATION = 1.5;
const store = tinyTaskStore({ taskCount: 80, counts: true, losses: ['squared'] });

function metricsOf(report: EvaluationReport, arm: ArmName) {
  const found = report.slices[0]?.arms.find((each) => each.arm === arm);
  if (found === undefined) throw new Error(`no ${arm}`);
  return found.metrics;
}

/** Value, weight and prediction of the test query rows. */
async function rowsUnder(
  predictionsOf: (task: TaskRows) => readonly number[],
): Promise<{ value: number; weight: number; predicted: number }[]> {
  return (
    await store.readTasks(store.tasks.filter((t) => t.split === 'test').map((t) => t.taskIndex))
  ).flatMap((task) => {
    const predictions = predictionsOf(task);
    return predictions.map((predicted, row) => {
      const at = task.supportRowCount + row;
      const weight = task.impressions[at]!;
      return { value: MEAN + (DEVIATION * task.clicks[at]!) / weight, weight, predicted };
    });
  });
}

function meanOf(
  rows: readonly { value: number; weight: number; predicted: number }[],
  of: (error: number) => number,
): number {
  const weight = rows.reduce((sum, row) => sum + row.weight, 0);
  return rows.reduce((sum, r) => sum + r.weight * of(r.predicted - r.value), 0) / weight;
}

const standardised = (task: TaskRows): number[] =>
  formulaLogits(task, GLOBAL_BIAS, { innerRate: 1, innerSteps: 0 }, 'query');

describe('evaluate with values', () => {
  it('scores arms by squared error in the unit of the values', async () => {
    const report = await evaluateFormula({ store });
    const rows = await rowsUnder((task) => standardised(task).map((z) => MEAN + DEVIATION * z));
    const { logloss, values, auc, normalisedEntropy } = metricsOf(report, 'global');
    expect(logloss).toBeCloseTo(
      meanOf(rows, (error) => error * error),
      5,
    );
    expect(values?.rmse).toBeCloseTo(Math.sqrt(logloss), 10);
    expect(values?.mae).toBeCloseTo(meanOf(rows, Math.abs), 5);
    expect([auc, normalisedEntropy]).toEqual([null, null]);
  });

  it('adds the shrunken mean residual of the support rows', async () => {
    const report = await evaluateFormula({ store });
    const chosen = report.selection.chosen.find(({ arm }) => arm === 'global-shift');
    if (chosen?.cell.kind !== 'shift-prior') throw new Error('no shift');
    const { mean, deviation } = chosen.cell;
    const rows = await rowsUnder((task) => {
      const support = formulaLogits(task, GLOBAL_BIAS, { innerRate: 1, innerSteps: 0 }, 'support');
      let residual = mean / deviation ** 2;
      let precision = 1 / deviation ** 2;
      for (const [row, z] of support.entries()) {
        residual += task.clicks[row]! - task.impressions[row]! * z;
        precision += task.impressions[row]!;
      }
      return standardised(task).map((z) => MEAN + DEVIATION * (z + residual / precision));
    });
    expect(metricsOf(report, 'global-shift').logloss).toBeCloseTo(
      meanOf(rows, (error) => error * error),
      5,
    );
  });
});

describe('evaluate with segments', () => {
  const segments = tinyTaskStore({ taskCount: 80, losses: ['binary', 'squared'] });

  it('evaluates the tasks of one segment only', async () => {
    const reports = await Promise.all(
      [0, 1].map((labelIndex) => evaluateFormula({ store: segments, changes: { labelIndex } })),
    );
    for (const [labelIndex, { counts, label }] of reports.entries()) {
      const ofLabel = segments.tasks.filter((task) => task.labelIndex === labelIndex);
      expect(label?.segment).toBe(`segment${labelIndex}`);
      expect(counts.testTasks).toBe(ofLabel.filter(({ split }) => split === 'test').length);
      expect(counts.trainTasks).toBe(ofLabel.filter(({ split }) => split === 'train').length);
    }
    expect(reportsData(reports)).toMatchObject({ segments: [{}, {}] });
  });
});
