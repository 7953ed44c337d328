/**
 * An executor that sleeps for as long as the leaves of a job take, and returns zeros in the layout of its
 * sum. So one machine shows how an outer step grows with workers that each have a core of their own.
 */

import type { PreparedRun } from '../../../coordinator/plan/prepared-run.js';
import { systemClock } from '../../../shared/base/clock.js';
import type { JobExecutor, JobInput } from '../../../shared/queue/job-executor.js';
import type { GradientWork } from '../../../shared/queue/protocol.js';
import { encodeSums } from '../../../shared/sums/delivered-sums.js';
import { denseCountOf } from '../../../shared/sums/gradient-node.js';
import { CALL_OVERHEAD_ROWS, paddedRowCountOf } from '../../../shared/tasks/rows/micro-batches.js';
import { viewTensors } from '../../../shared/tensors/tensor-codec.js';

/** Of the heavy config on a core of an AMD EPYC, at 0f2dedf8: 6,599 ms for 791,168 padded rows and calls. */
const MS_PER_ROW = 0.00834;
const BACKEND = { backend: 'none', fingerprint: 'sleeping-01234567' };

/** @param run all of whose tables learn */
export function sleepingExecutor({ spec }: PreparedRun): JobExecutor {
  return {
    execute: async (input, signal, onBegin) => {
      const { job } = input;
      if (job.work.kind !== 'gradient') throw new Error('a training has gradient jobs on tasks');
      onBegin?.();
      const startMs = systemClock.monotonicMs();
      await systemClock.sleep(MS_PER_ROW * costOf(job.work.leaves), signal);
      return {
        output: zerosFor({ ...input, job }, job.work, spec),
        ...{ queryRowCount: 1, ...BACKEND },
        computeMs: systemClock.monotonicMs() - startMs,
      };
    },
    prepare: () => undefined,
    forget: () => undefined,
    close: () => Promise.resolve(),
  };
}

function costOf({ shapes }: GradientWork['leaves']): number {
  return shapes.reduce((sum, [, taskCount, supportExtent, queryExtent, flatExtent]) => {
    const leaf = { taskPlaces: [], taskCount, supportExtent, queryExtent, flatExtent };
    return sum + paddedRowCountOf(leaf) + CALL_OVERHEAD_ROWS;
  }, 0);
}

/** A delivery is one node of the sum tree, which has the rows of its row pack. */
function zerosFor(
  { job, rowPack }: JobInput,
  { queryLossBefore }: GradientWork,
  spec: PreparedRun['spec'],
): Uint8Array {
  const { shape } = viewTensors(rowPack ?? new Uint8Array(), 'row pack').get('rows') ?? {};
  const [rowCount = 0] = shape ?? [];
  const losses = new Float32Array(job.taskIndices.length);
  const node = {
    dense: new Float32Array(denseCountOf(spec)),
    idsByTable: [new Int32Array(rowCount)],
    rows: new Float32Array(rowCount * spec.tableRowWidth),
  };
  const queryBefore = queryLossBefore === true ? losses : null;
  return encodeSums(
    { nodes: [node], losses: { query: losses, support: losses, queryBefore } },
    spec.tableRowWidth,
  );
}
