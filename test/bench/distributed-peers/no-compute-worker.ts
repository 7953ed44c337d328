/**
 * Workers whose results have the size of real ones and cost no computation: zeros in the shape of each job's input,
 * after one number that sets each result apart. Equal results would be one blob, which the first of them that is
 * read deletes, so that the job of the other one is sent again.
 *
 *   node no-compute-worker.js redis://127.0.0.1:6379 NAME [WORKERS] [MS_PER_TASK] [sleeps]
 *
 * They say that a task takes MS_PER_TASK, by which the coordinator cuts outer steps. With `sleeps`, it does.
 */

import { collectGarbageRarely } from '../../../shared/base/garbage-collection.js';
import { systemClock } from '../../../shared/base/clock.js';
import { freshNonce } from '../../../shared/base/nonce.js';
import { bullmqJobQueue } from '../../../shared/queue/bullmq-job-queue.js';
import type { JobExecutor } from '../../../shared/queue/job-executor.js';
import { taskCountOf } from '../../../shared/queue/protocol.js';
import { encodeSums } from '../../../shared/sums/delivered-sums.js';
import { viewTensors } from '../../../shared/tensors/tensor-codec.js';
import { runWorker } from '../../../worker/carrying/work-loop.js';

collectGarbageRarely();
const [redisUrl = '', name = '', workers = '1', msPerTask = '0.25', sleeps = ''] =
  process.argv.slice(2);
/** Whole numbers up to 2^24 times this differ as 32-bit floats. */
const SMALL = 2 ** -40;
const JOBS_OF_STEP_MAX = 1_024;
const stop = new AbortController();
process.once('SIGTERM', () => stop.abort());

const executor: JobExecutor = {
  execute: async ({ job, dense, rowPack }, signal) => {
    const taskCount = taskCountOf(job);
    const computeMs = Number(msPerTask) * taskCount;
    const valueCount = [...viewTensors(dense, 'the input').values()].reduce(
      (sum, { values }) => sum + values.length,
      0,
    );
    const rows = rowPack === null ? undefined : viewTensors(rowPack, 'the input').get('rows');
    const [rowCount = 0, width = 0] = rows?.shape ?? [];
    const values = new Float32Array(valueCount);
    values.fill((job.outerStep * JOBS_OF_STEP_MAX + job.jobIndex + 1) * SMALL, 0, 1);
    const losses = (): Float32Array => new Float32Array(taskCount).fill(0.5);
    const asksBefore = job.work.kind === 'gradient' && job.work.queryLossBefore === true;
    const node = { dense: values, rows: new Float32Array(rowCount * width) };
    const output = encodeSums(
      {
        // Ids do not travel, so one list of them all stands for those by table.
        nodes: [{ ...node, idsByTable: [new Int32Array(rowCount)] }],
        losses: { query: losses(), support: losses(), queryBefore: asksBefore ? losses() : null },
      },
      width,
    );
    if (sleeps === 'sleeps') await systemClock.sleep(computeMs, signal);
    const measured = { queryRowCount: 1, computeMs };
    return { output, ...measured, backend: 'none', fingerprint: 'no-op-01234567' };
  },
  close: () => Promise.resolve(),
};

await Promise.all(
  Array.from({ length: Number(workers) }, (_, place) =>
    runWorker({
      queue: bullmqJobQueue({ redisUrl, prefix: '{qianmo}', clock: systemClock }),
      ...{ name: `${name}-${place}`, nonce: freshNonce() },
      ...{ executor, clock: systemClock, signal: stop.signal },
      onEvent: ({ kind }) => console.log(JSON.stringify({ kind })),
    }),
  ),
);
