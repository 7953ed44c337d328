/** The pace of workers, as results tell it. */

import { expect, it } from 'vitest';
import { WorkerPace } from '../../../../coordinator/training/step-pipeline.js';

async function afterStep(pace: WorkerPace, workers: readonly string[]): Promise<WorkerPace> {
  const results = async function* () {
    for (const [jobIndex, worker] of workers.entries())
      yield await Promise.resolve({ result: { worker, jobIndex, computeMs: 30 } });
  };
  for await (const _ of pace.noting(results(), [100, 200]));
  return pace;
}

it('counts those that returned results, and divides their time by the cost', async () => {
  const pace = new WorkerPace();
  expect(pace).toMatchObject({ workerCount: 0, msPerCost: null });
  // 60 ms for 300 units
  expect(await afterStep(pace, ['a', 'b'])).toMatchObject({ workerCount: 2, msPerCost: 0.2 });
  expect(await afterStep(pace, ['b', 'b'])).toMatchObject({ workerCount: 1 });
});

it('stays where a step has no result', async () => {
  const pace = await afterStep(new WorkerPace(), ['a']);
  expect(await afterStep(pace, [])).toMatchObject({ workerCount: 1, msPerCost: 0.3 });
});
