import { describe, expect, it } from 'vitest';
import { capacityPlan, plannedStep } from '../../../../coordinator/plan/capacity.js';
import type { StepCosts } from '../../../../coordinator/plan/capacity.js';
import { stepPlanner } from '../../../../coordinator/plan/step-plan.js';
import {
  capacityDocument,
  capacitySvg,
} from '../../../../coordinator/reports/capacity-document.js';
import { asText } from '../../../../coordinator/reports/document/as-text.js';
import { modelSpecOf } from '../../../../shared/models/model-spec.js';
import { tinyTaskStore } from '../../../fixtures/stores/tiny-task-store.js';
import { logisticConfig } from '../../../fixtures/training/training-run.js';

const COUNTS = [1, 2, 4, 16, 1_000];
const FREE: StepCosts = {
  ...{ serialMs: 0, msPerCost: 1, workerMsPerDelivery: 0, coordinatorMsPerDelivery: 0 },
  ...{ denseByteCount: 0, hasRowPacks: true, stepMs: 0 },
};

const stepOf = (costs: readonly number[], byteCount = 0) => ({
  leaves: costs.map((cost) => ({ cost, jobByteCount: 1 })),
  byteCountOf: () => byteCount,
});
const sixteen = stepOf(Array<number>(16).fill(100));

const planOf = (
  costs: Partial<StepCosts>,
  { step = sixteen, bytesPerMs = 1 } = {},
): ReturnType<typeof capacityPlan> =>
  capacityPlan([step], COUNTS, { costs: { ...FREE, ...costs }, drawnCount: 64, bytesPerMs });

describe('a capacity plan', () => {
  it('shares the leaves out evenly, and is no faster with more workers than leaves', () => {
    const plan = planOf({});
    expect(plan.map(({ stepMs }) => stepMs)).toEqual([1_600, 800, 400, 100, 100]);
    expect(plan.map(({ speedup }) => speedup)).toEqual([1, 2, 4, 16, 16]);
    expect(plan.map(({ perSecond }) => perSecond)).toEqual([40, 80, 160, 640, 640]);
    expect(plan.map(({ bound }) => bound)).toEqual([
      'workers',
      'workers',
      'workers',
      'leaves',
      'leaves',
    ]);
  });

  it('is bound by the largest leaf from the first worker that has nothing else', () => {
    const step = stepOf([1_000, 10, 10, 10]);
    const [, two] = planOf({}, { step });
    expect(two).toMatchObject({ workersMs: 1_000, bound: 'leaves' });
  });

  it('adds the time of the coordinator for the step and for each delivery', () => {
    const plan = planOf({ serialMs: 50, coordinatorMsPerDelivery: 10 });
    expect(
      plan.map(({ coordinatorMs, deliveryCount }) => coordinatorMs - 10 * deliveryCount),
    ).toEqual(COUNTS.map(() => 50));
    expect(plan.at(-1)).toMatchObject({ deliveryCount: 16, stepMs: 310, bound: 'coordinator' });
  });

  it('adds the bytes of all deliveries, and the dense variables once for each worker', () => {
    const step = { ...sixteen, byteCountOf: () => 30 };
    const plan = planOf({ denseByteCount: 100 }, { step, bytesPerMs: 2 });
    expect(plan.at(-1)).toMatchObject({ byteCount: 2_080, bytesMs: 1_040, bound: 'bytes' });
    for (const { byteCount, deliveryCount, workerCount } of plan)
      expect(byteCount).toBe(30 * deliveryCount + 100 * Math.min(workerCount, deliveryCount));
  });

  it('counts the time that a delivery takes its worker', () => {
    const [one] = planOf({ workerMsPerDelivery: 7 });
    expect(one?.workersMs).toBe(1_600 + 7 * one!.deliveryCount);
  });

  it('knows the bytes of a delivery from the plan of the coordinator', async () => {
    const training = { tasksPerOuterStep: 5, leavesPerOuterStepMin: 4 };
    const config = logisticConfig(training);
    const store = tinyTaskStore();
    const spec = modelSpecOf(config.model, store.manifest.features);
    const plan = await stepPlanner(config, store).take(0);
    const step = plannedStep(plan, spec);
    const whole = step.byteCountOf({ first: 0, end: plan.leaves.length });
    const each = plan.leaves.map((_, leaf) => step.byteCountOf({ first: leaf, end: leaf + 1 }));
    expect(whole).toBeGreaterThan(Math.max(...each));
    // Leaves share rows, which travel once within a delivery.
    expect(whole).toBeLessThan(each.reduce((sum, bytes) => sum + bytes, 0));
  });
});

it('prints a row for each number of workers and a line for the one that was asked for', () => {
  const plan = { run: 'demo', workers: 16, drawn: 'tasks', byWorkers: planOf({}) } as const;
  const [table = '', ...lines] = asText(capacityDocument(plan), 200).split('\n\n');
  for (const text of ['tasks/s', 'speedup', 'bound by', 'leaves']) expect(table).toContain(text);
  expect(lines).toEqual([
    'demo: 16 workers make 640 tasks/s, 16.00 times one worker; the largest leaf bounds it: with more workers it is no faster.',
  ]);
});

it.each([[[1]], [[1, 10, 100]], [[1, 3, 10_000]]])('draws %j workers', async (workerCounts) => {
  const terms = { costs: FREE, drawnCount: 64, bytesPerMs: 1 };
  const byWorkers = capacityPlan([sixteen], workerCounts, terms);
  const svg = await capacitySvg({ run: 'demo', workers: 1, drawn: 'tasks', byWorkers });
  expect(svg.match(/<path d="M1 0A1 /g)).toHaveLength(workerCounts.length);
  expect(svg).toContain('tasks per second');
  expect(svg).not.toMatch(/NaN|var\(/);
});
