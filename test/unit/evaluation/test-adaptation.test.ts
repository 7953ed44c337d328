/** Measures of what adaptation did to each test task, against the formula model, and its file. */

import { expect, it } from 'vitest';
import {
  TASK_ADAPTATION_KEY,
  decodeTaskAdaptation,
} from '../../../coordinator/scoring/task-adaptation.js';
import { AdgroupPages } from '../../../coordinator/dashboard/adgroup-page.js';
import { partsHtml } from '../../../coordinator/dashboard/page.js';
import { lossSum } from '../../../coordinator/scoring/metrics.js';
import { systemClock } from '../../../shared/base/clock.js';
import { QianmoError } from '../../../shared/base/errors.js';
import type { ObjectStore } from '../../../shared/storage/object-store.js';
import { decodeTensors, encodeTensors } from '../../../shared/tensors/tensor-codec.js';
import { evaluatedOutput } from '../../fixtures/evaluation/evaluated-runs.js';
import { formulaConfig, formulaEvaluation } from '../../fixtures/evaluation/formula-evaluation.js';
import {
  formulaDispatcher,
  formulaLogits,
  formulaShift,
} from '../../fixtures/queue/formula-dispatcher.js';
import { tinyTaskStore } from '../../fixtures/stores/tiny-task-store.js';

const BIAS = Math.fround(-0.2);
const UNADAPTED = { innerRate: 1, innerSteps: 0 };
const store = tinyTaskStore({ taskCount: 60, counts: true });
const testTasks = store.tasks.filter(({ split }) => split === 'test');

async function evaluation() {
  const { report, taskAdaptation } = await formulaEvaluation({ store });
  const chosen = report.selection.chosen.find(({ arm }) => arm === 'meta-adapted');
  if (taskAdaptation === null || report.testLogits === undefined) throw new Error('none');
  if (chosen?.cell.kind !== 'inner-steps') throw new Error('no inner steps');
  const beside = { logitsSha256: report.testLogits.sha256, taskCount: testTasks.length };
  return { cell: chosen.cell, taskAdaptation, beside };
}

async function adgroupHtml(output: ObjectStore, name: string): Promise<string> {
  const pages = new AdgroupPages(null, systemClock);
  return partsHtml(await pages.page('r', output, new URLSearchParams({ name })));
}

it('has the losses on the support rows and the distance of blocks, by the settings of the arm', async () => {
  // Seen to fail: with losses of the query rows, and with distances of the first adaptation.
  const { cell, taskAdaptation, beside } = await evaluation();
  const found = decodeTaskAdaptation(taskAdaptation, beside, 'the test');
  if (found === null) throw new Error('of another evaluation');
  const bias = found.variables.indexOf('bias');
  expect(bias).toBeGreaterThanOrEqual(0);
  const width = found.variables.length;
  for (const [place, task] of (
    await store.readTasks(testTasks.map((each) => each.taskIndex))
  ).entries()) {
    const rows = {
      clicks: task.clicks.subarray(0, task.supportRowCount),
      impressions: task.impressions.subarray(0, task.supportRowCount),
    };
    const total = rows.impressions.reduce((sum, count) => sum + count, 0);
    const lossUnder = (adaptation: typeof UNADAPTED): number =>
      lossSum(Float32Array.from(formulaLogits(task, BIAS, adaptation, 'support')), rows) / total;
    expect(found.supportLossesBefore[place]).toBeCloseTo(lossUnder(UNADAPTED), 12);
    expect(found.supportLossesAfter[place]).toBeCloseTo(lossUnder(cell), 12);
    for (let column = 0; column < width; column += 1)
      expect(found.distances[place * width + column]).toBe(
        column === bias ? Math.abs(formulaShift(task, BIAS, cell)) : 0,
      );
  }
});

it('is shown for one adgroup: the worked numbers, and their distance together', async () => {
  const output = await evaluatedOutput('near', { store });
  const [task] = testTasks;
  const html = await adgroupHtml(output, task?.key ?? '');
  const { cell } = await evaluation();
  const [rows] = await store.readTasks([task?.taskIndex ?? 0]);
  if (rows === undefined) throw new Error('no task');
  const distance = Math.abs(formulaShift(rows, BIAS, cell));
  expect(html).toContain(`<b>${distance.toPrecision(3)}</b><span>distance</span>`);
  expect(html).toMatch(new RegExp(`>bias</th><td>${distance.toPrecision(3)}<`));
});

it('is not shown beside the logits of another evaluation, nor if it is damaged', async () => {
  const { taskAdaptation, beside } = await evaluation();
  const other = { ...beside, logitsSha256: 'f'.repeat(64) };
  expect(decodeTaskAdaptation(taskAdaptation, other, 'the test')).toBeNull();
  const more = { ...beside, taskCount: beside.taskCount + 1 };
  expect(() => decodeTaskAdaptation(taskAdaptation, more, 'the test')).toThrow(QianmoError);
  const output = await evaluatedOutput('near', { store });
  await output.delete(TASK_ADAPTATION_KEY);
  expect(await adgroupHtml(output, testTasks[0]?.key ?? '')).toContain('Not recorded');
});

it('is none without the arm that adapts', async () => {
  const config = formulaConfig({ evaluation: { arms: ['constant', 'meta-unadapted'] } });
  expect((await formulaEvaluation({ store, config })).taskAdaptation).toBeNull();
});

it('is refused where measures do not fit the tasks', async () => {
  const spoil = (output: Uint8Array): Uint8Array | null => {
    const tensors = decodeTensors(output, 'the test');
    const distances = tensors.get('distances');
    if (distances === undefined) return null;
    const shape = [distances.values.length];
    return encodeTensors(new Map([...tensors, ['distances', { ...distances, shape }]]));
  };
  const dispatcher = formulaDispatcher(store, { spoil });
  await formulaEvaluation({ store, dispatcher });
  expect(dispatcher.rejections.get('layout_mismatch')).toBeGreaterThan(0);
});
