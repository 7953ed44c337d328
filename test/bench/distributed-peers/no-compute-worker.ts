/**
 * A worker whose results have the size of real ones and cost no computation: zeros in the shape of each job's input,
 * after one number that sets each result apart. Equal results would be one blob, which the first of them that is
 * read deletes, so that the job of the other one is sent again.
 *
 *   node no-compute-worker.js redis://127.0.0.1:6379 NAME
 */

import { systemClock } from '../../../shared/base/clock.js';
import { freshNonce } from '../../../shared/base/nonce.js';
import { bullmqJobQueue } from '../../../shared/queue/bullmq-job-queue.js';
import type { JobExecutor } from '../../../shared/queue/job-executor.js';
import { encodeTensors, viewTensors } from '../../../shared/tensors/tensor-codec.js';
import { runWorker } from '../../../worker/carrying/work-loop.js';

const [redisUrl = '', name = ''] = process.argv.slice(2);
/** Whole numbers up to 2^24 times this differ as 32-bit floats. */
const SMALL = 2 ** -40;
const JOBS_OF_STEP_MAX = 64;
const stop = new AbortController();
process.once('SIGTERM', () => stop.abort());

const executor: JobExecutor = {
  execute: ({ job, dense, rowPack }, _signal, onBegin) => {
    onBegin?.();
    const inputs = [dense, ...(rowPack === null ? [] : [rowPack])];
    const zeros = inputs
      .flatMap((bytes) => [...viewTensors(bytes, 'the input')])
      .map(([tensor, { shape, values }]) => {
        return [tensor, { shape, values: new Float32Array(values.length) }] as const;
      });
    const [, first] = zeros[0] ?? [];
    first?.values.fill((job.outerStep * JOBS_OF_STEP_MAX + job.jobIndex + 1) * SMALL, 0, 1);
    return Promise.resolve({
      output: encodeTensors(new Map(zeros)),
      ...{ weightedQueryLoss: 0.5, weightedSupportLoss: 0.5, queryRowCount: 1, computeMs: 0 },
      ...{ backend: 'none', fingerprint: 'no-op-01234567' },
      microBatchRowsMax: 'microBatchRowsMax' in job ? job.microBatchRowsMax : 1,
    });
  },
  close: () => Promise.resolve(),
};

await runWorker({
  queue: bullmqJobQueue({ redisUrl, prefix: '{qianmo}', clock: systemClock }),
  ...{ name, nonce: freshNonce(), executor, clock: systemClock, signal: stop.signal },
  onEvent: ({ kind }) => console.log(JSON.stringify({ kind })),
});
