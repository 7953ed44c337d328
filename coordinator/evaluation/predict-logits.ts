/**
 * Obtains logits of tasks from the workers: cuts tasks into `predict` jobs, checks the results and puts
 * them in place. Results do not depend on the order of arrival.
 */

import { at } from '../../shared/base/arrays.js';
import type { Adaptation } from '../../shared/queue/protocol.js';
import type { TaskStore } from '../../shared/tasks/task-store.js';
import { decodeTensors } from '../../shared/tensors/tensor-codec.js';
import type { Rejection } from '../dispatch/dispatcher.js';
import { inOwnUnit, labelOfAll, roleBounds, type HeldOutRole } from '../scoring/held-out-rows.js';
import { lossSum } from '../scoring/metrics.js';
import {
  decodedOr,
  taskWaves,
  waveValues,
  withEncodedParameters,
  type AdaptableModel,
  type JobWave,
  type TaskChunk,
  type TaskJobContext,
} from './task-jobs.js';

interface PredictionRequest extends AdaptableModel {
  readonly taskIndices: readonly number[];
  readonly adaptations: readonly Adaptation[];
  readonly role: HeldOutRole;
  /** Adaptations whose logits are kept; of the others only the losses are. */
  readonly keep: readonly number[];
}

interface Predictions {
  /** By adaptation: the sum of losses of each task, `[taskCount]`; infinite where it diverged. */
  readonly lossSums: readonly Float64Array[];
  /** By kept adaptation, in the order of `keep`: `[rowCount]`, tasks in order. */
  readonly logits: readonly Float32Array[];
}

/** The protocol's bound on the adaptations of one job. */
const ADAPTATIONS_PER_JOB = 256;

/** Cells of the request's grid that one job predicts. */
interface Cells {
  readonly first: number;
  readonly adaptations: readonly Adaptation[];
}

/** A chunk with the number of its rows of the predicted role. */
type PredictedChunk = TaskChunk & { readonly rowCount: number };

export async function predictLogits(
  context: TaskJobContext,
  request: PredictionRequest,
): Promise<Predictions> {
  const { taskIndices, adaptations, role, keep } = request;
  const starts = rowStartsOf(context.store, taskIndices, role);
  const predictions = {
    lossSums: adaptations.map(() => new Float64Array(taskIndices.length)),
    logits: keep.map(() => new Float32Array(at(starts, taskIndices.length))),
  };
  const model = withEncodedParameters(context, request);
  const { store } = context;
  const waves = predictWaves(context, request);
  for await (const { wave, values } of waveValues(context, model, waves)) {
    const { chunks, cells, taskCountDone } = wave;
    for (const [index, value] of values.entries())
      place(value, { chunk: at(chunks, index), cells, starts, request, predictions, store });
    if (taskCountDone > 0) context.onTasksDone(taskCountDone);
  }
  return predictions;
}

interface PredictWave extends JobWave<PredictedChunk, Float32Array> {
  readonly cells: Cells;
  /** The tasks whose last cells are in this wave. */
  readonly taskCountDone: number;
}

async function* predictWaves(
  context: TaskJobContext,
  request: PredictionRequest,
): AsyncGenerator<PredictWave> {
  const { taskIndices, adaptations, role, method } = request;
  for await (const wave of taskWaves(context, taskIndices)) {
    const chunks = wave
      .map((chunk) => ({ ...chunk, rowCount: rowCountOf(chunk, role) }))
      // Jobs without rows have nothing to answer, and would share one output blob.
      .filter(({ rowCount }) => rowCount > 0);
    const taskCount = wave.reduce((count, { tasks }) => count + tasks.length, 0);
    for (let first = 0; first < adaptations.length; first += ADAPTATIONS_PER_JOB) {
      const end = first + ADAPTATIONS_PER_JOB;
      const cells = { first, adaptations: adaptations.slice(first, end) };
      yield {
        ...{ chunks, cells, taskCountDone: end >= adaptations.length ? taskCount : 0 },
        workOf: (division) => ({
          ...{ kind: 'predict', method, rows: role, ...division },
          adaptations: [...cells.adaptations],
        }),
        read: (output, chunk) => readKept(output, cells, chunk, request),
      };
    }
  }
}

function rowStartsOf(
  store: TaskStore,
  taskIndices: readonly number[],
  role: HeldOutRole,
): Int32Array {
  const starts = new Int32Array(taskIndices.length + 1);
  for (const [task, taskIndex] of taskIndices.entries()) {
    const { queryRowCount, supportRowCount } = at(store.tasks, taskIndex);
    starts[task + 1] = at(starts, task) + (role === 'query' ? queryRowCount : supportRowCount);
  }
  return starts;
}

function rowCountOf({ tasks }: TaskChunk, role: HeldOutRole): number {
  return tasks.reduce((sum, task) => {
    const [first, end] = roleBounds(task, role);
    return sum + end - first;
  }, 0);
}

/** The logits of a job, `[cellCount, rowCount]`, whose kept cells are finite, or why they cannot be used. */
function readKept(
  output: Uint8Array,
  cells: Cells,
  { rowCount }: PredictedChunk,
  { keep }: PredictionRequest,
): Float32Array | Rejection {
  const tensors = decodedOr(() => decodeTensors(output, 'output of a predict job'));
  if (tensors === 'layout_mismatch') return tensors;
  const cellCount = cells.adaptations.length;
  const { values: logits, shape = [] } = tensors.get('logits') ?? {};
  const isWhole = tensors.size === 1 && shape.join() === [cellCount, rowCount].join();
  if (!(logits instanceof Float32Array) || !isWhole) return 'layout_mismatch';
  // An adaptation that is only tried may diverge: it loses, and the others are still compared.
  const areKeptFinite = [...cells.adaptations.keys()].every(
    (index) =>
      !keep.includes(cells.first + index) ||
      logits.subarray(index * rowCount, (index + 1) * rowCount).every(Number.isFinite),
  );
  return areKeptFinite ? logits : 'not_finite';
}

/** Predicted values are standardised; puts them in the unit of their label. `[cellCount, rowCount]` */
function outputsInOwnUnit(
  logits: Float32Array,
  chunk: TaskChunk,
  store: TaskStore,
  role: HeldOutRole,
): Float32Array {
  const { tasks } = chunk;
  if (tasks.every(({ loss }) => loss !== 'squared')) return logits;
  const rowCount = rowCountOf(chunk, role);
  const outputs = Float32Array.from(logits);
  let firstRow = 0;
  for (const task of tasks) {
    const [first, end] = roleBounds(task, role);
    const label = labelOfAll(store, [task.taskIndex]);
    if (label.loss === 'squared')
      for (let start = firstRow; start < outputs.length; start += rowCount)
        for (let row = start; row < start + end - first; row += 1)
          outputs[row] = label.mean + label.deviation * at(outputs, row);
    firstRow += end - first;
  }
  return outputs;
}

/** Where the results of a job go. */
interface Placing {
  readonly chunk: PredictedChunk;
  readonly cells: Cells;
  /** First row of each task of the request. */
  readonly starts: Int32Array;
  readonly store: TaskStore;
  readonly request: PredictionRequest;
  readonly predictions: Predictions;
}

function place(
  outputs: Float32Array,
  { chunk, cells, starts, store, request, predictions }: Placing,
): void {
  const logits = outputsInOwnUnit(outputs, chunk, store, request.role);
  for (const index of cells.adaptations.keys()) {
    const adaptation = cells.first + index;
    const ofCell = logits.subarray(index * chunk.rowCount, (index + 1) * chunk.rowCount);
    const kept = predictions.logits[request.keep.indexOf(adaptation)];
    kept?.set(ofCell, at(starts, chunk.firstTask));
    at(predictions.lossSums, adaptation).set(
      lossSumsOf(ofCell, chunk, store, request.role),
      chunk.firstTask,
    );
  }
}

/** The loss of each task of a chunk, infinite where it diverged. @param outputs of the rows of the role */
function lossSumsOf(
  outputs: Float32Array,
  { tasks }: TaskChunk,
  store: TaskStore,
  role: HeldOutRole,
): Float64Array {
  let row = 0;
  return Float64Array.from(tasks, (task) => {
    const [first, end] = roleBounds(task, role);
    const label = labelOfAll(store, [task.taskIndex]);
    const loss = lossSum(outputs.subarray(row, row + end - first), {
      label,
      clicks: inOwnUnit(task, label).clicks.subarray(first, end),
      impressions: task.impressions.subarray(first, end),
    });
    row += end - first;
    return Number.isFinite(loss) ? loss : Infinity;
  });
}
