import { describe, expect, it } from 'vitest';
import { jobOf } from '../../../coordinator/dispatch/dispatcher.js';
import { orderPart } from '../../../coordinator/plan/poison-task.js';
import { encodeDense, encodeRowPack } from '../../../coordinator/plan/row-pack-gather.js';
import { ordersOf } from '../../../coordinator/plan/step-orders.js';
import { layoutOf, stepPlanner } from '../../../coordinator/plan/step-plan.js';
import { TaskSearch } from '../../../coordinator/plan/task-search.js';
import { initialMetaParameters } from '../../../shared/models/initial-values.js';
import { modelSpecOf } from '../../../shared/models/model-spec.js';
import { drawnRowsOf, type GradientWork, jobSchemaFor } from '../../../shared/queue/protocol.js';
import { blobRefOf } from '../../../shared/storage/blob-store.js';
import { rowPackLayoutOf } from '../../../shared/tasks/row-pack.js';
import { withDrawnRows } from '../../../shared/tasks/rows/drawn-rows.js';
import { tinyTaskStore } from '../../fixtures/stores/tiny-task-store.js';
import { logisticConfig } from '../../fixtures/training/training-run.js';

type Part = readonly number[];

/** Runs a search in which a part fails by a rule, and returns what it found. */
function searched(
  taskCount: number,
  fails: (part: Part) => boolean,
): { readonly guilty: number | null; readonly parts: readonly Part[] } {
  const search = new TaskSearch(taskCount);
  const parts: Part[] = [];
  for (let { part } = search; part !== null; part = search.part) {
    parts.push(part);
    search.note(fails(part) ? 'failed' : 'sound');
  }
  return { guilty: search.guilty, parts };
}

const sizes = [2, 3, 4, 5, 7, 16, 31, 64];

describe('TaskSearch', () => {
  it.each(sizes)('finds the only poison task among %i, wherever it is', (taskCount) => {
    for (let poison = 0; poison < taskCount; poison += 1) {
      const { guilty, parts } = searched(taskCount, (part) => part.includes(poison));
      expect(guilty).toBe(poison);
      expect(parts.length).toBeLessThanOrEqual(2 * Math.ceil(Math.log2(taskCount)) + 1);
    }
  });

  it.each(sizes)('finds one of several poison tasks among %i', (taskCount) => {
    const { guilty } = searched(taskCount, (part) => part.includes(0) || part.includes(1));
    // Two tasks that both fail cannot be told from the job.
    expect(guilty).toBe(taskCount === 2 ? null : 0);
  });

  it.each(sizes)('blames no task when every part of %i fails', (taskCount) => {
    expect(searched(taskCount, () => true).guilty).toBeNull();
  });

  it.each(sizes)('ends after two parts when the failure of %i has passed', (taskCount) => {
    const { guilty, parts } = searched(taskCount, () => false);
    expect(guilty).toBeNull();
    expect(parts.flat()).toEqual(Array.from({ length: taskCount }, (_, place) => place));
    expect(parts).toHaveLength(2);
  });

  it('blames no task when only tasks together fail', () => {
    expect(searched(8, (part) => part.length > 3).guilty).toBeNull();
  });
});

/** The leaves of the tasks at these places, with their padding, as if they were all. */
function leavesOfPlaces(
  { shapes }: GradientWork['leaves'],
  places: readonly number[],
): GradientWork['leaves'] {
  const leafByPlace = shapes.flatMap(([taskCount], leaf) =>
    Array.from({ length: taskCount }, () => leaf),
  );
  const chosen = shapes.flatMap(([, ...extents], leaf): GradientWork['leaves']['shapes'] => {
    const count = places.filter((place) => leafByPlace[place] === leaf).length;
    return count === 0 ? [] : [[count, ...extents]];
  });
  return { first: 0, stepLeafCount: chosen.length, shapes: chosen };
}

describe('orderPart', () => {
  it.each([
    ['', {}],
    [', those that were drawn', { rowsPerOuterStep: 30, taskWeight: 'examples' }],
  ])(
    'has the tasks, weights and rows of the part%s, as if it had been planned',
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
      const places = [1, 4];
      const { taskWeights, leaves } = order.job.work;
      const part = await orderPart(order, places, { store });
      const chosen = places.map((place) => order.job.taskIndices[place] ?? -1);
      expect(part.job.taskIndices).toEqual(chosen);
      expect(part.job.work).toMatchObject({
        taskWeights: places.map((place) => taskWeights[place]),
        leaves: leavesOfPlaces(leaves, places),
      });
      const job = jobOf(part, blobRefOf);
      expect(jobSchemaFor(job).parse(job)).toEqual(job);
      const drawn = drawnRowsOf(part.job.work);
      expect(drawn === null).toBe(!('rowsPerOuterStep' in draws));
      const layout = rowPackLayoutOf(withDrawnRows(await store.readTasks(chosen), drawn));
      const expected = encodeRowPack(metaParameters.tables, layout, spec.tableRowWidth);
      expect(part.rowPack).toEqual(expected);
    },
  );
});
