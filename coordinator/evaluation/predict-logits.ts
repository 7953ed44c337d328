/**
 * Obtains logits of held-out tasks from the workers: cuts tasks into `predict` jobs, checks what
 * comes back and puts it in place. Results do not depend on the order of arrival.
 */

import type { RunConfig } from '../../shared/config/run-config.js';
import { QianmoError } from '../../shared/base/errors.js';
import type { MetaParameters } from '../../shared/models/initial-values.js';
import type { MethodConfig } from '../../shared/methods/methods.js';
import type { ModelSpec } from '../../shared/models/model-spec.js';
import { PROTOCOL_VERSION, type Adaptation } from '../../shared/queue/protocol.js';
import { rowPackLayoutOf } from '../../shared/tasks/row-pack.js';
import type { RowDivision } from '../../shared/tasks/row-division.js';
import type { TaskRows, TaskStore } from '../../shared/tasks/task-store.js';
import { decodeTensors } from '../../shared/tensors/tensor-codec.js';
import type { DeliveredResult, Dispatcher, JobOrder, Rejection } from '../dispatch/dispatcher.js';
import { jobNeighboursOf, type JobNeighbours } from '../plan/job-neighbours.js';
import { encodeDense, encodeRowPack } from '../plan/row-pack-gather.js';
import { inOwnUnit, labelOfAll, roleBounds, type RowRole } from '../scoring/held-out-rows.js';
import { lossSum } from '../scoring/metrics.js';

export interface PredictionContext {
  readonly config: RunConfig;
  /** Unlike the training run's: its jobs must not be taken for ours. */
  readonly runId: string;
  readonly store: TaskStore;
  /** How `store` divides the rows of each task; absent when as on disk. */
  readonly division?: RowDivision;
  /** As it is on disk, where `store` is divided: what neighbours are read from. */
  readonly undividedStore?: TaskStore;
  readonly storeAddress: string;
  readonly spec: ModelSpec;
  readonly dispatcher: Dispatcher;
  readonly signal: AbortSignal;
  /** Numbers the waves of an evaluation; it stands where a training job has its outer step. */
  readonly nextWave: () => number;
  readonly onTasksDone: (taskCount: number) => void;
  readonly onBackend: (backend: string) => void;
}

export interface AdaptableModel {
  readonly parameters: MetaParameters;
  /** How tasks adapt from them; `global` by plain gradient descent. */
  readonly method: MethodConfig;
}

export interface PredictionRequest extends AdaptableModel {
  readonly taskIndices: readonly number[];
  readonly adaptations: readonly Adaptation[];
  readonly role: RowRole;
  /** Which of `adaptations` have their logits kept; of the others only the losses are. */
  readonly keep: readonly number[];
}

export interface Predictions {
  /** By adaptation: the sum of losses of each task, `[taskCount]`; infinite where it diverged. */
  readonly lossSums: readonly Float64Array[];
  /** By kept adaptation, in the order of `keep`: `[rowCount]`, tasks in order. */
  readonly logits: readonly Float32Array[];
}

/** Orders handed over together; bounds the row packs held in memory. */
const JOBS_PER_WAVE = 64;
/** What the protocol allows in one job. */
const ADAPTATIONS_PER_JOB = 256;

interface PlannedPrediction {
  readonly jobIndex: number;
  readonly tasks: readonly TaskRows[];
  /** Place of the first of `tasks` in the request. */
  readonly firstTask: number;
  readonly firstAdaptation: number;
  readonly adaptations: readonly Adaptation[];
  readonly rowCount: number;
  readonly neighbours: JobNeighbours;
}

export async function predictLogits(
  context: PredictionContext,
  request: PredictionRequest,
): Promise<Predictions> {
  const { taskIndices, adaptations, role, keep } = request;
  const starts = rowStartsOf(context.store, taskIndices, role);
  const predictions = {
    lossSums: adaptations.map(() => new Float64Array(taskIndices.length)),
    logits: keep.map(() => new Float32Array(starts[taskIndices.length] ?? 0)),
  };
  const tasksPerWave = JOBS_PER_WAVE * context.config.training.tasksPerJob;
  const dense = encodeDense(request.parameters);
  for (let first = 0; first < taskIndices.length; first += tasksPerWave) {
    const waveIndices = taskIndices.slice(first, first + tasksPerWave);
    const tasks = await context.store.readTasks(waveIndices);
    for (let cell = 0; cell < adaptations.length; cell += ADAPTATIONS_PER_JOB) {
      const planned = await planWave(context, request, tasks, first, cell);
      await runWave(context, request, dense, planned, (job, logits) =>
        place(job, logits, context.store, starts, request, predictions),
      );
    }
    context.onTasksDone(waveIndices.length);
  }
  return predictions;
}

function rowStartsOf(store: TaskStore, taskIndices: readonly number[], role: RowRole): Int32Array {
  const starts = new Int32Array(taskIndices.length + 1);
  for (const [task, taskIndex] of taskIndices.entries()) {
    const entry = store.tasks[taskIndex];
    const count = role === 'query' ? entry?.queryRowCount : entry?.supportRowCount;
    starts[task + 1] = (starts[task] ?? 0) + (count ?? 0);
  }
  return starts;
}

async function planWave(
  { config, store, undividedStore = store, division }: PredictionContext,
  { adaptations, method, role }: PredictionRequest,
  tasks: readonly TaskRows[],
  firstTask: number,
  firstAdaptation: number,
): Promise<PlannedPrediction[]> {
  const { tasksPerJob } = config.training;
  const jobs: PlannedPrediction[] = [];
  for (let start = 0; start < tasks.length; start += tasksPerJob) {
    const chunk = tasks.slice(start, start + tasksPerJob);
    const rowCount = chunk.reduce((sum, task) => {
      const [first, end] = roleBounds(task, role);
      return sum + end - first;
    }, 0);
    // Without rows there is nothing to ask for, and all such jobs would have one and the same output blob.
    if (rowCount === 0) continue;
    jobs.push({
      jobIndex: start / tasksPerJob,
      tasks: chunk,
      firstTask: firstTask + start,
      firstAdaptation,
      adaptations: adaptations.slice(firstAdaptation, firstAdaptation + ADAPTATIONS_PER_JOB),
      rowCount,
      neighbours: await jobNeighboursOf(undividedStore, method, chunk, division),
    });
  }
  return jobs;
}

async function runWave(
  context: PredictionContext,
  request: PredictionRequest,
  dense: Uint8Array,
  planned: readonly PlannedPrediction[],
  receive: (job: PlannedPrediction, logits: Float32Array) => void,
): Promise<void> {
  if (planned.length === 0) return;
  const wave = context.nextWave();
  const orders = planned.map((job): JobOrder => ({
    job: {
      protocolVersion: PROTOCOL_VERSION,
      runId: context.runId,
      outerStep: wave,
      jobIndex: job.jobIndex,
      store: {
        address: context.storeAddress,
        digest: context.store.digest,
        storage: context.config.storage,
      },
      model: context.config.model,
      taskIndices: job.tasks.map((task) => task.taskIndex),
      ...job.neighbours.named,
      microBatchRowsMax: context.config.training.microBatchRowsMax,
      device: context.config.compute.device,
      work: {
        kind: 'predict',
        method: request.method,
        adaptations: [...job.adaptations],
        rows: request.role,
        ...(context.division === undefined ? {} : { division: context.division }),
      },
      timeoutMs: context.config.queue.jobTimeoutMs,
      blobLifetimeMs: context.config.queue.blobLifetimeMs,
    },
    dense,
    rowPack: encodeRowPack(
      request.parameters.tables,
      rowPackLayoutOf([...job.tasks, ...job.neighbours.rows]),
      context.spec.tableRowWidth,
    ),
    frozen: null,
  }));
  const jobOf = new Map(planned.map((job) => [job.jobIndex, job]));
  const read = (delivered: DeliveredResult): PredictedJob | Rejection => {
    const job = jobOf.get(delivered.result.jobIndex);
    if (job === undefined) return 'not_of_this_step';
    const logits = readLogits(delivered.output, [job.adaptations.length, job.rowCount]);
    if (typeof logits === 'string') return logits;
    return areKeptFinite(logits, job, request) ? { job, logits } : 'not_finite';
  };
  for await (const { result, value } of context.dispatcher.run(orders, read, context.signal)) {
    const { job, logits } = value;
    context.onBackend(result.backend);
    receive(job, outputsInOwnUnit(logits, job, context.store, request.role));
  }
}

/** An admitted result of a wave: a planned job with its logits. */
interface PredictedJob {
  readonly job: PlannedPrediction;
  readonly logits: Float32Array;
}

/** The tensor `logits` of exactly this shape, or why the output cannot be used. */
export function readLogits(
  output: Uint8Array,
  shape: readonly [number, number],
): Float32Array | Rejection {
  let tensors;
  try {
    tensors = decodeTensors(output, 'output of a predict job');
  } catch (error) {
    if (error instanceof QianmoError) return 'layout_mismatch';
    throw error;
  }
  const logits = tensors.get('logits');
  if (logits === undefined || tensors.size !== 1 || logits.shape.join() !== shape.join())
    return 'layout_mismatch';
  if (!(logits.values instanceof Float32Array)) return 'layout_mismatch';
  return logits.values;
}

/** Of values, what is predicted is standardised; `logits` `[adaptationCount, rowCount]`. */
function outputsInOwnUnit(
  logits: Float32Array,
  { tasks, rowCount }: PlannedPrediction,
  store: TaskStore,
  role: RowRole,
): Float32Array {
  if (tasks.every(({ loss }) => loss !== 'squared')) return logits;
  const outputs = Float32Array.from(logits);
  let firstRow = 0;
  for (const task of tasks) {
    const [first, end] = roleBounds(task, role);
    const label = labelOfAll(store, [task.taskIndex]);
    if (label.loss === 'squared')
      for (let start = firstRow; start < outputs.length; start += rowCount)
        for (let row = start; row < start + end - first; row += 1)
          outputs[row] = label.mean + label.deviation * (outputs[row] ?? 0);
    firstRow += end - first;
  }
  return outputs;
}

/** An adaptation that is only tried may diverge: it loses, and the others are still compared. */
function areKeptFinite(
  logits: Float32Array,
  job: PlannedPrediction,
  { keep }: PredictionRequest,
): boolean {
  return [...job.adaptations.keys()].every(
    (index) =>
      !keep.includes(job.firstAdaptation + index) ||
      logits.subarray(index * job.rowCount, (index + 1) * job.rowCount).every(Number.isFinite),
  );
}

function place(
  job: PlannedPrediction,
  logits: Float32Array,
  store: TaskStore,
  starts: Int32Array,
  request: PredictionRequest,
  predictions: Predictions,
): void {
  for (const index of job.adaptations.keys()) {
    const adaptation = job.firstAdaptation + index;
    const ofAdaptation = logits.subarray(index * job.rowCount, (index + 1) * job.rowCount);
    const kept = predictions.logits[request.keep.indexOf(adaptation)];
    kept?.set(ofAdaptation, starts[job.firstTask] ?? 0);
    const losses = predictions.lossSums[adaptation];
    let row = 0;
    for (const [offset, task] of job.tasks.entries()) {
      const [first, end] = roleBounds(task, request.role);
      const label = labelOfAll(store, [task.taskIndex]);
      const loss = lossSum(ofAdaptation.subarray(row, row + end - first), {
        label,
        clicks: inOwnUnit(task, label).clicks.subarray(first, end),
        impressions: task.impressions.subarray(first, end),
      });
      if (losses !== undefined)
        losses[job.firstTask + offset] = Number.isFinite(loss) ? loss : Infinity;
      row += end - first;
    }
  }
}
