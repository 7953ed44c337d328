import { describe, expect, it } from 'vitest';
import { jobOf } from '../../../coordinator/dispatch/dispatcher.js';
import { orderOfTask } from '../../../coordinator/plan/poison-task.js';
import { encodeDense, ordersOf } from '../../../coordinator/plan/step-orders.js';
import { layoutOf, stepPlanner } from '../../../coordinator/plan/step-plan.js';
import { initialMetaParameters } from '../../../shared/models/meta-parameters.js';
import { modelSpecOf } from '../../../shared/models/model-spec.js';
import { drawnRowsOf, JobSchema } from '../../../shared/queue/protocol.js';
import { blobRefOf } from '../../../shared/storage/blob-store.js';
import { encodeRowPack, rowPackLayoutOf } from '../../../shared/tasks/row-pack.js';
import { withDrawnRows } from '../../../shared/tasks/chosen-rows.js';
import { tinyTaskStore } from '../../fixtures/stores/tiny-task-store.js';
import { logisticConfig } from '../../fixtures/training/training-run.js';

describe('orderOfTask', () => {
  it.each([
    ['', {}],
    [', those that were drawn', { rowsPerOuterStep: 30, taskWeight: 'examples' }],
  ])(
    'has the weights and rows of the task%s, as if it had been planned alone',
    async (_, draws) => {
      const training = { outerSteps: 1, tasksPerOuterStep: 6, leavesPerOuterStepMin: 3 };
      const config = logisticConfig({ ...training, ...draws });
      const store = tinyTaskStore({ bags: [{ rowCount: 9, lengthMax: 3 }] });
      const spec = modelSpecOf(config.model, store.manifest.features);
      const metaParameters = initialMetaParameters(spec, 3);
      for (const { values } of metaParameters.tables.values())
        values.forEach((_, index) => (values[index] = index + 1));
      const plan = await stepPlanner(config, store).take(0);
      const whole = { first: 0, end: plan.leaves.length };
      const [order] = ordersOf(plan, [whole], encodeDense(metaParameters), {
        run: { config, store, storeAddress: 'memory://store', spec },
        packOf: () =>
          encodeRowPack(metaParameters.tables, layoutOf(plan, whole), spec.tableRowWidth),
        ...{ frozen: null, fingerprint: null },
      });
      if (order?.job.work.kind !== 'gradient') throw new Error('a delivery has an order');
      const { taskWeights, leaves } = order.job.work;
      for (const place of [1, 4]) {
        const part = await orderOfTask(order, place, { store });
        const taskIndex = order.job.taskIndices[place] ?? -1;
        const leafByPlace = leaves.shapes.flatMap((shape) =>
          Array.from({ length: shape[0] }, () => shape),
        );
        const [, ...extents] = leafByPlace[place] ?? [];
        expect(part.job).toMatchObject({ jobIndex: place, taskIndices: [taskIndex] });
        expect(part.job.work).toMatchObject({
          taskWeights: [taskWeights[place]],
          leaves: { first: 0, stepLeafCount: 1, shapes: [[1, ...extents]] },
        });
        const job = jobOf(part, blobRefOf);
        expect(JobSchema.parse(job)).toEqual(job);
        const drawn = drawnRowsOf(part.job.work);
        expect(drawn === null).toBe(!('rowsPerOuterStep' in draws));
        const layout = rowPackLayoutOf(withDrawnRows(await store.readTasks([taskIndex]), drawn));
        const expected = encodeRowPack(metaParameters.tables, layout, spec.tableRowWidth);
        expect(part.rowPack).toEqual(expected);
      }
    },
  );
});
