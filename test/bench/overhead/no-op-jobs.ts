/** Jobs of any size, and an executor that sleeps for the time of a job and copies nothing but its output. */

import type { JobOrder } from '../../../coordinator/dispatch/dispatcher.js';
import type { Clock } from '../../../shared/base/clock.js';
import { randomStream } from '../../../shared/base/random.js';
import type { JobExecutor } from '../../../shared/queue/job-executor.js';
import { StorageConfigSchema } from '../../../shared/storage/open-object-store.js';
import type { CheckoutCode } from './checkout-code.js';
import type { Load } from './overhead-cases.js';

const DENSE_BYTE_COUNT = 64;
const TASKS_PER_JOB = 16;
const STORE_DIGEST = '0'.repeat(64);

/** Bytes that no other job has: equal ones would travel once. */
function distinctBytes(template: Uint8Array, ...marks: readonly number[]): Uint8Array {
  const bytes = Buffer.from(template);
  for (const [place, mark] of marks.entries()) bytes.writeUInt32LE(mark, 4 * place);
  return bytes;
}

export function noOpOrders(
  load: Load,
  outerStep: number,
  { PROTOCOL_VERSION }: Pick<CheckoutCode, 'PROTOCOL_VERSION'>,
): JobOrder[] {
  const rows = new Uint8Array(load.byteCount).fill(7);
  const dense = distinctBytes(new Uint8Array(DENSE_BYTE_COUNT), outerStep);
  const taskIndices = Array.from({ length: TASKS_PER_JOB }, (_, task) => 1_000 * task);
  const taskWeights = taskIndices.map(() => 1 / (TASKS_PER_JOB * load.jobsPerStep));
  return Array.from({ length: load.jobsPerStep }, (_, jobIndex): JobOrder => ({
    job: {
      ...{ protocolVersion: PROTOCOL_VERSION, runId: 'overhead', outerStep, jobIndex },
      store: {
        ...{ address: 'file:///nowhere', digest: STORE_DIGEST },
        storage: StorageConfigSchema.parse({}),
      },
      model: {
        ...{ kind: 'logistic', embeddingWidth: 1, hiddenWidths: [], adgroupEmbedding: false },
        ...{ personal: ['bias'], embeddingDeviation: 0.05 },
      },
      ...{ taskIndices, microBatchRowsMax: 1024, device: 'auto', portable: false },
      work: {
        ...{ kind: 'gradient', method: { kind: 'global' }, taskWeights },
        leaves: {
          ...{ first: jobIndex, stepLeafCount: load.jobsPerStep },
          shapes: [[TASKS_PER_JOB, TASKS_PER_JOB, 0, 8, 0]],
        },
      },
      ...{ timeoutMs: 60_000, blobLifetimeMs: 600_000 },
    },
    dense,
    rowPack: distinctBytes(rows, outerStep, jobIndex),
    frozen: null,
  }));
}

/** Sleeps for the time of a job, which is drawn by its place in the run. */
export function noOpExecutor(load: Load, clock: Clock): JobExecutor {
  const template = new Uint8Array(load.byteCount).fill(9);
  return {
    execute: async ({ job }, signal) => {
      const startMs = clock.monotonicMs();
      const draw = randomStream(job.outerStep, 'no-op', String(job.jobIndex)).uniform();
      const sleepMs = load.jobMs * (1 + load.jobSpread * (2 * draw - 1));
      if (sleepMs > 0) await clock.sleep(sleepMs, signal);
      return {
        output: distinctBytes(template, job.outerStep, job.jobIndex),
        ...{ weightedQueryLoss: 0.5, weightedSupportLoss: 0.6, queryRowCount: 1 },
        computeMs: clock.monotonicMs() - startMs,
        ...{ backend: 'none', fingerprint: 'no-op-01234567', microBatchRowsMax: 1024 },
      };
    },
    close: () => Promise.resolve(),
  };
}
