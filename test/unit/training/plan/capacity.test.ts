import { describe, expect, it } from 'vitest';
import { capacityPlan, plannedStep } from '../../../../coordinator/plan/capacity.js';
import type { StepCosts } from '../../../../coordinator/plan/capacity.js';
import { stepPlanner } from '../../../../coordinator/plan/step-plan.js';
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

  it('adds the time of the coordinator for the step and for each delivery', () => {
    const plan = planOf({ serialMs: 50, coordinatorMsPerDelivery: 10 });
    expect(
      plan.map(({ coordinatorMs, deliveryCount }) => coordinatorMs - 10 * deliveryCount),
    ).toEqual(COUNTS.map(() => 50));
    expect(plan.at(-1)).toMatchObject({ deliveryCount: 16, stepMs: 310, bound: 'coordinator' });
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
