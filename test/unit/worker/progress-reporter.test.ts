/** The progress of a job, as its executor reports it. */

import { expect, it } from 'vitest';
import { createExecutor } from '../../../worker/compute/job/create-executor.js';
import { jobCaseOf, jobInputOf } from '../../fixtures/compute/compute-inputs.js';
import { methodOf } from '../../fixtures/compute/methods.js';
import { tinyTaskStore } from '../../fixtures/stores/tiny-task-store.js';

it('an executor reports its phases and micro-batches, counted from 1', async () => {
  const seen: string[] = [];
  const store = tinyTaskStore();
  const executor = await createExecutor({
    openStore: () => Promise.resolve(store),
    onProgress: ({ phase, microBatch }) =>
      seen.push(
        microBatch === undefined ? phase : `${phase} ${microBatch.number}/${microBatch.count}`,
      ),
  });
  const input = await jobInputOf(
    jobCaseOf(store, { personal: ['bias'] }),
    [0, 1, 2, 3],
    {
      kind: 'gradient',
      method: methodOf({ kind: 'fomaml', innerSteps: 1, innerRate: 0.1 }),
      taskWeights: [0.25, 0.25, 0.25, 0.25],
    },
    1,
  );
  await executor.execute(input);
  await executor.close();
  const batches = ['computing 1/4', 'computing 2/4', 'computing 3/4', 'computing 4/4'];
  expect(seen).toEqual(['reading', 'computing', ...batches]);
});
