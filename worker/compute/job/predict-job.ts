/** A predict job: logits of its tasks' rows after given numbers of inner steps. */

import { at } from '../../../shared/base/arrays.js';
import { predictionLoopOf, type MethodPlan } from '../../../shared/methods/inner-loop/method.js';
import { methodPlanOf } from '../../../shared/methods/methods.js';
import type { PredictWork } from '../../../shared/queue/protocol.js';
import { adaptCells } from '../adaptation/adapt-cells.js';
import type { AdaptedBatch } from '../adaptation/adapted-batch.js';
import {
  adaptingBatchOf,
  adaptingMicroBatches,
  startReadsSupport,
  type AdaptingBatch,
} from '../adaptation/adapting-batch.js';
import type { MicroBatch } from '../batches/micro-batches.js';
import { roleSpanOf } from '../batches/row-batch.js';
import type { LogitsInput } from '../scoring/captured-scoring.js';
import { batchShifts, shiftColumnsOf } from '../scoring/row-shifts.js';
import { adaptingOf, type Computations } from './computations.js';
import type { DeviceJob } from './device-job.js';

interface PredictedLogits {
  /** `[settingCount, rowCount]`: settings and tasks in order of the job, rows in order of the task. */
  readonly values: Float32Array;
  readonly rowCount: number;
}

export function logitsOfJob(
  computations: Computations,
  job: DeviceJob,
  work: PredictWork,
  microBatchRowsMax: number,
): PredictedLogits {
  const plan = methodPlanOf(work.method);
  const adapting = adaptingOf(computations, job, work);
  const microBatches = cutOf(plan, job, work, microBatchRowsMax);
  const rows = new JobRows(job, work);
  const count = microBatches.length;
  for (const [index, microBatch] of microBatches.entries()) {
    computations.onProgress({ phase: 'computing', microBatch: { number: index + 1, count } });
    if (extentOf(microBatch, work) === 0) continue;
    job.engine.tf.tidy(() => {
      const batch = adaptingBatchOf(adapting, microBatch);
      predictBatch(batch, work, (cell, padded) => rows.place(microBatch, cell, padded));
    });
  }
  return rows.logits;
}

function cutOf(
  plan: MethodPlan,
  job: DeviceJob,
  { adaptations, rows }: PredictWork,
  microBatchRowsMax: number,
): MicroBatch[] {
  const isAdapting =
    rows === 'support' ||
    adaptations.some(({ innerSteps }) => innerSteps > 0) ||
    startReadsSupport(predictionLoopOf(plan));
  return adaptingMicroBatches(
    plan,
    job,
    { isAdapting, hasQuery: rows === 'query' },
    microBatchRowsMax,
  );
}

function extentOf({ queryExtent, supportExtent }: MicroBatch, { rows }: PredictWork): number {
  return rows === 'query' ? queryExtent : supportExtent;
}

/** @param emit takes the padded logits `[taskCount, extent]` of a cell of the grid. */
function predictBatch(
  batch: AdaptingBatch,
  work: PredictWork,
  emit: (cell: number, padded: Float32Array) => void,
): void {
  const { job, loop, microBatch, scoring } = batch;
  const scored = scoredRowsOf(batch, work);
  const columns = shiftColumnsOf(loop.shift, job.spec);
  const rows = microBatch.taskPlaces.map((place) => {
    const task = at(job.tasks, place);
    return { task, ...roleSpanOf(task, work.rows) };
  });
  adaptCells(batch, work.adaptations, (cells, { state, shift }: AdaptedBatch) => {
    const shifts =
      shift === null
        ? {}
        : {
            shifts: job.engine.tf.tensor2d(
              batchShifts({ shift, columns }, rows, {
                ...microBatch,
                rowExtent: extentOf(microBatch, work),
              }),
              [microBatch.taskCount, extentOf(microBatch, work)],
            ),
          };
    const logits = scoring.logits.run({ ...scored, state, ...shifts });
    const padded = logits.dataSync<'float32'>();
    logits.dispose();
    for (const cell of cells) emit(cell, padded);
  });
}

/** The rows that get logits; the support rows are those that tasks adapt on. */
function scoredRowsOf(
  { input, scoring, support }: AdaptingBatch,
  { rows: role }: PredictWork,
): Pick<LogitsInput, 'dense' | 'batch' | 'trunk'> {
  const { batches, ...shared } = input;
  const { dense } = shared;
  if (role === 'support' && support !== null)
    return { dense, batch: support.batch, trunk: support.trunk };
  const batch = batches[role];
  if (batch === undefined) throw new Error(`no ${role} rows to predict`);
  return { dense, batch, trunk: scoring.trunk.run({ ...shared, batch }) };
}

/** Puts the logits of micro-batches in the order of the job. */
class JobRows {
  readonly logits: PredictedLogits;
  /** By task: where its first row lies among those of the job. */
  readonly #firstRows: Int32Array;

  constructor({ tasks }: DeviceJob, { adaptations, rows }: PredictWork) {
    this.#firstRows = new Int32Array(tasks.length + 1);
    let rowCount = 0;
    for (const [place, task] of tasks.entries()) {
      const { start, end } = roleSpanOf(task, rows);
      rowCount += end - start;
      this.#firstRows[place + 1] = rowCount;
    }
    this.logits = { values: new Float32Array(adaptations.length * rowCount), rowCount };
  }

  /** @param padded `[taskCount, extent]` */
  place({ taskPlaces, taskCount }: MicroBatch, cell: number, padded: Float32Array): void {
    const { values, rowCount } = this.logits;
    const extent = padded.length / taskCount;
    for (const [index, place] of taskPlaces.entries()) {
      const first = at(this.#firstRows, place);
      const count = at(this.#firstRows, place + 1) - first;
      values.set(padded.subarray(index * extent, index * extent + count), cell * rowCount + first);
    }
  }
}
