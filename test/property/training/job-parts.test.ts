// A job that is computed in parts has the gradient and the losses of the whole job, bit for bit. Seen to fail for
// parts that are rounded before they are added, for parts that are added in order of arrival, for losses at other
// places of the job, and for a worker that does not compare its cut with that of the coordinator.

import fc from 'fast-check';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { Admitted, DeliveredResult } from '../../../coordinator/dispatch/dispatcher.js';
import { sizeDivisionOf } from '../../../coordinator/plan/job-sizes.js';
import type { JobPart } from '../../../coordinator/plan/orders/job-parts.js';
import { joinedParts } from '../../../coordinator/training/gradients/joined-parts.js';
import type { JobGradient } from '../../../coordinator/training/gradients/job-gradient.js';
import { partReader } from '../../../coordinator/training/gradients/part-gradient.js';
import { gradientCutOf } from '../../../shared/methods/inner-loop/gradient-cut.js';
import { methodPlanOf } from '../../../shared/methods/methods.js';
import type { GradientWork } from '../../../shared/queue/protocol.js';
import type { MicroBatchRange } from '../../../shared/tasks/rows/micro-batch-range.js';
import { blobRefOf } from '../../../shared/storage/blob-store.js';
import { rowPackLayoutOf } from '../../../shared/tasks/row-pack.js';
import { createExecutor, type LocalExecutor } from '../../../worker/compute/job/create-executor.js';
import { jobCaseOf, jobInputOf } from '../../fixtures/compute/compute-inputs.js';
import { methodOf } from '../../fixtures/compute/methods.js';
import { deliveredOf } from '../../fixtures/gradient-results.js';
import { tinyTaskStore } from '../../fixtures/stores/tiny-task-store.js';

const TASK_COUNT = 14;
const store = tinyTaskStore({
  ...{ bags: [{ rowCount: 6, lengthMax: 3 }], counts: true, taskCount: TASK_COUNT },
  ...{ supportRowCountMax: 90, queryRowCountMax: 120 },
});
const METHODS = [
  { kind: 'fomaml', innerSteps: 2, innerRate: 0.2 },
  { kind: 'maml', innerSteps: 1, innerRate: 0.2 },
  { kind: 'reptile', innerSteps: 3, innerRate: 0.1 },
  { kind: 'global' },
].map(methodOf);
const ROWS_MAX = 700;
const sizes = sizeDivisionOf([20, 60]);

let executor: LocalExecutor;
beforeAll(async () => {
  executor = await createExecutor({ openStore: () => Promise.resolve(store) });
});
afterAll(() => executor.close());

interface PartsCase {
  readonly taskIndices: readonly number[];
  readonly work: GradientWork;
  /** Draws the number of leading micro-batches among those that are possible. */
  readonly lead: number;
  readonly isReversed: boolean;
}

const partsCase: fc.Arbitrary<PartsCase> = fc
  .record({
    taskIndices: fc.uniqueArray(fc.nat(TASK_COUNT - 1), { minLength: 6, maxLength: TASK_COUNT }),
    method: fc.constantFrom(...METHODS),
    weights: fc.array(fc.double({ min: 0.01, max: 1, noNaN: true }), {
      ...{ minLength: TASK_COUNT, maxLength: TASK_COUNT },
    }),
    asksBefore: fc.boolean(),
    lead: fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true }),
    isReversed: fc.boolean(),
  })
  .map(({ taskIndices, method, weights, asksBefore, ...others }) => ({
    ...{ taskIndices, ...others },
    work: {
      ...{ kind: 'gradient', method, taskWeights: weights.slice(0, taskIndices.length) },
      sizeBuckets: [...sizesOf(taskIndices, weights).bucketByTask],
      ...(asksBefore && method.kind !== 'global' ? { queryLossBefore: true } : {}),
    },
  }));

function sizesOf(taskIndices: readonly number[], weights: readonly number[]) {
  return sizes.of(
    taskIndices.map((taskIndex, place) => ({
      supportRowCount: store.tasks[taskIndex]!.supportRowCount,
      ...{ weight: weights[place]!, isTrunk: false },
    })),
  );
}

function partsOfCut(cut: readonly { taskPlaces: readonly number[] }[], lead: number): JobPart[] {
  const leadingCount = 1 + Math.floor(lead * (cut.length - 1));
  const ranges = [
    { first: 0, end: leadingCount },
    ...cut.slice(leadingCount).map((_, index) => {
      return { first: leadingCount + index, end: leadingCount + index + 1 };
    }),
  ];
  return ranges.map((range) => {
    const taskPlaces = cut.slice(range.first, range.end).flatMap((one) => one.taskPlaces);
    const microBatches = { ...range, count: cut.length, taskCount: taskPlaces.length };
    return { jobIndex: 0, rowCount: 0, taskPlaces, microBatches };
  });
}

async function delivered(
  { taskIndices, work }: PartsCase,
  jobIndex: number,
  microBatches?: MicroBatchRange,
): Promise<DeliveredResult> {
  const jobCase = jobCaseOf(store, { embeddingWidth: 4, hiddenWidths: [6, 5] }, 5, work.method);
  const partWork = microBatches === undefined ? work : { ...work, microBatches };
  const input = await jobInputOf(jobCase, taskIndices, partWork, ROWS_MAX);
  const { output, computeMs: _, ...measured } = await executor.execute(input);
  const { result } = deliveredOf(jobIndex, new Map());
  return {
    ...{ output, isConfirmed: false },
    result: { ...result, ...measured, output: blobRefOf(output) },
  };
}

/** Its arrays as hexadecimal digits, so that -0 and 0 differ. */
function bitsOf({ dense, rows, release: _, ...losses }: JobGradient) {
  const bits = (values: Float32Array): string =>
    Buffer.from(values.buffer, values.byteOffset, values.byteLength).toString('hex');
  return {
    ...{ ...losses, rows: bits(rows) },
    dense: [...dense].map(([name, { shape, values }]) => [name, shape, bits(values)]),
  };
}

test('parts add up to the bits of the whole job', async () => {
  let dividedCount = 0;
  await fc.assert(
    fc.asyncProperty(partsCase, async (example) => {
      const { taskIndices, work } = example;
      const tasks = await store.readTasks(taskIndices);
      const taskSizes = tasks.map(({ rowCount, supportRowCount }) => ({
        ...{ supportRowCount, queryRowCount: rowCount - supportRowCount },
      }));
      const plan = methodPlanOf(work.method);
      const cut = gradientCutOf(plan, taskSizes, { rowsMax: ROWS_MAX });
      fc.pre(cut.length > 1);
      dividedCount += 1;
      const parts = partsOfCut(cut, example.lead);
      const jobSizes = sizesOf(taskIndices, work.taskWeights);
      const { spec } = jobCaseOf(
        store,
        { embeddingWidth: 4, hiddenWidths: [6, 5] },
        5,
        work.method,
      );
      const layouts = [rowPackLayoutOf(tasks)];
      const asksBefore = work.queryLossBefore === true;
      const shapes = { spec, layouts, sizes: [jobSizes], parts, asksBefore };
      const planned = {
        ...{ jobIndex: 0, taskIndices, taskWeights: work.taskWeights, coldTaskWeights: null },
        ...{ drawnRows: null, neighbours: {}, sizes: jobSizes, rowCount: 0, cut: [] },
        layout: layouts[0]!,
      };
      const whole = partReader({ ...shapes, parts: [] })(await delivered(example, 0));
      const read = partReader(shapes);
      const arrivals: Admitted<Exclude<ReturnType<typeof read>, string>>[] = [];
      for (const [place, { microBatches }] of parts.entries()) {
        const one = await delivered(example, place, microBatches!);
        const value = read(one);
        if (typeof value === 'string') throw new Error(value);
        arrivals.push({ result: one.result, value });
      }
      if (example.isReversed) arrivals.reverse();
      const arriving = (async function* () {
        yield* arrivals;
        await Promise.resolve();
      })();
      const joined: Admitted<JobGradient>[] = [];
      for await (const each of joinedParts(arriving, { jobs: [planned] }, shapes))
        joined.push(each);
      expect(joined).toHaveLength(1);
      if (typeof whole === 'string' || 'part' in whole) throw new Error('expected a whole job');
      expect(bitsOf(joined[0]!.value)).toEqual(bitsOf(whole));
    }),
    { numRuns: 40 },
  );
  expect(dividedCount).toBeGreaterThan(20);
}, 120_000);

test('a worker refuses a part of another cut', async () => {
  const example: PartsCase = {
    ...{ taskIndices: [0, 1, 2, 3, 4, 5], lead: 0, isReversed: false },
    work: { kind: 'gradient', method: METHODS[0]!, taskWeights: Array<number>(6).fill(1) },
  };
  const range = { first: 0, end: 1, count: 9, taskCount: 1 };
  await expect(delivered(example, 0, range)).rejects.toThrow(/does not fit the job/);
});
