// A job that runs out of memory gives the result of a job with the smaller bound, and reports it.

import { expect, test } from 'vitest';
import { gradientCutOf } from '../../shared/methods/inner-loop/gradient-cut.js';
import { methodPlanOf } from '../../shared/methods/methods.js';
import type { JobWork } from '../../shared/queue/protocol.js';
import { createExecutor } from '../../worker/compute/job/create-executor.js';
import {
  nativeBackendOf,
  type NativeBackend,
  type NativeBinding,
} from '../../worker/compute/engine/native-backend.js';
import { jobCaseOf, relativeDifference, runJob } from '../fixtures/compute/compute-inputs.js';
import { methodOf } from '../fixtures/compute/methods.js';
import { tinyTaskStore } from '../fixtures/stores/tiny-task-store.js';
import type { RunEvent } from '../../shared/events/run-events.js';

const taskCount = 12;
const jobCase = jobCaseOf(tinyTaskStore({ taskCount }), { personal: ['bias', 'output'] });
const indices = Array.from({ length: taskCount }, (_, index) => index);
const works: JobWork[] = [
  {
    kind: 'gradient',
    method: methodOf({ kind: 'fomaml', innerSteps: 2, innerRate: 0.1 }),
    taskWeights: indices.map(() => 1 / taskCount),
  },
  {
    kind: 'predict',
    method: { kind: 'global' },
    adaptations: [{ innerRate: 0.1, innerSteps: 2 }],
    rows: 'query',
  },
];

const warnings: RunEvent[] = [];
const executor = await createExecutor({
  openStore: () => Promise.resolve(jobCase.store),
  onEvent: (event) => warnings.push(event),
});
const backend = nativeBackendOf(executor.engine.tf);

/** The next graph to run gets an out-of-memory error in the words of TensorFlow. */
function exhaustMemoryOnce(of: NativeBackend): void {
  const { binding } = of;
  const failing: NativeBinding = Object.create(binding, {
    runSavedModel: {
      value: () => {
        of.binding = binding;
        throw new Error('Invalid TF_Status: 8\nMessage: OOM when allocating tensor with shape[9]');
      },
    },
  }) as NativeBinding;
  of.binding = failing;
}

test.skipIf(backend === null).each(works)(
  'a $kind job is computed again with half the rows, which are kept',
  async (work) => {
    if (backend === null) return;
    const run = (rowsMax: number): ReturnType<typeof runJob> =>
      runJob(executor, jobCase, indices, work, rowsMax);
    const rowsMax = 4096;
    const halved = await run(rowsMax / 2);
    const tensorCount = executor.engine.tf.memory().numTensors;
    await run(rowsMax);
    warnings.length = 0;

    exhaustMemoryOnce(backend);
    const found = await run(rowsMax);
    expect(Buffer.from(found.bytes).equals(Buffer.from(halved.bytes))).toBe(true);
    expect(warnings).toHaveLength(1);
    expect(warnings[0]).toMatchObject({ kind: 'micro-batch-halved', smallerRowsMax: 2048 });
    expect(found.microBatchRowsMax).toBe(2048);
    expect(executor.engine.tf.memory().numTensors).toBe(tensorCount);

    const next = await run(rowsMax);
    expect(next.microBatchRowsMax).toBe(2048);
    expect((await run(1024)).microBatchRowsMax).toBe(1024);
    expect(warnings).toHaveLength(1);
  },
);

test.skipIf(backend === null)(
  'a part of a job keeps its tasks in smaller micro-batches',
  async () => {
    if (backend === null) return;
    const store = { ...tinyTaskStore({ taskCount: 40 }), digest: 'of a part' };
    const partCase = { ...jobCase, store };
    const ofPart = await createExecutor({ openStore: () => Promise.resolve(store) });
    const method = methodOf({ kind: 'maml', innerSteps: 1, innerRate: 0.1 });
    const rowsMax = 320;
    const sizes = store.tasks.map(({ supportRowCount, queryRowCount }) => {
      return { supportRowCount, queryRowCount };
    });
    const cut = gradientCutOf(methodPlanOf(method), sizes, { rowsMax });
    const count = cut.length;
    const leading = cut.slice(0, -1).flatMap(({ taskPlaces }) => taskPlaces);
    const microBatches = { first: 0, end: count - 1, count, taskCount: leading.length };
    const taskWeights = sizes.map(() => 1 / sizes.length);
    const work: JobWork = { kind: 'gradient', method, taskWeights, microBatches };
    const places = [...sizes.keys()];
    const plain = await runJob(ofPart, partCase, places, work, rowsMax);
    exhaustMemoryOnce(backend);
    const smaller = await runJob(ofPart, partCase, places, work, rowsMax);
    await ofPart.close();
    expect(count).toBeGreaterThan(2);
    expect(smaller.microBatchRowsMax).toBe(rowsMax / 2);
    // Sums of more micro-batches have other low bits.
    expect(Buffer.from(smaller.bytes).equals(Buffer.from(plain.bytes))).toBe(false);
    expect([...smaller.tensors.keys()]).toEqual([...plain.tensors.keys()]);
    for (const [name, values] of smaller.tensors)
      expect(relativeDifference(values, plain.tensors.get(name) ?? [])).toBeLessThan(1e-5);
  },
);
