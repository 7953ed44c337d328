/**
 * Logits of a job's rows after given numbers of inner steps. Settings of one inner rate share one
 * inner loop, and every rate shares the trunk passes.
 */

import type * as tfjs from '@tensorflow/tfjs';
import type { PredictWork } from '../../../shared/queue/protocol.js';
import type { MethodPlan } from '../../../shared/methods/inner-loop/method.js';
import { methodPlanOf } from '../../../shared/methods/methods.js';
import type { LogitsInput, PredictionFunctions } from './captured-prediction.js';
import type { Computations } from './computations.js';
import { batchesOf, rowsBesideOf, type DeviceJob } from './job-batches.js';
import type { LoopState } from '../meta-gradients/inner-loop.js';
import { readsSupportTotals, rolesBesideOf, rowMultiplesOf } from '../meta-gradients/rows-read.js';
import { microBatchesOf, type MicroBatch } from '../batches/micro-batches.js';
import type { BatchTensors } from '../models/batch-tensors.js';
import type { TrunkPass } from '../models/staged-pass.js';
import { phaseSupports, stateAfterPhases, stepped } from './prediction-steps.js';
import { roleSpanOf, type RowRole } from '../batches/row-batch.js';

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
  const functions = computations.predictionOf(job.spec, work.method);
  const isAdapted = work.adaptations.some(({ innerSteps }) => innerSteps > 0);
  const readsSupport = isAdapted || work.rows === 'support' || startReadsSupport(work.method);
  const sizes = job.tasks.map((task) => ({
    supportRowCount: readsSupport ? task.supportRowCount : 0,
    queryRowCount: work.rows === 'query' ? task.rowCount - task.supportRowCount : 0,
  }));
  const spans = job.tasks.map((task) => roleSpanOf(task, work.rows));
  const firstRows = new Int32Array(spans.length + 1);
  for (const [place, { start, end }] of spans.entries())
    firstRows[place + 1] = (firstRows[place] ?? 0) + end - start;
  const rowCount = firstRows[spans.length] ?? 0;
  const values = new Float32Array(work.adaptations.length * rowCount);
  const microBatches = microBatchesOf(
    sizes,
    microBatchRowsMax,
    rowMultiplesOf(methodPlanOf(work.method)),
    rowsBesideOf(job),
  );
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

/** Whether what a task starts with, before any step, depends on its support rows. */
function startReadsSupport(method: PredictWork['method']): boolean {
  return methodPlanOf(method).innerLoop.reads.supportFields === true;
}

function runMicroBatch(
  functions: PredictionFunctions,
  job: DeviceJob,
  work: PredictWork,
  microBatch: MicroBatch,
  emit: (padded: Float32Array, setting: number) => void,
): void {
  const { dense, pack, engine } = job;
  const { tf } = engine;
  const { adaptations, rows } = work;
  const plan = methodPlanOf(work.method);
  const roles = rolesRead(plan);
  const input = {
    ...{ dense, ...pack },
    ...batchesOf(job, microBatch, roles, readsSupportTotals(plan.innerLoop)),
  };
  const { batches } = input;
  const { trunks, state: initial } = functions.start.run(input);
  const batch = batches[rows];
  const trunk = trunks[rows];
  const evidence = evidenceOf(plan, batches.support, trunks.support);
  if (batch === undefined || trunk === undefined) throw new Error(`no ${rows} rows to predict`);
  const emitAll = (settings: readonly number[], state: LoopState, shift: Evidence): void => {
    if (settings.length === 0) return;
    const logits = functions.logits.run({ dense, batch, trunk, state, ...shift });
    const values = logits.dataSync<'float32'>();
    logits.dispose();
    for (const setting of settings) emit(values, setting);
  };
  const settingsAt = (steps: number, rate?: number): number[] =>
    [...adaptations.keys()].filter((index) => {
      const setting = adaptations[index];
      return setting?.innerSteps === steps && (rate === undefined || setting.innerRate === rate);
    });
  const support = trunks.support === undefined ? null : { ...input, trunk: trunks.support };

  emitAll(settingsAt(0), initial, {});
  if (functions.stepAt === null || support === null) {
    for (const [rate, settings] of adaptedByRate(adaptations))
      emitAll(settings, initial, scaledBy(tf, evidence, rate / plan.innerLoop.steps.rate));
    return;
  }
  if (work.division?.by === 'phases') {
    const supports = phaseSupports(functions, job, microBatch, input, work.division);
    for (const [setting, adaptation] of adaptations.entries())
      if (adaptation.innerSteps > 0) {
        const rates = tf.fill<tfjs.Rank.R1>([microBatch.taskCount], adaptation.innerRate);
        const state = stateAfterPhases(functions, supports, initial, rates, adaptation.innerSteps);
        emitAll([setting], state, evidence);
        if (state !== initial) tf.dispose(Object.values(state));
      }
    return;
  }
  for (const rate of new Set(adaptations.map(({ innerRate }) => innerRate))) {
    const ofRate = adaptations.filter(({ innerRate }) => innerRate === rate);
    const stepCount = Math.max(...ofRate.map(({ innerSteps }) => innerSteps));
    const rates = tf.fill<tfjs.Rank.R1>([microBatch.taskCount], rate);
    let state = initial;
    for (let step = 1; step <= stepCount; step += 1) {
      const moved = stepped(functions, step - 1, support, state, rates);
      if (state !== initial && moved !== state) tf.dispose(Object.values(state));
      state = moved;
      emitAll(settingsAt(step, rate), state, evidence);
    }
    if (state !== initial) tf.dispose(Object.values(state));
  }
}

function rolesRead({ innerLoop }: MethodPlan): RowRole[] {
  return ['support', 'query', ...rolesBesideOf(innerLoop)];
}

type Evidence = Pick<LogitsInput, 'support'>;

/** What a level shift reads; nothing where none follows, or no task has support rows. */
function evidenceOf(
  { innerLoop }: MethodPlan,
  batch: BatchTensors | undefined,
  trunk: TrunkPass | undefined,
): Evidence {
  const isRead = innerLoop.shift !== null;
  return isRead && batch !== undefined && trunk !== undefined ? { support: { batch, trunk } } : {};
}

/** Where no block steps along a rate, it says how far the shifts go: a factor of their prior variances. */
function scaledBy(tf: typeof tfjs, { support }: Evidence, priorScale: number): Evidence {
  return support === undefined
    ? {}
    : { support: { ...support, priorScale: tf.scalar(priorScale) } };
}

/** Places of the adaptations that have steps. */
function adaptedByRate(adaptations: PredictWork['adaptations']): Map<number, number[]> {
  const byRate = new Map<number, number[]>();
  for (const [place, { innerRate, innerSteps }] of adaptations.entries())
    if (innerSteps > 0) byRate.set(innerRate, [...(byRate.get(innerRate) ?? []), place]);
  return byRate;
}
