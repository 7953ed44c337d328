/**
 * Logits of a job's rows after given numbers of inner steps. Settings of one inner rate share one
 * inner loop, and every rate shares the trunk passes.
 */

import type * as tfjs from '@tensorflow/tfjs';
import type { PredictWork } from '../../shared/protocol.js';
import type { LogitsInput, NamedTensors, PredictionFunctions } from './captured-prediction.js';
import type { Computations } from './computations.js';
import { batchesOf, type DeviceJob } from './job-batches.js';
import { microBatchesOf, type MicroBatch } from './micro-batches.js';
import { roleSpanOf } from './row-batch.js';

export interface JobLogits {
  /** `[settingCount, rowCount]`: settings and tasks in order of the job, rows in order of the task. */
  readonly values: Float32Array;
  readonly rowCount: number;
}

export function predictLogits(
  computations: Computations,
  job: DeviceJob,
  work: PredictWork,
  microBatchRowsMax: number,
): JobLogits {
  const functions = computations.predictionOf(job.spec);
  const isAdapted = work.adaptations.some(({ innerSteps }) => innerSteps > 0);
  const sizes = job.tasks.map((task) => ({
    supportRowCount: isAdapted || work.rows === 'support' ? task.supportRowCount : 0,
    queryRowCount: work.rows === 'query' ? task.rowCount - task.supportRowCount : 0,
  }));
  const spans = job.tasks.map((task) => roleSpanOf(task, work.rows));
  const firstRows = new Int32Array(spans.length + 1);
  for (const [place, { start, end }] of spans.entries())
    firstRows[place + 1] = (firstRows[place] ?? 0) + end - start;
  const rowCount = firstRows[spans.length] ?? 0;
  const values = new Float32Array(work.adaptations.length * rowCount);
  const microBatches = microBatchesOf(sizes, microBatchRowsMax);
  const count = microBatches.length;
  for (const [index, microBatch] of microBatches.entries()) {
    computations.onProgress({ phase: 'computing', microBatch: { number: index + 1, count } });
    const extent = work.rows === 'query' ? microBatch.queryExtent : microBatch.supportExtent;
    if (extent === 0) continue;
    /** `[taskCount, extent]` to the rows of the tasks. */
    const emit = (padded: Float32Array, setting: number): void => {
      for (const [index, place] of microBatch.taskPlaces.entries()) {
        const first = firstRows[place] ?? 0;
        const count = (firstRows[place + 1] ?? 0) - first;
        values.set(
          padded.subarray(index * extent, index * extent + count),
          setting * rowCount + first,
        );
      }
    };
    job.engine.tf.tidy(() => {
      runMicroBatch(functions, job, work, microBatch, emit);
    });
  }
  return { values, rowCount };
}

function runMicroBatch(
  functions: PredictionFunctions,
  job: DeviceJob,
  { adaptations, rows }: PredictWork,
  microBatch: MicroBatch,
  emit: (padded: Float32Array, setting: number) => void,
): void {
  const { tf } = job.engine;
  const { dense, pack } = job;
  const batches = batchesOf(job, microBatch, ['support', 'query'] as const);
  const { trunks, personal: initial } = functions.start.run({ dense, ...pack, batches });
  const batch = batches[rows];
  const trunk = trunks[rows];
  if (batch === undefined || trunk === undefined) throw new Error(`no ${rows} rows to predict`);
  const emitAll = (settings: readonly number[], personal: NamedTensors): void => {
    if (settings.length === 0) return;
    const logits = functions.logits.run({ dense, batch, trunk, personal });
    const values = logits.dataSync<'float32'>();
    logits.dispose();
    for (const setting of settings) emit(values, setting);
  };
  const settingsAt = (steps: number, rate?: number): number[] =>
    [...adaptations.keys()].filter((index) => {
      const setting = adaptations[index];
      return setting?.innerSteps === steps && (rate === undefined || setting.innerRate === rate);
    });
  const support =
    batches.support === undefined || trunks.support === undefined
      ? null
      : { dense, batch: batches.support, trunk: trunks.support };

  emitAll(settingsAt(0), initial);
  for (const rate of new Set(adaptations.map(({ innerRate }) => innerRate))) {
    const ofRate = adaptations.filter(({ innerRate }) => innerRate === rate);
    const stepCount = Math.max(...ofRate.map(({ innerSteps }) => innerSteps));
    const rates = tf.fill<tfjs.Rank.R1>([microBatch.taskCount], rate);
    let personal = initial;
    for (let step = 1; step <= stepCount; step += 1) {
      const moved = stepped(functions, support, personal, rates);
      if (personal !== initial && moved !== personal) tf.dispose(Object.values(personal));
      personal = moved;
      emitAll(settingsAt(step, rate), personal);
    }
    if (personal !== initial) tf.dispose(Object.values(personal));
  }
}

/** Without support rows or personal blocks nothing moves. */
function stepped(
  { step }: PredictionFunctions,
  support: Omit<LogitsInput, 'personal'> | null,
  personal: NamedTensors,
  rates: tfjs.Tensor1D,
): NamedTensors {
  return step === null || support === null ? personal : step.run({ ...support, personal, rates });
}
