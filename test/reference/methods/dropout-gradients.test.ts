// Gradients with dropped hidden units and ids: one worked row, central differences of the loss at fixed
// masks, and independence of jobs. Seen to fail with masks of one seed, and of the place of a task in its job.

import { describe, expect, test } from 'vitest';
import type { GradientWork } from '../../../shared/queue/protocol.js';
import { withDroppedIds } from '../../../shared/tasks/task-copies.js';
import { createExecutor } from '../../../worker/compute/job/create-executor.js';
import { unitMasksOf } from '../../../worker/compute/models/row-batch.js';
import {
  jobCaseOf,
  runJob,
  type CaseWork,
  type JobCase,
  type NamedOutput,
} from '../../fixtures/compute/compute-inputs.js';
import { methodOf } from '../../fixtures/compute/methods.js';
import { expectSumOf, namedGradient } from '../../fixtures/compute/named-gradients.js';
import { openedOnce } from '../../fixtures/opened.js';
import { tinyTaskStore } from '../../fixtures/stores/tiny-task-store.js';
import { rich } from '../gradient-expectations.js';

const small = { embeddingWidth: 3, hiddenWidths: [5, 4] };
const jobCase = jobCaseOf(tinyTaskStore(rich), {
  ...small,
  personal: ['bias', 'layer1', 'output'],
});
const oneRow = jobCaseOf(
  {
    ...tinyTaskStore({ taskCount: 3, supportRowCountMax: 1, queryRowCountMax: 1 }),
    digest: 'one row',
  },
  { ...small, hiddenWidths: [5], personal: ['bias'] },
);

const executor = openedOnce(() =>
  createExecutor({
    openStore: ({ digest }) =>
      Promise.resolve(digest === oneRow.store.digest ? oneRow.store : jobCase.store),
  }),
);

const indices = [0, 1, 2, 3];
const dropout = { seed: 8, units: 0.3, inputs: 0.2, ids: 0.2 };

function workOf(
  settings: { readonly kind: string; readonly [name: string]: unknown },
  dropped: GradientWork['dropout'],
  weights: readonly number[] = [0.1, 0.4, 0.2, 0.3],
): CaseWork {
  return {
    kind: 'gradient',
    method: methodOf(settings),
    taskWeights: [...weights],
    ...(dropped === undefined ? {} : { dropout: dropped }),
  };
}

const methods = [{ kind: 'global' }, { kind: 'fomaml', innerSteps: 2, innerRate: 0.3 }];

test('a row whose hidden units are dropped has the loss of an output layer that is masked alike', async () => {
  const work = workOf({ kind: 'global' }, { seed: 8, units: 0.4 }, [1]);
  for (const taskIndex of [0, 1, 2]) {
    const [task] = await oneRow.store.readTasks([taskIndex]);
    // One row alone: the masks of several would differ.
    const rows = { ...task!, supportRowCount: 0, rowCount: 1 };
    const [mask] = unitMasksOf(
      { seed: 8, outerStep: 0 },
      { tasks: [rows], role: 'query', taskCount: 1, rowExtent: 1 },
      [{ width: 5, rate: 0.4 }],
    );
    const fewer = {
      ...rows,
      ...{ impressions: task!.impressions.slice(0, 1), clicks: task!.clicks.slice(0, 1) },
    };
    const store = { ...oneRow.store, readTasks: () => Promise.resolve([fewer]) };
    const output = oneRow.meta.dense.get('output.weight')!;
    const dense = new Map(oneRow.meta.dense).set('output.weight', {
      ...output,
      values: output.values.map((value, unit) => value * mask![unit]!),
    });
    const single = await createExecutor({ openStore: () => Promise.resolve(store) });
    const dropped = await runJob(single, { ...oneRow, store }, [taskIndex], work);
    const masked = await runJob(
      single,
      { ...oneRow, store, meta: { ...oneRow.meta, dense } },
      [taskIndex],
      workOf({ kind: 'global' }, undefined, [1]),
    );
    await single.close();
    expect(dropped.weightedQueryLoss).toBeCloseTo(masked.weightedQueryLoss, 6);
  }
});

describe.each(methods)('$kind $path', (settings) => {
  const run = (dropped?: GradientWork['dropout'], of: JobCase = jobCase): Promise<NamedOutput> =>
    runJob(executor, of, indices, workOf(settings, dropped));

  test('rates of 0 change no bit, and every seed draws anew in the same graph', async () => {
    const plain = await run();
    expect((await run({ seed: 8, units: 0, ids: 0 })).bytes).toEqual(plain.bytes);
    const first = await run(dropout);
    expect(first.bytes).not.toEqual(plain.bytes);
    expect((await run(dropout)).bytes).toEqual(first.bytes);
    expect((await run({ ...dropout, ids: 0, seed: 9 })).bytes).not.toEqual(
      (await run({ ...dropout, ids: 0 })).bytes,
    );
    expect((await run({ seed: 9, ids: 0.2 })).bytes).not.toEqual(plain.bytes);
  });

  test('a job is the sum of jobs of one task each', async () => {
    const whole = await gradientOf(indices, workOf(settings, dropout));
    const parts: Map<string, Float32Array>[] = [];
    for (const [place, index] of indices.entries()) {
      const weight = [0.1, 0.4, 0.2, 0.3][place]!;
      parts.push(await gradientOf([index], workOf(settings, dropout, [weight])));
    }
    expectSumOf(parts, whole);
  });
});

test.each([
  ['mlp', {}],
  ['wide-deep', {}],
  ['deepfm', {}],
  ['ipnn', {}],
  ['opnn', {}],
  ['dcn-v2', {}],
  ['dcn-v2', { crossTower: 'stacked' }],
  ['dcn-v2', { crossTower: 'stacked', personal: ['cross0'] }],
  ['dcn-v2', { crossTower: 'stacked', adgroupEmbedding: true, personal: ['adgroupEmbedding'] }],
])('the first hidden layer of %s %o reads less where inputs are dropped', async (kind, options) => {
  const of = jobCaseOf(tinyTaskStore(rich), { ...small, kind, personal: ['bias'], ...options });
  const run = (dropped?: GradientWork['dropout']): Promise<NamedOutput> =>
    runJob(executor, { ...of, store: jobCase.store }, indices, workOf(methods[1]!, dropped));
  const dropped = await run({ seed: 8, inputs: 0.4 });
  expect(dropped.bytes).not.toEqual((await run()).bytes);
  expect(dropped.bytes).not.toEqual((await run({ seed: 9, inputs: 0.4 })).bytes);
});

// Seen to fail: with the mask of the last layer.
test.each([
  [[5], true],
  [[5, 4], false],
])('posterior blocks see all units of the last of the layers %j', async (hiddenWidths, isWhole) => {
  const posterior = { kind: 'posterior' };
  const options = { ...small, hiddenWidths, personal: ['bias', 'output'] };
  const of = {
    ...jobCaseOf(tinyTaskStore(rich), options, 5, methodOf(posterior)),
    store: jobCase.store,
  };
  const run = (dropped?: GradientWork['dropout']): Promise<NamedOutput> =>
    runJob(executor, of, indices, workOf(posterior, dropped));
  const [plain, dropped] = [await run(), await run({ seed: 8, units: 0.4 })];
  expect(Buffer.from(dropped.bytes).equals(plain.bytes)).toBe(isWhole);
});

async function gradientOf(of: number[], work: CaseWork): Promise<Map<string, Float32Array>> {
  const output = await runJob(executor, jobCase, of, work);
  const { spec, store } = jobCase;
  const ids = { rates: dropout.ids, seed: dropout.seed, outerStep: 0 };
  const tasks = withDroppedIds(await store.readTasks(of), store.manifest.features, ids);
  return namedGradient(output, spec, tasks);
}

test('the gradient of the global model is the derivative of the loss at fixed masks', async () => {
  const work = workOf({ kind: 'global' }, dropout);
  const { tensors } = await runJob(executor, jobCase, indices, work);
  const { dense } = jobCase.meta;
  const lossAt = async (step: number): Promise<number> => {
    const moved = new Map(
      [...dense].map(([name, tensor]) => [
        name,
        {
          ...tensor,
          values: tensor.values.map((value, at) => value + step * tensors.get(name)![at]!),
        },
      ]),
    );
    const meta = { ...jobCase.meta, dense: moved };
    return (await runJob(executor, { ...jobCase, meta }, indices, work)).weightedQueryLoss;
  };
  const step = 0.005;
  const slope = ((await lossAt(step)) - (await lossAt(-step))) / (2 * step);
  // Along the gradient, the slope is its squared norm.
  const squares = [...dense.keys()].flatMap((name) => [...tensors.get(name)!]);
  const squaredNorm = squares.reduce((sum, value) => sum + value * value, 0);
  expect(Math.abs(slope / squaredNorm - 1)).toBeLessThan(0.01);
});
