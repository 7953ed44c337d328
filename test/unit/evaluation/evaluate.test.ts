/** Every arm of an evaluation, against the expected results of the formula model. */

import { asPage } from '../../../coordinator/reports/document/as-page.js';
import { evaluationDocument } from '../../../coordinator/reports/evaluation-document.js';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { globalArmConfig } from '../../../coordinator/runs/evaluate-run.js';
import { lossSum } from '../../../coordinator/scoring/metrics.js';
import {
  type EvaluationReport,
  parseReport,
  reportJson,
} from '../../../coordinator/scoring/evaluation-report.js';
import type { ArmName } from '../../../shared/config/arms.js';
import type { JobOrder } from '../../../coordinator/dispatch/dispatcher.js';
import type { Adaptation } from '../../../shared/queue/protocol.js';
import { decodeTensors, encodeTensors } from '../../../shared/tensors/tensor-codec.js';
import type { TaskSplit, TaskStore } from '../../../shared/tasks/task-store.js';
import { withDuckDb } from '../../fixtures/duckdb-for-test.js';
import { openedOnce } from '../../fixtures/opened.js';
import { temporaryFolder } from '../../fixtures/temporary-folder.js';
import { formulaDispatcher, formulaLogits } from '../../fixtures/queue/formula-dispatcher.js';
import { evaluateFormula, formulaConfig } from '../../fixtures/evaluation/formula-evaluation.js';
import { tinyTaskStore } from '../../fixtures/stores/tiny-task-store.js';
import { tasksOfJob } from '../../fixtures/queue/tasks-of-job.js';

// Values as they arrive in the dispatcher, in single precision.
const META_BIAS = Math.fround(-0.2);
const GLOBAL_BIAS = Math.fround(0.3);

const indicesOf = (store: TaskStore, split: TaskSplit): number[] =>
  store.tasks.filter((task) => task.split === split).map((task) => task.taskIndex);

/** Mean logloss per impression of the formula model on the query rows of a split. */
async function formulaLogloss(
  store: TaskStore,
  split: TaskSplit,
  bias: number,
  adaptation: Adaptation,
): Promise<number> {
  let loss = 0;
  let impressions = 0;
  for (const task of await store.readTasks(indicesOf(store, split))) {
    const counts = {
      clicks: task.clicks.subarray(task.supportRowCount),
      impressions: task.impressions.subarray(task.supportRowCount),
    };
    const logits = Float32Array.from(formulaLogits(task, bias, adaptation, 'query'));
    loss += lossSum(logits, counts);
    impressions += counts.impressions.reduce((sum, n) => sum + n, 0);
  }
  return loss / impressions;
}

function armOf(report: EvaluationReport, arm: ArmName, slice = 0) {
  const found = report.slices[slice]?.arms.find((each) => each.arm === arm);
  if (found === undefined) throw new Error(`no ${arm}`);
  return found;
}

describe('evaluate', () => {
  const folder = openedOnce(temporaryFolder);
  const store = tinyTaskStore({ taskCount: 100, counts: true });

  const unadapted = { innerRate: 1, innerSteps: 0 };

  it('scores each arm on the query rows of the test adgroups', async () => {
    const report = await evaluateFormula({ store });
    const loglossOf = (arm: ArmName): number => armOf(report, arm).metrics.logloss;
    expect(report.arms).toEqual([
      'constant',
      'global',
      'global-shift',
      'finetuned',
      'meta-unadapted',
      'meta-adapted',
      'meta-chosen',
    ]);
    expect(loglossOf('global')).toBeCloseTo(
      await formulaLogloss(store, 'test', GLOBAL_BIAS, unadapted),
      10,
    );
    expect(loglossOf('meta-unadapted')).toBeCloseTo(
      await formulaLogloss(store, 'test', META_BIAS, unadapted),
      10,
    );
    const biases: [ArmName, number][] = [
      ['finetuned', GLOBAL_BIAS],
      ['meta-adapted', META_BIAS],
    ];
    for (const [arm, bias] of biases) {
      const chosen = report.selection.chosen.find((each) => each.arm === arm);
      if (chosen?.cell.kind !== 'inner-steps') throw new Error(`${arm} has no inner steps`);
      const { innerRate, innerSteps } = chosen.cell;
      expect(loglossOf(arm)).toBeCloseTo(
        await formulaLogloss(store, 'test', bias, { innerRate, innerSteps }),
        10,
      );
      // The chosen cell has the smallest loss of the grid on the validation adgroups.
      for (const { cell, validationLogloss } of chosen.grid) {
        if (cell.kind !== 'inner-steps') throw new Error('a shift among inner steps');
        expect(validationLogloss).toBeCloseTo(
          await formulaLogloss(store, 'validation', bias, cell),
          10,
        );
        expect(validationLogloss).toBeGreaterThanOrEqual(chosen.validationLogloss);
      }
    }
  });

  it('cuts jobs identically, accepts them in any order and refuses corrupt outputs', async () => {
    const straight = formulaDispatcher(store);
    const shuffled = formulaDispatcher(store, {
      arrange: (orders) => [...orders].reverse(),
      spoil: (output) => output.subarray(0, output.length - 4),
    });
    const expected = await evaluateFormula({ store, dispatcher: straight });
    const found = await evaluateFormula({ store, dispatcher: shuffled });
    expect(found).toEqual(expected);
    expect(shuffled.rejections.get('layout_mismatch')).toBe(shuffled.orders.length);
    expect(new Set(straight.orders.map(({ job }) => tasksOfJob(job).length))).toEqual(
      new Set([1, 2]),
    );
  });

  /** The output with its last logit, which belongs to the last adaptation, replaced. */
  const withLastLogit = (output: Uint8Array, value: number): Uint8Array => {
    const tensors = decodeTensors(output, 'the test');
    const logits = tensors.get('logits');
    if (logits === undefined) throw new Error('an output without logits');
    const values = Float32Array.from(logits.values).fill(value, -1);
    return encodeTensors(new Map([...tensors, ['logits', { ...logits, values }]]));
  };
  /** Not adapting goes with the cells of the grid. */
  const isOfGrid = ({ job }: JobOrder, cellCount: number): boolean =>
    job.work.kind === 'predict' && job.work.adaptations.length === 1 + cellCount;

  it.each([NaN, Infinity])('ranks a setting with logits of %s last', async (value) => {
    const dispatcher = formulaDispatcher(store, {
      change: (output, order) => (isOfGrid(order, 6) ? withLastLogit(output, value) : output),
    });
    const report = await evaluateFormula({ store, dispatcher });
    const expected = await evaluateFormula({ store });
    const last = { kind: 'inner-steps', innerRate: 2, innerSteps: 16 };
    for (const [index, { cell, grid, arm }] of report.selection.chosen.entries()) {
      if (arm === 'global-shift') continue;
      const others = expected.selection.chosen[index]?.grid.slice(0, -1);
      expect(grid).toEqual([...(others ?? []), { cell: last, validationLogloss: null }]);
      expect(cell).not.toEqual(last);
    }
    expect(parseReport(reportJson(report), 'here')).toEqual(report);
    expect(asPage(evaluationDocument(report))).toContain('<td>diverged</td>');
  });

  it('buckets partition the test adgroups by support rows', async () => {
    const { slices } = await evaluateFormula({ store });
    const [all, ...buckets] = slices;
    const total = (pick: (slice: (typeof slices)[number]) => number): number =>
      buckets.reduce((sum, bucket) => sum + pick(bucket), 0);
    expect(buckets.map((bucket) => bucket.name)).toEqual(['0-3', '4-6', '>6']);
    expect(total((b) => b.adgroupCount)).toBe(all?.adgroupCount);
    expect(total((b) => b.clicks)).toBe(all?.clicks);
    expect(
      total((b) => (b.arms.find((a) => a.arm === 'global')?.metrics.logloss ?? 0) * b.impressions),
    ).toBeCloseTo(
      armOf({ slices } as EvaluationReport, 'global').metrics.logloss * (all?.impressions ?? 0),
      8,
    );
  });

  it('closes the whole gap with the oracle and none with global', async () => {
    const known: TaskStore = {
      ...store,
      manifest: { ...store.manifest, hasOracle: true },
      readTasks: async (indices) =>
        (await store.readTasks(indices)).map((task) => ({
          ...task,
          oracle: task.clicks.map((clicks, row) => clicks / (task.impressions[row] ?? 1)),
        })),
    };
    const report = await evaluateFormula({ store: known });
    expect(armOf(report, 'oracle').gapClosed?.value).toBeCloseTo(1, 12);
    expect(armOf(report, 'global').gapClosed?.value).toBe(0);
    const closed = armOf(report, 'meta-adapted').gapClosed;
    expect(closed?.low).toBeLessThan(closed?.value ?? 0);
    const [g, a, o] = (['global', 'meta-adapted', 'oracle'] as const).map(
      (arm) => armOf(report, arm).metrics.logloss,
    );
    expect(closed?.value).toBeCloseTo(((g ?? 0) - (a ?? 0)) / ((g ?? 0) - (o ?? 0)), 10);
  });

  it('writes predictions from which others get the same logloss, or no file at all', async () => {
    const predictionsPath = join(folder.path, 'predictions.parquet');
    const report = await evaluateFormula({ store, changes: { predictionsPath } });
    const arms = report.arms.map((arm) => arm.replaceAll('-', '_'));
    const logloss = (arm: string): string =>
      `sum(-clicks * ln(${arm}) - (impressions - clicks) * ln(1 - ${arm})) / sum(impressions)`;
    const reader = await withDuckDb((connection) =>
      connection.runAndReadAll(
        `SELECT count(*)::INTEGER, min(task), count(DISTINCT (task, row))::INTEGER, ${arms.map(logloss).join(', ')}
         FROM read_parquet('${predictionsPath}')`,
      ),
    );
    const [rowCount, firstTask, distinctCount, ...loglosses] = reader.getRows()[0] ?? [];
    expect(rowCount).toBe(report.counts.testQueryRows);
    expect(distinctCount).toBe(rowCount);
    for (const [index, arm] of report.arms.entries())
      expect(Number(loglosses[index])).toBeCloseTo(armOf(report, arm).metrics.logloss, 8);
    expect(firstTask).toBe('task14');
    expect(await readdir(folder.path)).toEqual(['predictions.parquet']);

    const nowhere = join(folder.path, 'missing', 'predictions.parquet');
    const failure = evaluateFormula({ store, changes: { predictionsPath: nowhere } });
    await expect(failure).rejects.toThrow('the predictions cannot be written');
  });
});

it('the config of the global arm differs in method, name, output and the fields of globalTraining', () => {
  const config = formulaConfig({
    output: 's3://bucket/prefix/',
    globalTraining: { optimizer: { kind: 'sgd' } },
  });
  const global = globalArmConfig(config);
  expect(global.run).toBe('formula-global');
  expect(global.output).toBe('s3://bucket/prefix/global');
  expect(global.method).toEqual({ kind: 'global' });
  expect(global.training).toEqual({
    ...config.training,
    optimizer: { kind: 'sgd', rate: 0.1, momentum: 0 },
  });
  expect(globalArmConfig({ ...config, run: 'x'.repeat(63) }).run).toHaveLength(63);
});
