/** A predict job: logits of its tasks' rows after given numbers of inner steps. */

import { at } from '../../../shared/base/arrays.js';
import { restsOnSupport } from '../../../shared/methods/inner-loop/inner-loop.js';
import type { MethodPlan } from '../../../shared/methods/inner-loop/method.js';
import { methodPlanOf } from '../../../shared/methods/methods.js';
import type { PredictWork } from '../../../shared/queue/protocol.js';
import { adaptCells, type AdaptedBatch } from '../adaptation/adapt-cells.js';
import {
  adaptingBatchOf,
  adaptingMicroBatches,
  type AdaptingBatch,
} from '../adaptation/adapting-batch.js';
import type { MicroBatch } from '../../../shared/tasks/rows/micro-batches.js';
import { roleSpanOf } from '../batches/row-batch.js';
import type { LogitsInput } from '../scoring/captured-scoring.js';
import { batchShifts, shiftColumnsOf } from '../scoring/row-shifts.js';
import { adaptingOf, type Computations } from './computations.js';
import type { DeviceJob } from './device-job.js';

type Role = PredictWork['rows'];

interface RowLogits {
  /** `[settingCount, rowCount]`: settings and tasks in order of the job, rows in order of the task. */
  readonly values: Float32Array;
  readonly rowCount: number;
}

export function predictionsOfJob(
  computations: Computations,
  job: DeviceJob,
  work: PredictWork,
  microBatchRowsMax: number,
): RowLogits {
  const plan = methodPlanOf(work.method);
  const adapting = adaptingOf(computations, job, work);
  const microBatches = cutOf(plan, job, work, microBatchRowsMax);
  const rows = new JobRows(job, work, work.rows);
  const count = microBatches.length;
  for (const [index, microBatch] of microBatches.entries()) {
    computations.onProgress({ phase: 'computing', microBatch: { number: index + 1, count } });
    if (extentOf(microBatch, work.rows) === 0) continue;
    job.engine.tf.tidy(() => {
      predictBatch(adaptingBatchOf(adapting, microBatch), work, rows);
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
    adaptations.some(({ innerSteps }) => restsOnSupport(plan.innerLoop, innerSteps));
  return adaptingMicroBatches(job, { isAdapting, hasQuery: rows === 'query' }, microBatchRowsMax);
}

function extentOf({ queryExtent, supportExtent }: MicroBatch, role: Role): number {
  return role === 'query' ? queryExtent : supportExtent;
}

function predictBatch(batch: AdaptingBatch, work: PredictWork, rows: JobRows): void {
  const scored = scoredRowsOf(batch, work.rows);
  if (scored === null) return;
  adaptCells(batch, work.adaptations, (cells, adapted) => {
    rows.place(batch.microBatch, cells, paddedLogits(batch, scored, adapted));
  });
}

interface ScoredRows {
  readonly role: Role;
  readonly input: Pick<LogitsInput, 'dense' | 'batch' | 'trunk'>;
}

/** Logits `[taskCount, extent]` under adapted blocks and their shifts. */
function paddedLogits(
  { job, loop, microBatch, scoring }: AdaptingBatch,
  { role, input }: ScoredRows,
  { state, shift }: AdaptedBatch,
): Float32Array {
  const rowExtent = extentOf(microBatch, role);
  const columns = shiftColumnsOf(loop.shift, job.spec);
  const rows = microBatch.taskPlaces.map((place) => {
    const task = at(job.tasks, place);
    return { task, ...roleSpanOf(task, role) };
  });
  const shifts =
    shift === null
      ? {}
      : {
          shifts: job.engine.tf.tensor2d(
            batchShifts({ shift, columns }, rows, { ...microBatch, rowExtent }),
            [microBatch.taskCount, rowExtent],
          ),
        };
  const logits = scoring.logits.run({ ...input, state, ...shifts });
  const padded = logits.dataSync<'float32'>();
  logits.dispose();
  return padded;
}

/** The rows that get logits, null if there are none; the support rows are those that tasks adapt on. */
function scoredRowsOf(
  { input, microBatch, scoring, support }: AdaptingBatch,
  role: Role,
): ScoredRows | null {
  if (extentOf(microBatch, role) === 0) return null;
  const { batches, ...shared } = input;
  const { dense } = shared;
  if (role === 'support' && support !== null)
    return { role, input: { dense, batch: support.batch, trunk: support.trunk } };
  const batch = batches[role];
  if (batch === undefined) throw new Error(`no ${role} rows to predict`);
  return { role, input: { dense, batch, trunk: scoring.trunk.run({ ...shared, batch }) } };
}

/** Puts the logits of micro-batches in the order of the job. */
class JobRows {
  readonly logits: RowLogits;
  /** By task: where its first row lies among those of the job. */
  readonly #firstRows: Int32Array;

  constructor({ tasks }: DeviceJob, { adaptations }: PredictWork, role: Role) {
    this.#firstRows = new Int32Array(tasks.length + 1);
    let rowCount = 0;
    for (const [place, task] of tasks.entries()) {
      const { start, end } = roleSpanOf(task, role);
      rowCount += end - start;
      this.#firstRows[place + 1] = rowCount;
    }
    this.logits = { values: new Float32Array(adaptations.length * rowCount), rowCount };
  }

  /** @param padded `[taskCount, extent]`, the same for all of the cells */
  place(
    { taskPlaces, taskCount }: MicroBatch,
    cells: readonly number[],
    padded: Float32Array,
  ): void {
    const { values, rowCount } = this.logits;
    const extent = padded.length / taskCount;
    for (const [index, place] of taskPlaces.entries()) {
      const first = at(this.#firstRows, place);
      const count = at(this.#firstRows, place + 1) - first;
      const ofTask = padded.subarray(index * extent, index * extent + count);
      for (const cell of cells) values.set(ofTask, cell * rowCount + first);
    }
  }
}
