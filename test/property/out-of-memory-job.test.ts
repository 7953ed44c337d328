// A device that runs out of memory refuses its job: smaller micro-batches would change the bits.

import { expect, test } from 'vitest';
import { createExecutor } from '../../worker/compute/job/create-executor.js';
import {
  nativeBackendOf,
  type NativeBackend,
  type NativeBinding,
} from '../../worker/compute/engine/native-backend.js';
import { type CaseWork, jobCaseOf, runJob } from '../fixtures/compute/compute-inputs.js';
import { methodOf } from '../fixtures/compute/methods.js';
import { tinyTaskStore } from '../fixtures/stores/tiny-task-store.js';
import { expectFailureOf } from '../fixtures/failures.js';

const taskCount = 12;
const jobCase = jobCaseOf(tinyTaskStore({ taskCount }), { personal: ['bias', 'output'] });
const indices = Array.from({ length: taskCount }, (_, index) => index);
const works: CaseWork[] = [
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

const executor = await createExecutor({
  openStore: () => Promise.resolve(jobCase.store),
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
  'a $kind job is refused after one attempt, and leaves the executor as it was',
  async (work) => {
    if (backend === null) return;
    const run = (): ReturnType<typeof runJob> => runJob(executor, jobCase, indices, work, 4096);
    const before = await run();
    const tensorCount = executor.engine.tf.memory().numTensors;
    exhaustMemoryOnce(backend);
    await expectFailureOf(run(), 'environment', {
      found: /OOM when allocating tensor/,
      isOfThisMachine: true,
    });
    expect(executor.engine.tf.memory().numTensors).toBe(tensorCount);
    expect((await run()).bytes).toEqual(before.bytes);
  },
);
