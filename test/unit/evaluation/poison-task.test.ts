/** A task that makes a job of an evaluation fail. */

import { expect, it } from 'vitest';
import { createInMemoryDispatcher } from '../../../coordinator/dispatch/in-memory-dispatcher.js';
import { predictLogits, type TaskJobContext } from '../../../coordinator/evaluation/task-jobs.js';
import { QianmoError } from '../../../shared/base/errors.js';
import { initialMetaParameters } from '../../../shared/models/meta-parameters.js';
import { modelSpecOf } from '../../../shared/models/model-spec.js';
import type { JobExecutor } from '../../../shared/queue/job-executor.js';
import { encodeTensors } from '../../../shared/tensors/tensor-codec.js';
import { instantClock } from '../../fixtures/clocks/instant-clock.js';
import { tinyTaskStore } from '../../fixtures/stores/tiny-task-store.js';
import { logisticConfig } from '../../fixtures/training/training-run.js';
import { tasksOfJob } from '../../fixtures/queue/tasks-of-job.js';

it('ends the evaluation and names the task, although logits may be infinite', async () => {
  const config = logisticConfig({ outerSteps: 1 });
  const store = tinyTaskStore();
  const spec = modelSpecOf(config.model, store.manifest.features);
  const outputOf = (tasks: readonly number[]): Uint8Array => {
    const rowCount = tasks.reduce((sum, task) => sum + store.tasks[task]!.queryRowCount, 0);
    const values = new Float32Array(rowCount).fill(Infinity);
    return encodeTensors(new Map([['logits', { shape: [1, rowCount], values }]]));
  };
  const executor: JobExecutor = {
    execute: ({ job }) =>
      tasksOfJob(job).includes(6)
        ? Promise.reject(new QianmoError({ kind: 'transient', what: 'the compute process ended' }))
        : Promise.resolve({
            output: outputOf(tasksOfJob(job)),
            ...{ queryRowCount: 1, computeMs: 1 },
            ...{ backend: 'test', fingerprint: 'test-01234567' },
          }),
    close: () => Promise.resolve(),
  };
  const sink = (): void => undefined;
  const dispatcher = createInMemoryDispatcher({
    ...{ executors: [executor], clock: instantClock(), attemptsMax: 2, sink },
  });
  let waveCount = 0;
  const context: TaskJobContext = {
    ...{ config, runId: 'r', store, storeAddress: 'memory://store', spec, dispatcher },
    signal: new AbortController().signal,
    nextWave: () => (waveCount += 1),
    onTasksDone: () => undefined,
    onBackend: () => undefined,
  };
  const parameters = initialMetaParameters(spec, 3);
  const evaluated = predictLogits(context, {
    ...{ parameters, method: { kind: 'global' }, taskIndices: [4, 5, 6, 7, 8] },
    ...{ adaptations: [{ innerRate: 0.1, innerSteps: 1 }], role: 'query', keep: [] },
  });
  await expect(evaluated).rejects.toMatchObject({
    kind: 'failed',
    report: {
      what: 'a task makes its job fail',
      found: expect.stringMatching(/^task task6 .*: the compute process ended$/) as string,
    },
  });
});
