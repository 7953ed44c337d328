/** K-shot curves and progressive validation, against the expected results of the formula model. */

import { asPage } from '../../../coordinator/reports/document/as-page.js';
import { asText } from '../../../coordinator/reports/document/as-text.js';
import { evaluationDocument } from '../../../coordinator/reports/evaluation-document.js';
import { describe, expect, it } from 'vitest';
import type { Dispatcher } from '../../../coordinator/dispatch/dispatcher.js';
import type {
  EvaluationReport,
  ProtocolResult,
} from '../../../coordinator/scoring/evaluation-report.js';
import type { ArmName } from '../../../shared/config/arms.js';
import { lossSum } from '../../../coordinator/scoring/metrics.js';
import { parseReport, reportJson } from '../../../coordinator/scoring/report-json.js';
import type { RunConfig } from '../../../shared/config/run-config.js';
import { QianmoError } from '../../../shared/base/errors.js';
import type { Adaptation } from '../../../shared/queue/protocol.js';
import type { TaskRows, TaskStore } from '../../../shared/tasks/task-store.js';
import { formulaDispatcher, formulaLogits } from '../../fixtures/queue/formula-dispatcher.js';
import { evaluateFormula, formulaConfig } from '../../fixtures/evaluation/formula-evaluation.js';
import { tinyTaskStore } from '../../fixtures/stores/tiny-task-store.js';

const META_BIAS = Math.fround(-0.2);
const GLOBAL_BIAS = Math.fround(0.3);
const DAY = 86_400;
const FIRST_DAY = 1_700_006_400; // 2023-11-15
const UNADAPTED: Adaptation = { innerRate: 1, innerSteps: 0 };

/** Three rows a day, starting on a day that differs between adgroups. */
function daily(store: TaskStore): TaskStore {
  return {
    ...store,
    readTasks: async (indices) =>
      (await store.readTasks(indices)).map((task) => ({
        ...task,
        times: task.times.map(
          (_, row) => FIRST_DAY + DAY * ((task.taskIndex % 3) + Math.floor(row / 3)) + 60 * row,
        ),
      })),
  };
}

const store = daily(tinyTaskStore({ taskCount: 60, counts: true }));
const testTasks = await store.readTasks(
  store.tasks.filter((task) => task.split === 'test').map((task) => task.taskIndex),
);
const config = formulaConfig({
  data: {
    logs: 'log.csv',
    store: 'store',
    task: 'adgroup',
    label: { column: 'click' },
    time: 'at',
    features: [{ name: 'number0', kind: 'number' }],
  },
  evaluation: {
    shots: [20, 0, 1, 3],
    progressive: {},
    phases: { count: 2, rowsPerPhase: 3 },
  },
});
const report = await evaluateFormula({ store, config });

function cellOf(arm: ArmName, chosen = report.selection.chosen): Adaptation {
  const cell = chosen.find((each) => each.arm === arm)?.cell;
  if (cell?.kind !== 'inner-steps') throw new Error(`${arm} has no inner steps`);
  return { innerRate: cell.innerRate, innerSteps: cell.innerSteps };
}

function protocolOf(kind: ProtocolResult['kind']): ProtocolResult {
  const found = report.protocols?.find((protocol) => protocol.kind === kind);
  if (found === undefined) throw new Error(`no ${kind}`);
  return found;
}

function loglossOf(slice: ProtocolResult['points'][number]['slice'], arm: ArmName): number {
  const found = slice.arms.find((each) => each.arm === arm);
  if (found === undefined) throw new Error(`no ${arm}`);
  return found.metrics.logloss;
}

/** Mean logloss of rows [from, end) of each task, adapted on its first `supportCount` rows. */
function expectedLogloss(
  parts: readonly { task: TaskRows; supportCount: number; from: number; end: number }[],
  bias: number,
  adaptation: Adaptation,
  minibatchRowCount?: number,
): number {
  let loss = 0;
  let impressions = 0;
  for (const { task, supportCount, from, end } of parts) {
    const adapted = { ...task, supportRowCount: supportCount };
    const logits = [
      ...formulaLogits(adapted, bias, adaptation, 'support', minibatchRowCount),
      ...formulaLogits(adapted, bias, adaptation, 'query', minibatchRowCount),
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
  const { points } = protocolOf('shots');

  it('has its points in order, each on the same query rows', () => {
    expect(points.map(({ name }) => name)).toEqual(['0', '1', '3', '20']);
    for (const { slice } of points) {
      expect(slice.queryRowCount).toBe(report.counts.testQueryRows);
      expect(slice.arms.map(({ arm }) => arm)).toEqual(report.arms);
    }
    const counts = testTasks.map((task) => task.supportRowCount);
    expect(points.map(({ adaptedOnRowCount }) => adaptedOnRowCount)).toEqual(
      [0, 1, 3, 20].map((shots) => counts.reduce((sum, n) => sum + Math.min(n, shots), 0)),
    );
  });

  it('adapts every arm on only the first support rows', () => {
    for (const { name, slice } of points) {
      const parts = testTasks.map((task) => ({
        task,
        supportCount: Math.min(Number(name), task.supportRowCount),
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

describe('phases', () => {
  const { points, chosen } = protocolOf('phases');
  const partsAfter = (phase: number, tasks = testTasks) =>
    tasks.map((task) => ({
      task,
      supportCount: Math.min(3 * phase, task.supportRowCount),
      from: task.supportRowCount,
      end: task.rowCount,
    }));

  it('are cold, warm-a, warm-b, each on the same query rows', () => {
    expect(points.map(({ name }) => name)).toEqual(['cold', 'warm-a', 'warm-b']);
    for (const { slice } of points) expect(slice.queryRowCount).toBe(report.counts.testQueryRows);
  });

  it('adapt on one minibatch after another', () => {
    for (const [phase, { slice }] of points.entries())
      for (const [arm, bias] of [
        ['finetuned', GLOBAL_BIAS],
        ['meta-adapted', META_BIAS],
      ] as const)
        expect(loglossOf(slice, arm)).toBeCloseTo(
          expectedLogloss(partsAfter(phase), bias, cellOf(arm, chosen), 3),
          6,
        );
    expect(loglossOf(points[0]!.slice, 'meta-adapted')).toBe(
      loglossOf(points[0]!.slice, 'meta-unadapted'),
    );
  });

  it('choose their settings on validation adgroups after the last phase', async () => {
    const validationTasks = await store.readTasks(
      store.tasks.filter((task) => task.split === 'validation').map((task) => task.taskIndex),
    );
    const adapted = chosen?.find(({ arm }) => arm === 'meta-adapted');
    for (const { cell, validationLogloss } of adapted?.grid ?? []) {
      if (cell.kind !== 'inner-steps') throw new Error('a shift among inner steps');
      expect(validationLogloss).toBeCloseTo(
        expectedLogloss(partsAfter(2, validationTasks), META_BIAS, cell, 3),
        6,
      );
    }
    expect(adapted?.grid).toHaveLength(6);
  });
});

describe('progressive validation', () => {
  const { points, together } = protocolOf('periods');
  const dayOf = (task: TaskRows, row: number): number =>
    Math.floor(((task.times[row] ?? 0) - FIRST_DAY) / DAY);
  const partsOfDay = (day: number) =>
    testTasks.flatMap((task) => {
      const rows = [...task.times.keys()].filter((row) => dayOf(task, row) === day);
      const [from] = rows;
      return from === undefined
        ? []
        : [{ task, supportCount: from, from, end: from + rows.length }];
    });

  it('has a point for each day on which a test adgroup has rows', () => {
    const days = new Set(
      testTasks.flatMap((task) => [...task.times.keys()].map((row) => dayOf(task, row))),
    );
    expect(points.map(({ name }) => name)).toEqual(
      [...days]
        .sort((a, b) => a - b)
        .map((day) => new Date((FIRST_DAY + day * DAY) * 1000).toISOString().slice(0, 10)),
    );
    expect(points[0]?.name).toBe('2023-11-15');
  });

  it('adapts on all rows of earlier days and predicts those of the day', () => {
    for (const [day, { slice, adaptedOnRowCount }] of points.entries()) {
      const parts = partsOfDay(day);
      expect(slice.adgroupCount).toBe(parts.length);
      expect(slice.queryRowCount).toBe(parts.reduce((sum, p) => sum + p.end - p.from, 0));
      expect(adaptedOnRowCount).toBe(parts.reduce((sum, p) => sum + p.supportCount, 0));
      for (const [arm, bias] of [
        ['finetuned', GLOBAL_BIAS],
        ['meta-adapted', META_BIAS],
      ] as const)
        expect(loglossOf(slice, arm)).toBeCloseTo(expectedLogloss(parts, bias, cellOf(arm)), 6);
    }
  });

  it('predicts each row of the test adgroups once', () => {
    if (together === undefined) throw new Error('no whole');
    expect(together.adgroupCount).toBe(testTasks.length);
    expect(together.queryRowCount).toBe(testTasks.reduce((sum, task) => sum + task.rowCount, 0));
    const parts = points.flatMap((_, day) => partsOfDay(day));
    expect(loglossOf(together, 'meta-adapted')).toBeCloseTo(
      expectedLogloss(parts, META_BIAS, cellOf('meta-adapted')),
      6,
    );
  });

  /** The same rows replayed with other times and periods. */
  const replayed = (
    timeOf: (seconds: number, row: number) => number,
    progressive: NonNullable<RunConfig['evaluation']['progressive']>,
    dispatcher?: Dispatcher,
  ): Promise<EvaluationReport> => {
    const { shots: _shots, phases: _phases, ...rest } = config.evaluation;
    const evaluation = { ...rest, innerRates: [0.5], innerSteps: [1], bootstrapSamples: 100 };
    return evaluateFormula({
      store: {
        ...store,
        readTasks: async (indices) =>
          (await store.readTasks(indices)).map((task) => ({
            ...task,
            times: task.times.map((time, row) => timeOf(time, row)),
          })),
      },
      config: { ...config, evaluation: { ...evaluation, progressive } },
      ...(dispatcher === undefined ? {} : { dispatcher }),
    });
  };

  it.each([
    ['milliseconds', 1e3],
    ['microseconds', 1e6],
    ['nanoseconds', 1e9],
  ])('reads times in %s without loss', async (_, perSecond) => {
    const [periods] =
      (
        await replayed((seconds) => seconds * perSecond, {
          periodSeconds: DAY * perSecond,
          periodsMax: 60,
        })
      ).protocols ?? [];
    expect(periods?.points.map(({ name }) => name)).toEqual(
      points.map((_, day) => String((FIRST_DAY + day * DAY) * perSecond)),
    );
    expect(periods?.points.map(({ slice }) => slice.queryRowCount)).toEqual(
      points.map(({ slice }) => slice.queryRowCount),
    );
  });

  it('predicts each row once in periods of a tenth of a second', async () => {
    // Times on the bounds of periods, or within a rounding error of them.
    const periodSeconds = 0.1;
    const [periods] =
      (await replayed((_, row) => 1.7e9 + row * periodSeconds, { periodSeconds, periodsMax: 60 }))
        .protocols ?? [];
    expect(periods?.together?.queryRowCount).toBe(together?.queryRowCount);
  });

  it.each([
    ['too many periods', 60, 5, 'too many periods'],
    ['periods too short for the precision of the times', 1e-9, 60, 'shorter than'],
  ])('refuses %s before anything is predicted', async (_, periodSeconds, periodsMax, what) => {
    const dispatcher = formulaDispatcher(store);
    const failure: unknown = await replayed(
      (seconds) => seconds,
      { periodSeconds, periodsMax },
      dispatcher,
    ).catch((error: unknown) => error);
    expect(failure).toBeInstanceOf(QianmoError);
    expect((failure as QianmoError).report).toMatchObject({ kind: 'data' });
    expect((failure as QianmoError).report.what).toContain(what);
    expect(dispatcher.orders).toEqual([]);
  });
});

it('sends no job that has no row to predict', async () => {
  const dispatcher = formulaDispatcher(store);
  await evaluateFormula({ store, config, dispatcher });
  const withoutRows = dispatcher.orders.filter(
    ({ job: { work } }) =>
      work.kind === 'predict' &&
      work.rows === 'support' &&
      work.division?.by === 'shots' &&
      work.division.supportRowsMax === 0,
  );
  expect(withoutRows).toEqual([]);
});

describe('a report with protocols', () => {
  it('is the same whatever the order of delivery, and survives JSON', async () => {
    const dispatcher = formulaDispatcher(store, { arrange: (orders) => [...orders].reverse() });
    expect((await evaluateFormula({ store, config, dispatcher })).protocols).toEqual(
      report.protocols,
    );
    expect(parseReport(reportJson(report), 'here')).toEqual(report);
  });

  it('shows them as a table with a row for each point, and as plots', () => {
    const lines = asText(evaluationDocument(report)).split('\n');
    const start = lines.findIndex((line) => line.startsWith('By number of support rows'));
    expect(lines.slice(start + 2, start + 6).map((line) => line.split(' ')[0])).toEqual([
      '0',
      '1',
      '3',
      '20',
    ]);
    expect(
      new Set(lines.slice(start + 1, start + 6).map((line) => line.trimEnd().length)).size,
    ).toBeLessThan(3);
    const html = asPage(evaluationDocument(report));
    for (const title of [
      'By number of support rows',
      'Phase by phase',
      'Progressive validation',
      'together',
    ])
      expect(html).toContain(title);
    expect(html.match(/<svg role="img"/g)?.length).toBeGreaterThanOrEqual(9);
    expect(html).not.toContain('NaN');
  });
});
