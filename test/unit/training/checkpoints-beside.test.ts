/** Checkpoints that are written while the outer loop goes on. */

import { expect, it } from 'vitest';
import type { Checkpoints } from '../../../coordinator/checkpoints/checkpoint-writer.js';
import { train } from '../../../coordinator/training/outer-loop.js';
import { QianmoError } from '../../../shared/base/errors.js';
import { logisticConfig, mapCheckpoints, tinyRun } from '../../fixtures/training/training-run.js';

const config = logisticConfig({
  outerSteps: 6,
  tasksPerOuterStep: 6,
  checkpointEveryOuterSteps: 2,
  optimizer: { kind: 'adam', rate: 0.05 },
});

it('a checkpoint beside training that fails ends the run at the next outer step, which is written', async () => {
  const run = tinyRun(config);
  const checkpoints = mapCheckpoints();
  const full = new QianmoError({ kind: 'environment', what: 'the disk is full' });
  let writeCount = 0;
  const failing: Checkpoints = {
    latest: () => checkpoints.latest(),
    write: (state) => {
      writeCount += 1;
      return writeCount === 1 ? Promise.reject(full) : checkpoints.write(state);
    },
  };
  await expect(train({ ...run.options, checkpoints: failing })).rejects.toBe(full);
  expect([...checkpoints.states.keys()]).toEqual([2]);
});
