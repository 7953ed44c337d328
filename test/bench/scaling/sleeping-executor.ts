/**
 * An executor that sleeps for as long as the micro-batches of a job take, and returns zeros in the layout of its
 * gradient. So one machine shows how an outer step grows with workers that each have a core of their own.
 */

import type { PreparedRun } from '../../../coordinator/plan/prepared-run.js';
import { systemClock } from '../../../shared/base/clock.js';
import { gradientCutOf } from '../../../shared/methods/inner-loop/gradient-cut.js';
import { methodPlanOf } from '../../../shared/methods/methods.js';
import { learnedVariables } from '../../../shared/models/learned-parameters.js';
import { lossTensorsOf } from '../../../shared/queue/blobs/gradient-losses.js';
import type { JobExecutor, JobInput } from '../../../shared/queue/job-executor.js';
import { microBatchesOfWork, type TaskJob } from '../../../shared/queue/protocol.js';
import {
  paddedRowCountOf,
  CALL_OVERHEAD_ROWS,
  type MicroBatch,
} from '../../../shared/tasks/rows/micro-batches.js';
import { elementCountOf } from '../../../shared/tensors/named-tensors.js';
import {
  encodeTensors,
  viewTensors,
  type CodedTensor,
} from '../../../shared/tensors/tensor-codec.js';

/** Of the heavy config on a core of an AMD EPYC, at 0f2dedf8: 6,599 ms for 791,168 padded rows and calls. */
const MS_PER_ROW = 0.00834;
const BACKEND = { backend: 'none', fingerprint: 'sleeping-01234567' };

export function sleepingExecutor(run: PreparedRun): JobExecutor {
  return {
    execute: async (input, signal, onBegin) => {
      const { job } = input;
      if (!('store' in job)) throw new Error('a training has jobs on tasks');
      onBegin?.();
      const startMs = systemClock.monotonicMs();
      const microBatches = computedBy(job, run);
      await systemClock.sleep(MS_PER_ROW * costOf(microBatches), signal);
      const places = microBatches.flatMap(({ taskPlaces }) => taskPlaces);
      return {
        output: zerosFor({ ...input, job }, run, places),
        ...{ weightedQueryLoss: 0, weightedSupportLoss: 0, queryRowCount: 1, ...BACKEND },
        computeMs: systemClock.monotonicMs() - startMs,
        microBatchRowsMax: job.microBatchRowsMax,
      };
    },
    prepare: () => undefined,
    forget: () => undefined,
    close: () => Promise.resolve(),
  };
}

function computedBy(
  { taskIndices, work, microBatchRowsMax }: TaskJob,
  run: PreparedRun,
): MicroBatch[] {
  const sizes = taskIndices.map((taskIndex) => {
    const { supportRowCount = 0, queryRowCount = 0 } = run.store.tasks[taskIndex] ?? {};
    return { supportRowCount, queryRowCount };
  });
  const bounds = { rowsMax: microBatchRowsMax };
  const cut = gradientCutOf(methodPlanOf(work.method), sizes, bounds);
  const range = microBatchesOfWork(work);
  return cut.slice(range?.first, range?.end);
}

function costOf(microBatches: readonly MicroBatch[]): number {
  return microBatches.reduce((sum, each) => sum + paddedRowCountOf(each) + CALL_OVERHEAD_ROWS, 0);
}

function zerosFor(
  { job, rowPack }: JobInput<TaskJob>,
  { spec }: PreparedRun,
  places: readonly number[],
): Uint8Array {
  const range = microBatchesOfWork(job.work);
  const isSum = range !== undefined && range.end - range.first > 1;
  const zeros = (shape: readonly number[]): CodedTensor => {
    const length = elementCountOf(shape);
    return { shape, values: isSum ? new Float64Array(length) : new Float32Array(length) };
  };
  const rows = viewTensors(rowPack ?? new Uint8Array(), 'row pack').get('rows');
  const losses = new Float64Array(job.taskIndices.length);
  const asksBefore = job.work.kind === 'gradient' && job.work.queryLossBefore === true;
  const ofTasks = {
    ...{ queryLosses: losses, supportLosses: losses },
    queryLossesBefore: asksBefore ? losses : null,
  };
  return encodeTensors(
    new Map<string, CodedTensor>([
      ...learnedVariables(spec).map(({ name, shape }): [string, CodedTensor] => [
        name,
        zeros(shape),
      ]),
      ['rows', zeros(rows?.shape ?? [0, spec.tableRowWidth])],
      ...(range === undefined ? [] : lossTensorsOf(ofTasks, places)),
    ]),
  );
}
