/** The k-shot curve, against the expected results of the formula model. */

import { describe, expect, it } from 'vitest';
import type { ShotPoint } from '../../../coordinator/scoring/evaluation-report.js';
import type { ArmName } from '../../../shared/config/arms.js';
import { lossSum } from '../../../coordinator/scoring/metrics.js';
import type { Adaptation } from '../../../shared/queue/protocol.js';
import type { TaskRows } from '../../../shared/tasks/task-store.js';
import { formulaLogits } from '../../fixtures/queue/formula-dispatcher.js';
import { evaluateFormula, formulaConfig } from '../../fixtures/evaluation/formula-evaluation.js';
import { tinyTaskStore } from '../../fixtures/stores/tiny-task-store.js';

const META_BIAS = Math.fround(-0.2);
const GLOBAL_BIAS = Math.fround(0.3);
const UNADAPTED: Adaptation = { innerRate: 1, innerSteps: 0 };

const store = tinyTaskStore({ taskCount: 60, counts: true });
const testTasks = await store.readTasks(
  store.tasks.filter((task) => task.split === 'test').map((task) => task.taskIndex),
);
const config = formulaConfig({ evaluation: { shots: [20, 0, 1, 3] } });
const report = await evaluateFormula({ store, config });

function cellOf(arm: ArmName): Adaptation {
  const cell = report.selection.chosen.find((each) => each.arm === arm)?.cell;
  if (cell?.kind !== 'inner-steps') throw new Error(`${arm} has no inner steps`);
  return { innerRate: cell.innerRate, innerSteps: cell.innerSteps };
}

function loglossOf(slice: ShotPoint['slice'], arm: ArmName): number {
  const found = slice.arms.find((each) => each.arm === arm);
  if (found === undefined) throw new Error(`no ${arm}`);
  return found.metrics.logloss;
}

/** Mean logloss of rows [from, end) of each task, adapted on its first `supportCount` rows. */
function expectedLogloss(
  parts: readonly { task: TaskRows; supportCount: number; from: number; end: number }[],
  bias: number,
  adaptation: Adaptation,
): number {
  let loss = 0;
  let impressions = 0;
  for (const { task, supportCount, from, end } of parts) {
    const adapted = { ...task, supportRowCount: supportCount };
    const logits = [
      ...formulaLogits(adapted, bias, adaptation, 'support'),
      ...formulaLogits(adapted, bias, adaptation, 'query'),
    ];
    loss += lossSum(Float32Array.from(logits.slice(from, end)), {
      clicks: task.clicks.subarray(from, end),
      impressions: task.impressions.subarray(from, end),
    });
    impressions += task.impressions.subarray(from, end).reduce((sum, n) => sum + n, 0);
  }
  return loss / impressions;
}

describe('a k-shot curve', () => {
  const points = report.shots ?? [];

  it('adapts every arm on only the first support rows', () => {
    for (const { supportRowsMax, slice } of points) {
      const parts = testTasks.map((task) => ({
        task,
        supportCount: Math.min(supportRowsMax, task.supportRowCount),
        from: task.supportRowCount,
        end: task.rowCount,
      }));
      const expected = (bias: number, adaptation: Adaptation): number =>
        expectedLogloss(parts, bias, adaptation);
      expect(loglossOf(slice, 'global')).toBeCloseTo(expected(GLOBAL_BIAS, UNADAPTED), 6);
      expect(loglossOf(slice, 'finetuned')).toBeCloseTo(
        expected(GLOBAL_BIAS, cellOf('finetuned')),
        6,
      );
      expect(loglossOf(slice, 'meta-adapted')).toBeCloseTo(
        expected(META_BIAS, cellOf('meta-adapted')),
        6,
      );
    }
  });

  it('starts without support rows and ends at the figures of the report', () => {
    const [all] = report.slices;
    const [none, , , most] = points;
    if (all === undefined || none === undefined || most === undefined) throw new Error('no points');
    for (const arm of report.arms)
      expect(loglossOf(most.slice, arm)).toBeCloseTo(loglossOf(all, arm), 12);
    expect(loglossOf(none.slice, 'meta-adapted')).toBe(loglossOf(none.slice, 'meta-unadapted'));
    // Without rows, the shift is the mean of its prior.
    const shift = report.selection.chosen.find(({ arm }) => arm === 'global-shift')?.cell;
    if (shift?.kind !== 'shift-prior') throw new Error('no prior');
    const parts = testTasks.map((task) => ({
      task,
      supportCount: 0,
      from: task.supportRowCount,
      end: task.rowCount,
    }));
    expect(loglossOf(none.slice, 'global-shift')).toBeCloseTo(
      expectedLogloss(parts, GLOBAL_BIAS + shift.mean, UNADAPTED),
      6,
    );
  });
});
